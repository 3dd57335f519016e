"""Synthetic results and material of any shape."""

import numpy as np
import pytest

from mgan_jax.report.material import AttackMaterial, Material

OPERATORS = ("GF", "LD")
PROTOCOLS = (("unfiltered", 0.1, 0.0), ("qualified", 0.05, 0.9))


def row(attack, trained_on, operator, protocol, rate, ratio, num_classes):
    base = {
        "attack": attack, "trained_on": trained_on, "seed": 0, "epsilon": 0.3, "norm": "linf", "targeted": False,
        "num_images": 12345, "misclassification": 0.98765, "num_clean_correct": 12000, "success_rate": 0.9,
        "num_adversarial": 7, "linf": 0.3, "l2": 1.0, "l0": 9.0, "label_histogram": [1] * num_classes, "label_entropy": 1.5,
        "operator": operator, "protocol": protocol, "rate": rate, "min_accuracy_ratio": ratio, "num_mutants": 5, "tried": 9,
        "qualified": 5, "distinct": 5, "lcr": 0.2345, "lcr_ci99": [0.1, 0.3], "normal_lcr": 0.1, "lcr_ratio": 2.345,
        "lcr_ratio_ci95": [0.0, 3.0], "class_matched_normal_lcr": None, "auroc": 0.6543, "auroc_ci95": [0.5, 0.7],
        "tpr_at_5fpr": 0.1, "tpr_at_5fpr_low": 0.0, "sprt_detection_rate": 0.2, "sprt_false_positive_rate": 0.1,
        "class_matched_ratio": None, "sprt_excess": 0.1,
    }  # fmt: skip
    if operator == "LD" and protocol == "qualified":
        absent = ("lcr", "lcr_ci99", "normal_lcr", "lcr_ratio", "lcr_ratio_ci95", "auroc", "auroc_ci95", "tpr_at_5fpr")
        base |= {"num_mutants": 0, "tried": 500, "qualified": 0, **dict.fromkeys(absent)}
    return base


@pytest.fixture
def example():
    """`example(shape, num_images, attacks) -> (results, material)`."""

    def make(shape=(8, 8, 1), num_images=12, attacks=(("mgan", "all"), ("advgan", None), ("pgd", None)), num_classes=3):
        random = np.random.default_rng(0)
        names = {attack if trained_on in (None, "all") else f"{attack} {trained_on}" for attack, trained_on in attacks}
        clean = random.random((num_images, *shape)).astype(np.float32)
        chance = lambda: random.dirichlet(np.ones(num_classes), num_images)  # noqa: E731
        adversarial = {
            name: AttackMaterial(
                np.clip(clean + random.uniform(-0.3, 0.3, clean.shape), 0, 1).astype(np.float32),
                chance(),
                random.random(num_images) < 0.8,
            )
            for name in sorted(names)
        }
        lcr = {
            f"{operator} {protocol} {rate:g}": {
                "normal": random.integers(0, 6, 9) / 5,
                **{name: random.integers(0, 6, (2, 9)) / 5 for name in sorted(names)},
            }
            for protocol, rate, _ in PROTOCOLS
            for operator in OPERATORS
        }
        lcr["LD qualified 0.05"] = {}
        epsilon_rows = [
            {"attack": "mgan", "epsilon": e, "success_rate": e, "misclassification": e, "lcr": None if e < 0.2 else e,
             "normal_lcr": 0.1, "num_images": 12, "num_mutants": 5}
            for e in (0.3, 0.1)
        ]  # fmt: skip
        history = {
            "target": {"loss": np.array([2.0, np.nan, 1.0]), "accuracy": np.linspace(0, 1, 250)},
            "mgan_GF": {"loss": np.array([1.0])},
        }
        material = Material(
            clean, random.integers(0, num_classes, num_images), chance(), tuple("abcdefghij"[:num_classes]), adversarial, lcr,
            epsilon_rows, history, ["The attacker knows <b>much</b>."],
        )  # fmt: skip
        rows = [{"attack": "clean", "seed": 0, "num_images": 12345, "misclassification": 0.01}]
        rows += [
            row(*attack, operator, *protocol, num_classes)
            for protocol in PROTOCOLS
            for operator in OPERATORS
            for attack in attacks
        ]
        results = {
            "config": {"note": "<script>alert(1)</script>"}, "seed": 0, "versions": {"jax": "0.0.1"}, "device": "1 x cpu",
            "seconds": 61.7, "target": {"name": "cnn", "test_accuracy": 0.98123, "num_images": 12345}, "rows": rows,
            "epsilon_rows": epsilon_rows,
        }  # fmt: skip
        return results, material

    return make
