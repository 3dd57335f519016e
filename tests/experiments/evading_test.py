"""A generator that learned to pass detectors, end to end on small networks: its rows, its training, and what sees it less."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax import checkpoint
from mgan_jax.experiments import detectors
from mgan_jax.experiments.evading import adaptive_arguments
from mgan_jax.experiments.options import Options

CONFIGS = Path(__file__).parent.parent.parent / "configs"
NAME = "mgan_undetected_1"
CONFIG = {
    "experiment": "detectors", "seed": 0, "epsilon": 0.3, "rows": (),
    "dataset": {"name": "digits", "num_validation": 350},
    "target": {"name": "mlp", "epochs": 3, "learning_rate": 5e-3, "batch_size": 50, "chunk_size": 20, "weight_decay": 0.0,
               "max_shift": 0},
    "mutation": {"neuron_switch": {"min_neurons": 10}},
    "protocols": {"qualified": {"rate": 0.05, "min_accuracy_ratio": 0.5}},
    "generator": {"widths": (4, 8), "num_residual_blocks": 1}, "discriminator": {"widths": (4, 8)},
    "attacks": {
        "mgan": {"knowledge": "white box", "trained_on": ("all",), "epochs": 8, "learning_rate": 5e-3, "batch_size": 50,
                 "chunk_size": 20,
                 "arguments": {"alpha": 0.1, "hinge": "reach", "kappa": 2.0, "hinge_weight": 0.0, "beta": 0.5, "num_mutants": 2}},
    },
    "detectors": {
        "label_change_rate": {"operator": "GF", "rate": 0.3, "fit_on": "validation", "fit_images": 100,
                              "arguments": {"num_mutants": 5, "min_accuracy_ratio": 0.5}},
        "feature_squeezing": {"arguments": {}},
        "kernel_density": {"arguments": {"bandwidth": None}},
    },
    "joint": ("label_change_rate", "feature_squeezing", "kernel_density"),
    "adaptive": {"detectors": (), "num_mutants": 3, "arguments": {"epsilon": 0.3, "num_steps": 2}, "num_images": 10,
                 "batch_size": 10},
    "undetected": {"weights": (1.0,), "margin": 1.0},
    "testing": {"num_images": 100, "num_fit_images": 300, "num_validation_images": 200, "batch_size": 100, "operators": (),
                "method": "auto"},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("evading")
    detectors.run(ConfigDict(CONFIG), Options(path))
    return path, json.loads((path / "results.json").read_text())


def test_every_rate_has_its_interval_and_its_size(made, unsized):
    assert not unsized(made[1])


def test_it_is_a_row_of_attacks_and_has_a_cell_of_every_detector(made):
    _, results = made
    assert [row["attack"] for row in results["attack_rows"]] == ["mgan", NAME]
    assert results["attack_rows"][1]["success_rate"] > 0.5
    pairs = {(row["attack"], row["detector"]) for row in results["rows"]}
    assert pairs == {(attack, detector) for attack in ("mgan", NAME) for detector in (*CONFIG["detectors"], "joint")}


def test_its_loss_is_mgans_and_the_hinges_of_the_joint_rules_detectors(made):
    """What its other terms leave of the loss: no less than the margin for every image that is detected, and nothing of MGAN's."""
    path, _ = made
    weights, left = CONFIG["attacks"]["mgan"]["arguments"], {}
    for name in ("mgan", NAME):
        of = checkpoint.restore(path / "checkpoints" / name)["history"]
        left[name] = of["loss"] - of["adversarial_loss"] - weights["alpha"] * of["gan_loss"] - weights["beta"] * of["mutate_loss"]
    np.testing.assert_allclose(left["mgan"], 0, atol=1e-5)
    assert (left[NAME] > CONFIG["undetected"]["margin"] * of["detected"]).all() and of["detected"].any()
    made_from = json.loads((path / "made_from" / f"{NAME}.json").read_text())
    assert made_from["inputs"]["weight"] == 1.0 and set(made_from["detectors"]) == set(CONFIG["joint"])


@pytest.mark.parametrize("name", ["feature_squeezing", "kernel_density"])
def test_detectors_that_can_be_followed_score_its_images_lower_than_mgans(made, name):
    """By more than two trainings differ, of which neither sees detectors: of kernel density up to 4 %."""
    path, _ = made
    plain, own = (np.load(path / "stages" / f"scores_{name}_{attack}.npz")["scores"] for attack in ("mgan", NAME))
    assert len(plain) == len(own) == 100 and own.mean() < 0.95 * plain.mean()


def test_a_second_start_reads(made):
    path, _ = made
    kept = [file for folder in ("stages", "checkpoints") for file in path.rglob(f"{folder}/**/*") if file.is_file()]
    assert path / "stages" / f"attack_{NAME}.npz" in kept
    times = {file: file.stat().st_mtime_ns for file in kept}
    detectors.run(ConfigDict(CONFIG), Options(path))
    assert times == {file: file.stat().st_mtime_ns for file in kept}


def test_a_length_of_steps_can_be_typed_and_is_the_attacks_own_where_none_is():
    config = runpy.run_path(CONFIGS / "detectors.py")["get_config"]("smoke").lock()
    assert "step_size" not in adaptive_arguments(config)
    for typed in (0.05, 1):
        config.adaptive.arguments.step_size = typed
        assert adaptive_arguments(config)["step_size"] == typed
    with pytest.raises(TypeError):
        config.adaptive.arguments.step_size = "published"
