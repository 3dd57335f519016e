"""Transfer end to end on small networks: every cell by hand, stages that are read again, mistakes in one line."""

import copy
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax.datasets.digits import digits
from mgan_jax.experiments import learners, networks, transfer
from mgan_jax.experiments.attacking import Attacked
from mgan_jax.experiments.destruction import transformed
from mgan_jax.experiments.options import Options
from mgan_jax.report.transfer import write_transfer
from mgan_jax.report.transfer_tables import destruction_summary, matrix_table, sentences
from mgan_jax.types import Split

CONFIG = {
    "experiment": "transfer", "seed": 0, "epsilon": 0.3,
    "dataset": {"name": "digits", "num_validation": 350},
    "target": {
        "name": "mlp", "epochs": 2, "learning_rate": 5e-3, "batch_size": 50, "chunk_size": 20, "weight_decay": 0.0,
        "max_shift": 0,
    },
    "networks": {"linear": {"name": "linear"}, "small": {"model": {"widths": (16,)}},
                 "small_2": {"model": {"widths": (16,)}, "seed_offset": 1}},
    "learners": {"nearest_neighbours": {"n_neighbors": 1}, "random_forest": {"n_estimators": 5}},
    "num_train": 200,
    "attacks": {"fgsm": {"arguments": {"epsilon": 0.3}}},
    "transformations": {"gaussian_noise": (0.1, 0.5), "rounding": (8,)},
    "testing": {"num_images": 40, "operators": (), "method": "auto"},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("transfer")
    return path, transfer.run(ConfigDict(CONFIG), Options(path))[0]


def test_every_rate_has_its_interval_and_its_size(made, unsized):
    assert not unsized(made[1])


def test_every_pair_has_its_cell_and_the_diagonal_is_one(made):
    _, results = made
    names = ["linear", "small", "small_2", "nearest_neighbours", "random_forest"]
    assert [one["name"] for one in results["destinations"]] == names
    assert [(row["source"], row["destination"]) for row in results["rows"]] == [(s, d) for s in names[:3] for d in names]
    for row in results["rows"]:
        assert row["num_transferable"] <= row["num_both_correct"] <= row["num_images"] == 40
        if row["source"] == row["destination"]:
            assert row["transfer_rate"] == 1 and row["num_transferable"] > 0
        elif row["transfer_rate"] is not None:
            low, high = row["transfer_rate_ci95"]
            assert 0 <= low <= row["transfer_rate"] <= high <= 1


def test_two_seeds_are_two_networks_and_see_one_another(made):
    _, results = made
    accuracies = {one["name"]: one["accuracy"] for one in results["destinations"]}
    pairs = {(row["source"], row["destination"]) for row in results["destruction_rows"]}
    assert pairs == {("linear", "linear"), *((a, b) for a in ("small", "small_2") for b in ("small", "small_2"))}
    cell = next(row for row in results["rows"] if (row["source"], row["destination"]) == ("small", "small_2"))
    assert cell["transfer_rate"] < 1 or accuracies["small"] != accuracies["small_2"]


def test_a_page_results_and_tables_come_of_it(made):
    path, results = made
    assert json.loads((path / "results.json").read_text())["rows"] == json.loads(json.dumps(results["rows"]))
    page = (path / "report.html").read_text()
    assert "Who fools whom" in page and "After further perturbation" in page and page.count("<img") == 2
    for title, heads, lines in (matrix_table(results, "fgsm"), destruction_summary(results)):
        assert title and lines and all(len(line) == len(heads) for line in lines)
    assert len(sentences(results)) == 2


def test_several_seeds_are_means_with_deviations(made, several_seeds):
    page = several_seeds(write_transfer, made[1])
    assert "Every cell with its deviation" in page and "Every rate with its deviation" in page
    assert "<!-- 100.5±0.7 -->" in page, "the diagonal, 1 and 1.01"


def test_the_same_again_reads_what_is_there(made, monkeypatch):
    path, results = made
    monkeypatch.setattr(transfer, "fitted", None)
    monkeypatch.setattr("mgan_jax.experiments.destruction.transformed", None)
    monkeypatch.setattr("mgan_jax.experiments.attacking.run_attack", None)
    again = transfer.run(ConfigDict(CONFIG), Options(path))[0]
    assert {**again, "seconds": 0} == {**results, "seconds": 0}
    changed = ConfigDict(CONFIG)
    changed.num_train = 300
    with pytest.raises(ValueError, match=r"config.num_train: 200 there, 300 here"):
        transfer.run(changed, Options(path))


def test_cells_by_hand():
    labels = np.array([0, 1, 2, 3, 4])
    test = Split(np.zeros((5, 2, 2, 1), np.float32), labels)
    success = np.array([1, 1, 0, 1, 0], bool)
    one = {("fgsm", "a"): Attacked(test.images, success, success, np.ones(5), {})}
    decisions = {
        "a": {"clean": np.array([0, 1, 2, 3, 9]), "fgsm a": np.array([5, 5, 2, 5, 5])},
        "b": {"clean": np.array([0, 1, 2, 9, 4]), "fgsm a": np.array([7, 1, 7, 7, 7])},
        "c": {"clean": np.array([0, 1, 2, 3, 4]), "fgsm a": np.array([5, -1, 2, -1, -1])},
    }
    cells, own = transfer.matrix_rows(test, one, decisions, {})
    assert (cells[0]["transfer_rate"], cells[0]["num_transferable"]) == (1.0, 3)
    assert (cells[1]["transfer_rate"], cells[1]["num_transferable"]) == (0.5, 2), "images 0 and 1; 0 fools b"
    assert (cells[1]["fooled_rate"], cells[1]["num_both_correct"]) == (2 / 3, 3), "image 2 fools b and not a"
    assert (cells[2]["transfer_rate"], cells[2]["num_transferable"]) == (1 / 3, 3), "an answer that is no class fools nobody"
    assert (cells[2]["fooled_rate"], cells[2]["num_both_correct"]) == (1 / 4, 4)
    assert (own[0]["success_rate"], own[0]["num_clean_correct"]) == (0.75, 4)
    assert (own[0]["every_network_rate"], own[0]["num_every_network"]) == (1.0, 3)
    assert (own[0]["every_destination_rate"], own[0]["num_every_destination"]) == (0.5, 2)


def test_the_same_noise_whatever_the_image():
    rng = np.random.default_rng(0)
    first, second = (rng.uniform(0.4, 0.6, (7, 3, 3, 1)).astype(np.float32) for _ in range(2))
    noises = [transformed("gaussian_noise", 0.01, 4, images) - images for images in (first, second)]
    np.testing.assert_allclose(*noises, atol=1e-6)
    assert len(np.unique(noises[0])) > 7


def test_siblings_differ_in_their_seed_alone():
    config = ConfigDict(CONFIG)
    assert networks.siblings(config, "small_2") == ["small_2", "small"] and networks.siblings(config, "linear") == ["linear"]


def test_a_learner_draws_from_the_seed():
    data = digits(0)
    forest = [learners.fitted("random_forest", {"n_estimators": 3}, data, 100, seed) for seed in (1, 1, 2)]
    said = [one.predict_proba(learners.flat(data.test.images)) for one in forest]
    assert (said[0] == said[1]).all() and not (said[0] == said[2]).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"networks": {}}, "config.networks is empty"),
        ({"networks.small.nmae": "mlp"}, "config.networks.small has 'nmae'"),
        ({"networks.small.name": "mpl"}, "did you mean 'mlp'"),
        ({"networks.small_2.seed_offset": -1}, "seed_offset is -1"),
        ({"attacks": {}}, "config.attacks is empty"),
        ({"attacks.fgsm.arguments.epsilon": 2.0}, "epsilon is 2.0"),
        ({"learners.random_forest.trees": 5}, "config.learners.random_forest does not take 'trees'"),
        ({"learners.nearest_neighbours.n_neighbors": -1}, "n_neighbors"),
        ({"learners.perceptron": {}}, "names 'perceptron'; choose from support_vector_machine"),
        ({"num_train": 5000}, "num_train is 5000"),
        ({"transformations.rounding": 8}, "choose a list of strengths"),
        ({"transformations.gaussian_noise": (0.1, -1.0)}, "standard_deviation is -1.0"),
        ({"testing.num_images": 9999}, None),
        ({"testing.num_images": 400}, "choose fewer"),
        ({"networks.random_forest": {"name": "linear"}}, "both name 'random_forest'"),
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
    if said is None:
        return transfer.check(ConfigDict(config), digits(0))
    with pytest.raises(ValueError, match=said) as raised:
        transfer.run(ConfigDict(config), Options(tmp_path / "run"))
    assert not (tmp_path / "run").exists() and "\n" not in str(raised.value)
    return None
