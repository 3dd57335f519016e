"""Pictures of small networks: what is in them by hand, stages that are read again, mistakes in one line."""

import copy
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax.experiments import picturing, visualize
from mgan_jax.experiments.attacking import Attacked
from mgan_jax.experiments.options import Options
from mgan_jax.report import learned
from mgan_jax.report.visualize import change_table, network_table, sentences
from mgan_jax.types import Split

CONFIG = {
    "experiment": "visualize", "seed": 0, "epsilon": 0.3,
    "dataset": {"name": "digits", "num_validation": 350},
    "target": {
        "name": "mlp", "epochs": 4, "learning_rate": 5e-3, "batch_size": 50, "chunk_size": 20, "weight_decay": 0.0,
        "max_shift": 0,
    },
    "networks": {"linear": {"name": "linear"}, "small": {"model": {"widths": (16,)}}},
    "attacks": {"fgsm": {"arguments": {"epsilon": 0.3}}},
    "testing": {"num_images": 20, "operators": (), "method": "auto"},
    "shown": {"activations": 2, "saliency": 3},
    "smooth_grad": {"num_samples": 2, "noise_level": 0.1},
    "fooling": {"step_size": 0.05, "num_steps": 20, "confidence": 0.9},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("visualize")
    return path, visualize.run(ConfigDict(CONFIG), Options(path))[0]


def test_every_rate_has_its_interval_and_its_size(made, unsized):
    assert not unsized(made[1])


def test_every_network_has_its_pictures(made):
    path, results = made
    page = (path / "report.html").read_text()
    # Weights, two activations, saliency and images of nothing of both; and what layers move.
    assert page.count("<img") == 2 * 5 + 1
    assert json.loads((path / "results.json").read_text())["rows"][0]["network"] == "linear"
    for title, heads, lines in (network_table(results), change_table(results)):
        assert title and lines and all(len(line) == len(heads) for line in lines)
    assert len(sentences(results)) == 2


def test_changes_are_of_every_layer_and_of_the_image_first(made):
    rows = {row["network"]: row["changes"] for row in made[1]["rows"]}
    assert [one["layer"] for one in rows["linear"]] == ["image", "output"]
    assert [one["layer"] for one in rows["small"]] == ["image", "dense1", "output"]
    for one in rows["small"]:
        assert one["attack_change"] > 0 and one["noise_change"] > 0 and one["num_images"] == 20


def test_images_of_nothing_are_as_sure_as_their_numbers_say(made):
    for row in made[1]["rows"]:
        for of in row["fooling"].values():
            assert len(of["confidences"]) == 10 and np.mean(of["confidences"]) > np.mean(of["before"])
            assert all(sure >= 0.9 or used == 20 for sure, used in zip(of["confidences"], of["used"], strict=True))


def test_the_same_again_reads_what_is_there(made, monkeypatch):
    path, results = made
    for name in ("layer_changes", "build", "starts"):
        monkeypatch.setattr(picturing, name, None)
    again = visualize.run(ConfigDict(CONFIG), Options(path))[0]
    assert {**again, "seconds": 0} == {**results, "seconds": 0}


def test_two_seeds_are_joined_on_a_page_beside_theirs(tmp_path, capsys):
    config = ConfigDict({**copy.deepcopy(CONFIG), "networks": {"linear": {"name": "linear"}}})
    done = visualize.run(config, Options(tmp_path, seeds=(0, 1)))
    assert capsys.readouterr().out.splitlines()[-1] == f"report: {tmp_path / 'report.html'}"
    joined = json.loads((tmp_path / "results.json").read_text())
    assert joined["seeds"] == [0, 1] and [one["seed"] for one in done] == [0, 1]
    (row,), rows = joined["rows"], [one["rows"][0] for one in done]
    pairs = [(row, rows), *((of, [one["changes"][i] for one in rows]) for i, of in enumerate(row["changes"]))]
    for mean, each in pairs:
        for name in {"test_accuracy", "success_rate", "attack_change", "noise_change", "num_images"} & set(mean):
            values = [one[name] for one in each]
            assert mean[name] == pytest.approx(np.mean(values)) and mean[f"{name}_std"] == pytest.approx(np.std(values, ddof=1))
    assert rows[0]["test_accuracy"] != rows[1]["test_accuracy"]
    for start, sure in row["sure"].items():
        assert sure == np.mean([sum(np.array(one["fooling"][start]["confidences"]) >= 0.9) for one in rows])
    assert row["fooling"] == rows[0]["fooling"], "what belongs to the pictures is the first seed's"
    page = (tmp_path / "report.html").read_text()
    assert f"linear {100 * row['test_accuracy']:.2f}±{100 * row['test_accuracy_std']:.2f} % correct of n = 447" in page
    assert "seeds 0, 1: mean ± sample standard deviation; pictures, and curves over single images, are of seed 0" in page
    for seed in (0, 1):
        own = (tmp_path / f"seed_{seed}" / "report.html").read_text()
        assert f"seed {seed} ·" in own and "±" not in own
        assert own.count("<img") == page.count("<img")


def test_shown_are_images_of_different_classes_first_of_all_where_the_attack_succeeds():
    labels = np.array([0, 0, 1, 1, 2])
    success = np.array([0, 1, 0, 0, 1], bool)
    test = Split(np.zeros((5, 2, 2, 1), np.float32), labels)
    subject = picturing.Subject(None, None, {}, "fgsm", test, Attacked(test.images, success, success, np.ones(5), {}))
    assert picturing.chosen(subject, 2).tolist() == [1, 4]
    assert picturing.chosen(subject, 3).tolist() == [1, 2, 4]
    assert picturing.chosen(subject, 4).tolist() == [1, 0, 2, 4], "a second one only when every class has its first"


def test_a_mosaic_has_a_tile_a_channel():
    values = np.stack([np.full((28, 28), c) for c in range(5)], -1).astype(float)
    tiles = learned.mosaic(values)
    assert tiles.shape == (2 * 29 - 1, 3 * 29 - 1)
    assert [tiles[5, 5], tiles[5, 35], tiles[5, 65], tiles[40, 5], tiles[40, 35]] == [0, 1, 2, 3, 4]
    assert np.isnan(tiles[28]).all() and np.isnan(tiles[40, 70])
    assert learned.mosaic(values[:4, :4]).shape == tiles.shape, "small tiles are enlarged"
    neurons = learned.mosaic(np.arange(5.0))
    assert neurons.shape == (2, 3) and neurons[1, 1] == 4 and np.isnan(neurons[1, 2])


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_can_be_drawn_of_grey_and_of_colour(channels):
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.random(shape)  # noqa: E731
    images = {kind: draw(4, 8, 8, channels) for kind in ("clean", "adversarial")}
    answers = {kind: rng.dirichlet(np.ones(3), 4) for kind in images}
    layers = {"rows": np.array([0, 2]), **{f"{kind} conv1": draw(2, 8, 8, 6) for kind in images},
              **{f"{kind} output": draw(2, 3) for kind in images}}  # fmt: skip
    maps = {"rows": np.array([1]), **{f"{kind} {m}": draw(1, 8, 8, channels) - 0.5 for kind in images for m in learned.METHODS}}
    one = learned.Pictured(
        "net", draw(70, 5, 5, channels) - 0.5, images, answers, layers, maps, {"noise": draw(3, 8, 8, channels)}
    )
    names = ("a", "b", "c")
    for figure in (
        learned.weights_figure(one.weights),
        learned.weights_figure(one.weights[:3], names),
        learned.activations_figure(one, 1, names),
        learned.saliency_figure(one, names),
        learned.fooling_figure(one.fooling, {"noise": [0.1, 0.9, 1.0]}, names),
    ):
        figure.canvas.draw()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"attacks": {}}, "names 0 attacks"),
        ({"attacks.bim": {"arguments": {}}}, r"names 2 attacks \(bim, fgsm\)"),
        ({"attacks.fgsm.arguments.epsilon": -1.0}, "epsilon is -1.0"),
        ({"shown.saliency": 21}, "config.shown.saliency is 21; choose it from 1 to 20"),
        ({"shown.activations": 0}, "config.shown.activations is 0"),
        ({"smooth_grad.num_samples": 0}, "num_samples is 0"),
        ({"smooth_grad.samples": 3}, "samples"),
        ({"fooling.confidence": 1.5}, "confidence is 1.5"),
        ({"fooling.method": "pgd"}, "does not take method"),
        ({"networks.small.nmae": "mlp"}, "has 'nmae'"),
        ({"testing.num_images": 500}, "choose fewer"),
    ],
)
def test_mistakes_are_found_before_a_folder_is_touched(tmp_path, change, said):
    config = copy.deepcopy(CONFIG)
    for name, value in change.items():
        *parents, last = name.split(".")
        section = config
        for parent in parents:
            section = section[parent]
        section[last] = value
    with pytest.raises(ValueError, match=said) as raised:
        visualize.run(ConfigDict(config), Options(tmp_path / "run"))
    assert not (tmp_path / "run").exists() and "\n" not in str(raised.value)
