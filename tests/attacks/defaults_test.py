"""Where every attack's defaults are from: the paper, its authors' code, or us, and then its docstring says so."""

import importlib
import inspect
import re
from typing import Any, NamedTuple

import optax
import pytest

from mgan_jax import build
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.latent_space import of_defense
from mgan_jax.attacks.pgd import cross_entropy

PLAIN = optax.softmax_cross_entropy_with_integer_labels


class Published(NamedTuple):
    """A published value and where it stands; `said`, how the docstring gives it where the default is another."""

    value: Any
    source: str
    said: str = ""


class Off(NamedTuple):
    """The value by which an extension is off, or the form that is published of several."""

    value: Any


OURS = "ours"  # the paper has no such argument, or gives no value
SPEED = "speed"  # changes how long it takes, and at most draws
MADRY = Published(0.3, "Madry et al. 2018, MNIST")
STANDARD = "auto-attack/autoattack/autoattack.py, version standard"
CARLINI = "nn_robust_attacks/l{}_attack.py"
OF_PGD = {"epsilon": MADRY, "num_steps": Published(40, "Madry et al. 2018, MNIST"),
          "step_size": Published("published", "Madry et al. 2018, as steps_test.py has it")}  # fmt: skip
PATCH = {"area": OURS, "max_rotation": Published(22.5, "AdversarialPatch.ipynb"), "target_label": Off(None), "patch_size": OURS}

