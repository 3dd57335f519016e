"""Detectors end to end on a small network: cells by hand, thresholds, stages that are read again, mistakes in one line."""

import copy
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from ml_collections import ConfigDict

from mgan_jax import checkpoint
from mgan_jax.datasets.digits import digits
from mgan_jax.experiments import detecting, detectors, evading
from mgan_jax.experiments.attacking import Attacked
from mgan_jax.experiments.detecting import Fitted
from mgan_jax.experiments.options import Options
from mgan_jax.experiments.training import Run
from mgan_jax.report.detectors import adaptive_table, attack_table, cell_table, sentences, worst_table, write_detectors
from mgan_jax.report.heatmap import words

DECODER = {"name": "decoder", "code_size": 10, "widths": (8,)}
TRAINING = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 50, "chunk_size": 5}
CONFIG = {
    "experiment": "detectors", "seed": 0, "epsilon": 0.3, "rows": (),
    "dataset": {"name": "digits", "num_validation": 350},
    "target": {"name": "mlp", "epochs": 3, "learning_rate": 5e-3, "batch_size": 50, "chunk_size": 20, "weight_decay": 0.0,
               "max_shift": 0},
    "mutation": {}, "protocols": {"qualified": {"rate": 0.05, "min_accuracy_ratio": 0.5}},
    "attacks": {
        "fgsm": {"knowledge": "white box", "arguments": {"epsilon": 0.3}},
        "pgd": {"knowledge": "white box", "arguments": {"epsilon": 0.3, "num_steps": 3, "step_size": 0.1}},
    },
    "detectors": {
        "label_change_rate": {"operator": "GF", "rate": 0.3, "fit_on": "validation", "fit_images": 100,
                              "arguments": {"num_mutants": 5, "min_accuracy_ratio": 0.5}},
        "sprt": {"operator": "GF", "rate": 0.3, "fit_on": "validation", "fit_images": 100, "threshold": 2.9444,
                 "arguments": {"num_mutants": 5, "min_accuracy_ratio": 0.5}},
        "feature_squeezing": {"arguments": {}},
        "supervised_reconstruction": {
            "networks": {"decoder": DECODER, "classifier": {"name": "discriminator", "widths": (4,)}},
            "training": TRAINING, "learned_from": ("fgsm", "pgd"), "fit_images": 200,
        },
    },
    "joint": ("label_change_rate", "feature_squeezing"),
    "adaptive": {"detectors": ("label_change_rate", "feature_squeezing", "joint"), "num_mutants": 3,
                 "arguments": {"epsilon": 0.3, "num_steps": 5, "step_size": 0.05}, "num_images": 20, "batch_size": 20},
    "undetected": {"weights": (), "margin": 0.1},
    "testing": {"num_images": 60, "num_fit_images": 300, "num_validation_images": 100, "batch_size": 100, "operators": (),
                "method": "auto"},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("detectors")
    detectors.run(ConfigDict(CONFIG), Options(path))
    return path, json.loads((path / "results.json").read_text())


def test_every_rate_has_its_interval_and_its_size(made, unsized):
    assert not unsized(made[1])


def test_every_pair_has_a_cell_and_false_positives_are_few(made):
    _, results = made
    pairs = {(row["attack"], row["detector"]) for row in results["rows"]}
    assert pairs == {(a, d) for a in ("fgsm", "pgd") for d in (*CONFIG["detectors"], "joint")}
    for row in results["rows"]:
        low, high = row["detection_rate_ci95"]
        assert low <= row["detection_rate"] <= high and 0 <= row["auroc"] <= 1
        assert row["false_positive_rate"] < 0.25 and row["num_images"] == 60
    success = {row["attack"]: round(row["success_rate"] * row["num_images"]) for row in results["attack_rows"]}
    assert all(row["num_adversarial"] == success[row["attack"]] > 20 for row in results["rows"])


def test_a_sequential_test_says_how_many_mutants_it_asked(made):
    _, results = made
    for row in results["rows"]:
        assert ("mutants_used" in row) == (row["detector"] == "sprt")
    assert all(0 < row["mutants_used"] <= 5 for row in results["rows"] if row["detector"] == "sprt")
    _, heads, lines = cell_table(results)
    assert all(len(line) == len(heads) == 13 for line in lines)


def test_what_learns_from_attacks_is_shown_without_each_of_them(made):
    path, results = made
    rows = [row for row in results["rows"] if row["detector"] == "supervised_reconstruction"]
    assert [row["left_out"] for row in rows] == [True, True]
    folders = {folder.name for folder in (path / "detectors").iterdir()}
    assert {"supervised_reconstruction_without_fgsm", "supervised_reconstruction_without_pgd"} <= folders
    read = json.loads((path / "detectors" / "supervised_reconstruction_without_pgd" / "made_from" / "state.json").read_text())
    (of,) = read["detectors"].values()
    assert of["learned_from"] == ["fgsm"] and set(read["attacks"]) == {"fgsm"}


def test_an_attack_that_follows_the_score_is_less_detected(made):
    _, results = made
    row = next(row for row in results["adaptive_rows"] if row["detector"] == "feature_squeezing")
    pgd = next(row for row in results["rows"] if (row["attack"], row["detector"]) == ("pgd", "feature_squeezing"))
    assert row["undetected_rate"] > 1 - pgd["detection_rate"], "at most this share of PGD's images passes"
    assert row["undetected_rate"] <= row["success_rate"] and row["num_images"] == 20
    assert set(row["others"]) == {"label_change_rate", "sprt", "supervised_reconstruction", "joint"}


def test_where_votes_are_counted_an_attack_follows_the_loss_of_its_own_mutants(made, target, images):
    _, results = made
    row = next(row for row in results["adaptive_rows"] if row["detector"] == "label_change_rate")
    assert 0 < row["undetected_rate"] <= row["success_rate"]
    classifier, variables = target
    own = [{**variables, "params": jax.tree.map(lambda leaf, by=by: by * leaf, variables["params"])} for by in (0.5, -1.0)]
    mutants = jax.tree.map(lambda *leaves: jnp.stack(leaves), *own)
    found = evading.mutant_loss(classifier.apply)(variables, mutants, images[0])
    logits = np.asarray(classifier.apply(variables, images[0]))
    decisions, by_hand = logits.argmax(-1), []
    for mutant in own:
        shares = scipy.special.softmax(np.asarray(classifier.apply(mutant, images[0])), -1)
        by_hand.append(-np.log(shares[np.arange(8), decisions]))
    np.testing.assert_allclose(found, np.mean(by_hand, 0), rtol=1e-4)


def test_stand_ins_are_mutants_of_the_attackers_own_and_calibrated_by_their_loss(made):
    path, _ = made
    kept = {name: checkpoint.restore(path / "detectors" / name / "checkpoints" / "state")["state"] for name in
            ("label_change_rate", "label_change_rate_followed")}  # fmt: skip
    theirs, own = (max(jax.tree.leaves(kept[name]["params"]), key=np.size) for name in kept)
    assert len(own) == CONFIG["adaptive"]["num_mutants"]
    assert not any((one == other).all() for one in own for other in theirs)
    calibrated = np.load(path / "detectors" / "label_change_rate_followed" / "stages" / "calibration.npz")["scores"]
    assert np.ptp(calibrated) > 0, "no share of votes"


def test_cells_are_what_the_kept_scores_say(made):
    path, results = made
    load = lambda name: np.load(path / "stages" / f"{name}.npz")  # noqa: E731
    clean, scores = (load(f"scores_feature_squeezing_{part}")["scores"] for part in ("clean", "pgd"))
    success = load("attack_pgd")["success"]
    row = next(row for row in results["rows"] if (row["attack"], row["detector"]) == ("pgd", "feature_squeezing"))
    assert row["detection_rate"] == pytest.approx((scores[success] > row["threshold"]).mean())
    assert row["false_positive_rate"] == pytest.approx((clean > row["threshold"]).mean())
    pairs = scores[success][:, None] - clean[success][None]
    assert row["auroc"] == pytest.approx((pairs > 0).mean() + (pairs == 0).mean() / 2)


def test_the_worst_case_takes_every_attack_within_the_bound(made):
    path, results = made
    load = lambda name: np.load(path / "stages" / f"{name}.npz")  # noqa: E731
    threshold = next(one["threshold"] for one in results["detectors"] if one["detector"] == "feature_squeezing")
    unaware = np.zeros(20, bool)
    for attack in ("fgsm", "pgd"):
        scores = load(f"scores_feature_squeezing_{attack}")["scores"]
        unaware |= (load(f"attack_{attack}")["success"] & (scores <= threshold))[:20]
    cases = {row["aware"]: row for row in results["worst_cases"] if row["detector"] == "feature_squeezing"}
    assert cases[False]["undetected_rate"] == pytest.approx(unaware.mean()) and cases[False]["num_images"] == 20
    assert cases[True]["attacks"] == ["fgsm", "pgd", *(f"follows {name}" for name in CONFIG["adaptive"]["detectors"])]
    for row in results["adaptive_rows"]:
        for name, share in {row["detector"]: row["undetected_rate"], **row["others"]}.items():
            worst = [case["undetected_rate"] for case in results["worst_cases"] if case["aware"] and case["detector"] == name]
            assert worst and worst[0] >= share


def test_a_worst_case_keeps_to_its_norm_and_epsilon():
    """Three attacks of one image each; two of L-inf, and one of L2 whose image alone passes there."""
    config = ConfigDict({"epsilon": 0.3, "attacks": {
        "fgsm": {"arguments": {"epsilon": 0.3}}, "pgd": {"arguments": {"epsilon": 0.2}},
        "pgd_l2": {"method": "pgd", "arguments": {"epsilon": 2.0, "norm": "l2"}},
    }, "adaptive": {"num_images": 4, "arguments": {"epsilon": 0.3}}})  # fmt: skip
    fools = {"fgsm": [1, 0, 0, 0], "pgd": [0, 1, 0, 0], "pgd_l2": [0, 0, 1, 0]}
    made = {name: Attacked(None, np.array(of, bool), None, None, {}) for name, of in fools.items()}
    one = Fitted(None, None, None, None, None, 0.5, True, 0.0, None)
    scores = {"one": {name: {"scores": np.zeros(4)} for name in fools}}
    run = Run(config, None, 0, None, None)
    rows = detectors.worst_cases(run, {"one": one}, made, scores, {"one": {"one": np.array([0, 0, 0, 1], bool)}})
    found = {(row["norm"], row["epsilon"], row["aware"]): row["undetected_rate"] for row in rows}
    assert found == {("linf", 0.3, False): 0.5, ("linf", 0.3, True): 0.75, ("linf", 0.2, False): 0.25, ("l2", 2.0, False): 0.25}


def test_tables_and_a_page_come_of_it_and_a_second_start_reads(made):
    path, results = made
    for title, heads, lines in (cell_table(results), attack_table(results), adaptive_table(results), worst_table(results)):
        assert title and lines and all(len(line) == len(heads) for line in lines)
    assert sentences(results)
    page = (path / "report.html").read_text()
    assert page.count("<img") == 3 and "Attacks that know a detector" in page
    times = {file: file.stat().st_mtime_ns for file in path.rglob("stages/*.npz")}
    detectors.run(ConfigDict(CONFIG), Options(path))
    assert times == {file: file.stat().st_mtime_ns for file in path.rglob("stages/*.npz")}


def test_a_page_without_attacks_has_no_empty_parts(made, tmp_path):
    _, results = made
    alone = {**results, "rows": [], "attack_rows": []}
    write_detectors(tmp_path / "report.html", alone, {})
    page = (tmp_path / "report.html").read_text()
    assert "Detection rate, %" in page and "Attacks that know a detector" in page
    assert not any(title in page for title in ("AUROC", "Attacks by themselves", "ROC curves"))
    first = results["adaptive_rows"][0]["detector"]
    assert any(sentence.startswith(f"{words(first)}: of an attack that follows it") for sentence in sentences(alone))


def test_several_seeds_are_means_with_deviations(made, several_seeds):
    _, results = made
    scores = {one["detector"]: {part: np.arange(9.0) for part in ("clean", "fgsm", "pgd")} for one in results["detectors"]}
    page = several_seeds(write_detectors, results, scores)
    assert "Every cell with its deviation" in page and "<!-- n = 60 -->" in page
    assert (
        "of n = 20 (fewer than 50, too few to say anything) images fool the network and pass" in page
        and "label change rate " in page
    )


@pytest.mark.parametrize(("change", "message"), [
    ({"joint": ("nothing",)}, "nothing"),
    ({"rows": ("nothing",)}, "nothing"),
    ({"adaptive": {**CONFIG["adaptive"], "num_mutants": 0}}, "num_mutants is 0"),
    ({"undetected": {"weights": (1.0,), "margin": 0.1}}, "name mgan among the attacks"),
    ({"testing": {**CONFIG["testing"], "num_validation_images": 10}}, "num_validation_images is 10"),
    ({"detectors": {"supervised_reconstruction": {"learned_from": ("deepfool",)}}}, "deepfool"),
])  # fmt: skip
def test_mistakes_are_found_before_anything_runs(change, message):
    config = ConfigDict({**copy.deepcopy(CONFIG), **change})
    with pytest.raises(ValueError, match=message):
        detectors.check(config, digits(0))


def test_a_detector_that_learns_from_attacks_stands_for_its_forms():
    config = ConfigDict(CONFIG)
    names = detecting.sections(config, list(config.detectors))
    assert detecting.column("supervised_reconstruction_without_pgd", names) == ("supervised_reconstruction", True)
    assert detecting.column("feature_squeezing", names) == ("feature_squeezing", False)
