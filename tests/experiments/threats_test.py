"""The loosened threat models on a small network that has learned the digits."""

import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax.experiments.crafting import training_operators
from mgan_jax.experiments.populations import NOTHING_USED
from mgan_jax.experiments.threats import changes, threat_rows
from mgan_jax.experiments.training import Run
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing
from mgan_jax.population import sample
from mgan_jax.report.tables import threat_table
from mgan_jax.types import Split

CONFIG = {
    "epsilon": 0.3,
    "mutation": {},
    "target": {
        "name": "mlp", "epochs": 1, "learning_rate": 5e-3, "batch_size": 50, "chunk_size": 10, "weight_decay": 0.0,
        "max_shift": 0, "model": {"widths": (16,)},
    },
    "protocols": {
        "unfiltered": {"rate": 0.1, "min_accuracy_ratio": 0.0},
        "qualified": {"rate": 0.05, "min_accuracy_ratio": 0.5},
    },
    "dataset": {"name": "digits"},
    "attacks": {"noise": {}, "other": {}},
    "testing": {
        "method": "auto",
        "operators": ("GF", "LD"), "num_mutants": 3, "num_validation_mutants": 3, "num_images": 40,
        "num_validation_images": 60,
    },
    "threats": {"attacks": ("noise",), "rates": (0.02, 0.3), "targets": {"another seed": {}, "linear": {"name": "linear"}}},
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(trained, tmp_path_factory):
    classifier, variables, data = trained
    config = ConfigDict(CONFIG)
    config.threats.targets.linear.model = {}
    start = lambda name, total, unit: lambda done, **numbers: None  # noqa: E731
    run = Run(config, tmp_path_factory.mktemp("run"), 0, data, start)
    test = Split(*(array[:40] for array in data.test))
    noise = np.random.default_rng(0).random(test.images.shape, np.float32)
    made = {("noise", None): noise, ("noise", "without GF"): noise, ("other", None): noise}
    first, used = threat_rows(run, classifier, variables, test, made, NOTHING_USED)
    again = threat_rows(run, classifier, variables, test, made, NOTHING_USED)
    assert again == (first, used), "finished stages are read, not run again"
    without = run._replace(config=ConfigDict({key: value for key, value in CONFIG.items() if key != "threats"}))
    assert threat_rows(without, classifier, variables, test, made, used) == ([], used)
    return first


def test_every_threat_has_its_rows_and_no_attack_that_was_not_named(rows):
    detectors = [f"detector {kind}label_change_rate{form}" for kind in ("", "soft_")
                 for form in ("", ", per class", ", per class, two-sided")]  # fmt: skip
    assert {row["threat"] for row in rows} == {"rate 0.02", "rate 0.3", "target another seed", "target linear", *detectors}
    assert {(row["attack"], row["trained_on"]) for row in rows} == {("noise", None)}
    assert {row["operator"] for row in rows} == {"GF", "mixed"}, "the layer operators have no rate"
    assert {row["rate"] for row in rows if row["threat"] == "rate 0.3"} == {0.3}


def test_every_rate_has_its_interval_and_its_size_and_mutants_are_counted(rows, unsized):
    assert not unsized({"threat_rows": rows})
    assert all(row["tried"] >= row["qualified"] >= row["distinct"] == row["num_mutants"] for row in rows)


def test_another_target_is_another_network(rows):
    shares = {row["threat"]: row["misclassification"] for row in rows if row["operator"] == "GF"}
    assert len({shares["rate 0.02"], shares["target another seed"], shares["target linear"]}) == 3
    assert shares["rate 0.02"] == shares["rate 0.3"]


def test_the_table_has_a_line_a_threat(rows):
    title, heads, lines = threat_table({"rows": [], "threat_rows": rows})
    assert "loosened" in title and all(len(line) == len(heads) for line in lines)
    assert len(lines) == 2 + 2 * 2 + 6, "rates, two protocols of two targets, detectors"


def test_changes_are_a_loop_over_mutants_at_any_number_of_images(trained):
    classifier, variables, data = trained
    import jax

    mutants = sample(gaussian_fuzzing(0.2), jax.random.key(0), variables, 3)
    images = data.test.images[:7]
    found = changes(classifier, variables, mutants, images)
    for m in range(3):
        own = classifier.apply(jax.tree.map(lambda leaf, m=m: leaf[m], mutants), images).argmax(-1)
        np.testing.assert_array_equal(found["label_change_rate"][m], own != classifier.apply(variables, images).argmax(-1))
    assert found["soft_label_change_rate"].shape == (3, 7) and (found["soft_label_change_rate"] >= 0).all()


def test_an_operator_can_be_left_out_and_only_one_of_the_five():
    assert training_operators("without WS") == ("GF", "NEB", "NAI", "NS") and training_operators("WS") == ("WS",)
    with pytest.raises(ValueError, match="leave out one of GF, WS"):
        training_operators("without LD")