TABLE: dict[str, dict[str, Published | Off | str]] = {
    "adversarial_patch": {
        **PATCH, "shape": Off("round"), "num_steps": Published(500, "AdversarialPatch.ipynb"),
        "batch_size": Published(16, "AdversarialPatch.ipynb", "batches of 16"),
        "learning_rate": Published(5.0, "AdversarialPatch.ipynb", "of rate 5.0"),
    },
    "adversarial_patch_generator": {
        **PATCH, "shape": OURS, "gan_weight": OURS, "num_steps": OURS, "batch_size": OURS, "learning_rate": OURS,
    },
    "adversarial_transformation_network": {
        "form": Off("perturbation"), "target_label": Off(None), "aim": OURS, "alpha": Published(1.5, "section 4"),
        "beta": Published(0.005, "table 1"),
        "loss": Off("squared"), "success_rate": Off(None), "num_steps": OURS, "batch_size": OURS, "learning_rate": OURS,
        "judge": Off(None),
    },
    "advgan": {
        "alpha": OURS, "hinge_weight": Published("> 0", "equation 4", "is off"), "hinge_bound": OURS,
        "kappa": Published(0.0, "equation 2"), "hinge": Off("leave"), "match_margin": Off(0.0), "diversity_weight": Off(0.0),
        "target_entropy": Off(None),
        "mean_margin": Off(None), "target_label": Off(None),
    },
    "apgd": {
        "epsilon": MADRY, "norm": Off("linf"), "loss": Off("cross_entropy"), "num_steps": Published(100, "section 5"),
        "num_restarts": Published(1, STANDARD), "num_target_classes": Published(9, STANDARD),
        "momentum": Published(0.75, "algorithm 1"), "rho": Published(0.75, "section 3.1"),
    },
    "autoattack": {
        "epsilon": Published(0.3, STANDARD), "norm": Off("linf"), "num_steps": Published(100, STANDARD),
        "num_restarts": Published(1, STANDARD), "num_target_classes": Published(9, STANDARD),
        "num_queries": Published(5000, STANDARD), "area": Published(0.8, STANDARD), "group_size": SPEED,
    },
    "bim": {
        "epsilon": MADRY, "norm": Off("linf"),
        "num_steps": Published("min(eps + 4, 1.25 eps)", "section 2.2", "min(255 epsilon + 4"),
        "step_size": Published(1 / 255, "section 2.2", "1/255"),
    },
    "carlini_wagner_l0": {
        "confidence": Off(0.0), "num_steps": Published(1000, CARLINI.format(0)),
        "learning_rate": Published(1e-2, CARLINI.format(0)),
        "initial_constant": Published(1e-3, CARLINI.format(0)), "largest_constant": Published(2e6, CARLINI.format(0)),
        "constant_factor": Published(2.0, CARLINI.format(0)), "share": Published("0.01 of each", CARLINI.format(0), "up to 0.01"),
    },
    "carlini_wagner_l2": {
        "confidence": Published(0, CARLINI.format(2)), "num_searches": Published(9, CARLINI.format(2)),
        "num_steps": Published(10000, CARLINI.format(2), "10000"), "learning_rate": Published(1e-2, CARLINI.format(2)),
        "initial_constant": Published(1e-3, CARLINI.format(2)), "abort_early": Published(True, CARLINI.format(2), "there True"),
    },
    "carlini_wagner_linf": {
        "confidence": Off(0.0), "num_steps": Published(1000, CARLINI.format("i")),
        "learning_rate": Published(5e-3, CARLINI.format("i")), "initial_constant": Published(1e-5, CARLINI.format("i")),
        "largest_constant": Published(20, CARLINI.format("i")), "constant_factor": Published(2.0, CARLINI.format("i")),
        "tau_factor": Published(0.9, CARLINI.format("i")),
    },
    "deepfool": {
        "norm": Off("l2"), "num_steps": Published(50, "LTS4/DeepFool"), "overshoot": Published(0.02, "section 2.3"),
        "num_candidates": Published(10, "LTS4/DeepFool; the paper: all", "10 likeliest"), "num_slots": SPEED,
    },
    "evolutionary": {
        "epsilon": MADRY, "norm": Off("linf"), "num_queries": OURS, "strategy": OURS, "population_size": OURS, "tiles": OURS,
        "spread": OURS, "num_slots": SPEED,
    },
    "expectation_over_transformations": {
        "num_draws": OURS, "method": SPEED, "every_step": Published(True, "section 4.2", "is True"),
    },
    "fab": {
        "norm": Off("linf"), "num_steps": Published(100, STANDARD), "num_restarts": Published(1, STANDARD),
        "num_target_classes": Published(9, STANDARD), "epsilon": Off(None), "alpha_max": Published(0.1, "section 4"),
        "eta": Published(1.05, "section 4"), "beta": Published(0.9, "section 4"),
    },
    "few_pixel": {
        "num_pixels": Published(1, "section 3"), "population_size": Published(400, "section 3.3"),
        "num_generations": Published(100, "section 3.3"), "weight": Published(0.5, "section 3.2"), "num_slots": SPEED,
    },
    "fgsm": {"epsilon": Published(0.25, "section 4", "0.25"), "norm": Off("linf"), "loss": Published(PLAIN, "section 4")},
    "fooling": {
        "step_size": OURS, "num_steps": Published(1, "Goodfellow et al. 2015, appendix A"),
        "confidence": Published(0.5, "Goodfellow et al. 2015, appendix A"), "bounds": Off(True),
    },
    "gradient_descent": {
        "distance_weight": OURS, "num_steps": OURS, "step_size": OURS, "output": OURS, "bounds": OURS, "brightness": OURS,
    },
    "jsma": {
        "theta": Published(1.0, "section 4"), "gamma": Published(0.145, "section 4"), "outputs": Off("logits"),
        "num_slots": SPEED,
    },
    "latent_space": {
        "code_size": OURS, "epsilon": MADRY, "norm": Off("linf"), "num_steps": OURS, "learning_rate": OURS, "confidences": OURS,
        "initial_weight": OURS, "weight_factor": OURS, "num_restarts": OURS, "inversion_steps": OURS, "inversion_rate": OURS,
        "generator": Published(of_defense, "defenses.invert_and_classify"),
    },
    "lbfgs": {
        "num_searches": OURS, "num_evaluations": OURS, "initial_c": OURS, "num_pairs": OURS,
        "loss": Published(PLAIN, "section 4.1"),
    },
    "mgan": {
        "beta": OURS, "num_mutants": OURS, "min_accuracy_ratios": Off(None), "target_ratio": Off(None), "beta_rate": OURS,
        "min_beta": OURS,
        "max_beta": OURS, "match_rate": Off(0.0), "warmup_steps": Off(0), "redraw_every": OURS, "normal_images": OURS,
        "reference": Off("decision"),
    },
    "pgd": {
        **OF_PGD, "random_start": Published(True, "section 2.1"), "loss": Published(cross_entropy, "equation 2"),
        "norm": Off("linf"),
        "num_restarts": Published(1, "table 1"), "step": Off("steepest"), "gradient_scale": Off(1.0),
    },
    "pgd_mutants": {**OF_PGD, "beta": OURS, "num_mutants": OURS, "kappa": OURS},
    "selective_gradient_descent": {
        "threshold": Off(0.0), "epsilon": Published(8 / 255, "OrthogonalPGD/attack.py", "8/255"),
        "num_steps": Published(100, "OrthogonalPGD/attack.py", "100 steps"),
        "step_size": Published(1 / 255, "OrthogonalPGD/attack.py", "1/255"), "norm": Off("linf"),
        "random_start": Published(False, "OrthogonalPGD/attack.py", "from the image itself"),
        "num_restarts": Published(1, "OrthogonalPGD/attack.py"), "orthogonal": OURS,
    },
    "square": {
        "epsilon": MADRY, "norm": Off("linf"), "num_queries": Published(10000, "section 5", "takes 10000"),
        "area": Published(0.8, "section 5, MNIST"), "num_slots": SPEED, "stretched": Published(True, "section 3.2"),
    },
    "substitute_model": {
        "make_attack": Published(fgsm, "section 4.2"), "num_rounds": Published(6, "section 5.1"),
        "step_size": Published(0.1, "section 5.1"), "period": Off(None), "num_doublings": Off(None),
        "reservoir_size": Published(400, "arXiv:1605.07277"), "num_epochs": Published(10, "section 5.1"), "batch_size": OURS,
        "optimizer": Off(None),
    },
    "undetected": {"weight": OURS, "margin": OURS},
    "universal_perturbation": {
        "epsilon": MADRY, "norm": Off("linf"), "classes": Off(None), "target_label": Off(None), "collateral_weight": Off(0.0),
        "loss": Off("cross_entropy"),
        "beta": Published(9, "Shafahi et al. 2020, ImageNet", "take 9"), "num_steps": OURS, "step_size": OURS, "batch_size": OURS,
        "num_restarts": Off(1),
    },
    "variance_reduced_gradient": {
        **OF_PGD, "scale": Published(15 / 255, "section 5, ImageNet", "15/255"),
        "num_samples": Published(20, "section 5, ImageNet", "and 20"), "norm": Off("linf"),
    },
}  # fmt: skip


def factory(name):
    return getattr(importlib.import_module(f"mgan_jax.attacks.{name}"), name)


def defaults(name):
    parameters = inspect.signature(factory(name)).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def test_every_attack_is_here():
    assert set(TABLE) == set(build.available("attacks"))


@pytest.mark.parametrize("name", TABLE)
def test_every_default_is_published_or_the_docstring_says_otherwise(name):
    given, documentation = defaults(name), inspect.getdoc(factory(name))
    assert set(given) == set(TABLE[name]), "each default has a line"
    paragraph = re.search(r"^Defaults: (.+?)\n\n", documentation, re.DOTALL | re.MULTILINE)
    assert paragraph, "the docstring says where its defaults are from"
    for argument, origin in TABLE[name].items():
        if origin == OURS:
            assert re.search(r"\bours\b", paragraph[1]), argument
        elif isinstance(origin, Off):
            assert (given[argument], type(given[argument])) == (origin.value, type(origin.value)), argument
        elif origin != SPEED:
            said = " ".join(documentation.split())
            assert (given[argument] == origin.value) != bool(origin.said), f"{argument}: {given[argument]} for {origin}"
            assert origin.said in said, f"{argument}: the docstring does not say {origin.said!r}"
