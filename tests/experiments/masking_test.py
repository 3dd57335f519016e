"""The checklist finds masked gradients: each claim broken alone, by hand-made images that are kept."""

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax.experiments import masking
from mgan_jax.experiments.defending import Defended
from mgan_jax.experiments.training import Run
from mgan_jax.models.linear import linear
from mgan_jax.types import Split

MASKING = {"attack": "pgd", "black_box": "square", "single_step": "fgsm", "epsilon": 0.2}
FEW, HALF = np.arange(100) < 30, np.arange(100) < 50
KEPT = {("pgd", True): HALF, ("pgd", False): HALF, ("square", True): HALF, ("fgsm", True): HALF}
CURVE = [
    {"epsilon": 0.2, "num_steps": 5, "robust_accuracy": 0.5, "loss": 1.0, "loss_error": 0.1},
    {"epsilon": 0.2, "num_steps": 20, "robust_accuracy": 0.5, "loss": 0.8, "loss_error": 0.1},
    {"epsilon": 1.0, "num_steps": 20, "robust_accuracy": 0.0, "loss": 9.0, "loss_error": 0.1},
]


def broken(monkeypatch, kept=KEPT, curve=CURVE, noise=HALF, flat=False, name="linear"):
    """Claims that do not hold, of a linear network; flat: one whose logits are all the same."""
    classifier = linear((4, 4, 1), 3)
    variables = classifier.init(jax.random.key(0))
    variables = jax.tree.map(lambda leaf: 0 * leaf, variables) if flat else variables
    run = Run(ConfigDict({"masking": MASKING, "defenses": {"brief": {"masking": {"black_box": "fgsm"}}}}), None, 0, None, None)
    images = np.random.default_rng(0).random((100, 4, 4, 1), np.float32)
    monkeypatch.setattr(masking, "kept_under_noise", lambda one, test: noise)
    test = Split(images, np.zeros(100, np.int32))
    lines = masking.checklist(Defended(run, classifier, variables, None, {}, 0.0), name, test, kept, curve)
    assert len(lines) == 8
    return [line["claim"] for line in lines if line["holds"] is False], lines


def test_an_honest_defense_breaks_nothing(monkeypatch):
    assert broken(monkeypatch)[0] == []


@pytest.mark.parametrize(
    ("changes", "claim"),
    [
        ({"noise": FEW}, "random noise is not stronger than pgd"),
        ({"kept": {**KEPT, ("pgd", False): FEW}}, "images made against the undefended target are not stronger"),
        ({"kept": {**KEPT, ("square", True): FEW}}, "black-box search (square) is not stronger"),
        ({"kept": {**KEPT, ("fgsm", True): FEW}}, "a single step (fgsm) is not stronger"),
        ({"curve": [*CURVE[:2], {**CURVE[2], "robust_accuracy": 0.01}]}, "without a bound nothing withstands"),
        ({"curve": [{**CURVE[0], "robust_accuracy": 0.2}, *CURVE[1:]]}, "more steps (5, 20) are not weaker"),
        ({"curve": [CURVE[0], {**CURVE[1], "loss": 0.7}, CURVE[2]]}, "the loss does not fall with steps (5, 20)"),
        ({"flat": True}, "gradients that are zero: at most 5%"),
    ],
)
def test_each_sign_of_masked_gradients_breaks_its_line_alone(monkeypatch, changes, claim):
    assert broken(monkeypatch, **changes)[0] == [claim]


def test_what_was_not_run_is_said(monkeypatch):
    kept = {key: images for key, images in KEPT.items() if key[0] != "square"}
    found, lines = broken(monkeypatch, kept=kept)
    assert found == []
    assert [line["claim"] for line in lines if line["holds"] is None] == ["black-box search (square) is not stronger"]


def test_a_defense_may_have_a_black_box_search_of_its_own(monkeypatch):
    found, lines = broken(monkeypatch, kept={**KEPT, ("square", True): FEW}, name="brief")
    assert found == []
    assert "black-box search (fgsm) is not stronger" in [line["claim"] for line in lines]
