"""Every attack at its defaults, in each norm that it takes, does nearly what it does with ten times the steps."""

import inspect
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import build
from mgan_jax.attacks.adversarial_patch import adversarial_patch
from mgan_jax.attacks.apgd import apgd
from mgan_jax.attacks.autoattack import autoattack
from mgan_jax.attacks.bim import bim
from mgan_jax.attacks.carlini_wagner_l0 import carlini_wagner_l0
from mgan_jax.attacks.carlini_wagner_l2 import carlini_wagner_l2
from mgan_jax.attacks.carlini_wagner_linf import carlini_wagner_linf
from mgan_jax.attacks.deepfool import deepfool
from mgan_jax.attacks.evolutionary import evolutionary
from mgan_jax.attacks.fab import fab
from mgan_jax.attacks.few_pixel import few_pixel
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.fooling import fooling
from mgan_jax.attacks.gradient_descent import gradient_descent
from mgan_jax.attacks.latent_space import latent_space
from mgan_jax.attacks.lbfgs import lbfgs
from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.pgd_mutants import pgd_mutants
from mgan_jax.attacks.selective_gradient_descent import selective_gradient_descent
from mgan_jax.attacks.square import square
from mgan_jax.attacks.universal_perturbation import universal_perturbation
from mgan_jax.attacks.variance_reduced_gradient import variance_reduced_gradient
from mgan_jax.models.mlp import mlp
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing
from mgan_jax.types import LearnedAttack

FAST = {"xla_backend_optimization_level": 2, "xla_cpu_use_fusion_emitters": True}
"""Unlike other tests' programs, these run for longer than they compile."""
EPSILON = {"linf": 0.09, "l2": 0.7}
SIGNATURES = {name: inspect.signature(build.factory("attacks", name)) for name in build.available("attacks")}
CLASSIFIER = mlp((8, 8, 1), 10, (4,))


def unseen(variables, images):
    """A score by which no image is detected at a threshold of 1."""
    return images.mean((1, 2, 3))


def in_codes(f, norm, factor, data):
    """The latent space of the digits' first principal components."""
    flat = jnp.asarray(data.train.images).reshape(len(data.train.images), -1)
    mean = flat.mean(0)
    _, sizes, directions = jnp.linalg.svd(flat - mean[None], full_matrices=False)
    components = (directions * sizes[:, None])[:24] / len(flat) ** 0.5
    decode = lambda v, z: jnp.clip(mean[None] + z @ components, 0, 1).reshape(-1, 8, 8, 1)  # noqa: E731
    return latent_space(
        f, decode, f, 24, EPSILON[norm], norm, num_steps=200 * factor, inversion_steps=100 * factor, generator=lambda v: v
    )


# Attacks within a ball, or that change what they must: (apply_fn, norm, how many times the steps, data) -> attack; norms; images.
SUCCESSES = {
    "adversarial_patch": (lambda f, norm, k, data: adversarial_patch(f, num_steps=500 * k), ("l0",), 100),
    "apgd": (lambda f, norm, k, data: apgd(f, EPSILON[norm], norm, num_steps=100 * k), ("linf", "l2"), 100),
    "autoattack": (
        lambda f, norm, k, data: autoattack(f, EPSILON[norm], norm, num_steps=100 * k, num_queries=5000 * k),
        ("linf", "l2"),
        20,
    ),
    "bim": (lambda f, norm, k, data: bim(f, EPSILON[norm], norm, num_steps=10 * k), ("linf", "l2"), 100),
    "evolutionary": (
        lambda f, norm, k, data: evolutionary(f, EPSILON[norm], norm, num_queries=10000 * k),
        ("linf", "l2"),
        20,
    ),
    "few_pixel": (lambda f, norm, k, data: few_pixel(f, 2, num_generations=100 * k), ("l0",), 20),
    "latent_space": (in_codes, ("linf", "l2"), 40),
    "pgd": (lambda f, norm, k, data: pgd(f, EPSILON[norm], 40 * k, norm=norm), ("linf", "l2"), 100),
    "pgd_mutants": (
        lambda f, norm, k, data: pgd_mutants(f, [gaussian_fuzzing()], epsilon=EPSILON[norm], num_steps=40 * k),
        ("linf",),
        100,
    ),
    "selective_gradient_descent": (
        lambda f, norm, k, data: selective_gradient_descent(f, unseen, 1.0, EPSILON[norm], 200 * k, norm=norm),
        ("linf", "l2"),
        100,
    ),
    "square": (lambda f, norm, k, data: square(f, EPSILON[norm], norm, num_queries=5000 * k), ("linf", "l2"), 20),
    "universal_perturbation": (
        lambda f, norm, k, data: universal_perturbation(f, 2 * EPSILON[norm], norm, num_steps=400 * k),
        ("linf", "l2"),
        100,
    ),
    "variance_reduced_gradient": (
        lambda f, norm, k, data: variance_reduced_gradient(f, EPSILON[norm], 40 * k, norm=norm),
        ("linf", "l2"),
        100,
    ),
}
# Attacks that look for the smallest change. (In L0, c is left off at 20: what fails goes on to 2e6, and takes a minute.)
DISTANCES = {
    "carlini_wagner_l0": (lambda f, norm, k, data: carlini_wagner_l0(f, num_steps=1000 * k, largest_constant=20), ("l0",), 8),
    "carlini_wagner_l2": (lambda f, norm, k, data: carlini_wagner_l2(f, num_steps=1000 * k), ("l2",), 8),
    "carlini_wagner_linf": (lambda f, norm, k, data: carlini_wagner_linf(f, num_steps=1000 * k), ("linf",), 8),
    "deepfool": (lambda f, norm, k, data: deepfool(f, norm, num_steps=50 * k), ("linf", "l2"), 100),
    "fab": (lambda f, norm, k, data: fab(f, norm, num_steps=100 * k), ("linf", "l2"), 20),
    "gradient_descent": (lambda f, norm, k, data: gradient_descent(f, num_steps=500 * k), ("l2",), 100),
    "lbfgs": (lambda f, norm, k, data: lbfgs(f, num_evaluations=50 * k), ("l2",), 100),
}
# What is no number of steps to be chosen.
ONE_STEP = {
    "fgsm": "a single step is what it is",
    "fooling": "a single step is the published experiment",
}
NO_STEPS = {
    "advgan": "a training's steps are those of the program that trains",
    "expectation_over_transformations": "the steps are those of the attack within",
    "jsma": "it goes on until gamma of the features are changed",
    "mgan": "as advgan",
    "undetected": "as the attack within",
}
# A docstring says each, and of every attack that learns what its strength depends on.
TRAINED = {
    "adversarial_patch_generator": "how long a network must be trained depends on the network that is given",
    "adversarial_transformation_network": "as adversarial_patch_generator",
    "substitute_model": "as adversarial_patch_generator, and on the queries that it may spend",
}
CASES = [(name, norm) for table in (SUCCESSES, DISTANCES) for name, (_, norms, _) in table.items() for norm in norms]


def test_every_attack_is_here():
    tables = (SUCCESSES, DISTANCES, ONE_STEP, NO_STEPS, TRAINED)
    assert sorted(name for table in tables for name in table) == sorted(build.available("attacks"))
    for name in NO_STEPS:
        assert not set(inspect.signature(build.factory("attacks", name)).parameters) & {"num_steps", "num_queries"}


def test_every_attack_that_learns_says_what_its_strength_depends_on():
    learned = {name for name, signature in SIGNATURES.items() if signature.return_annotation is LearnedAttack}
    assert set(TRAINED) < learned
    for name in learned:
        assert "\n\nHow strong it is depends on " in inspect.getdoc(build.factory("attacks", name)), name


def run(trained, make, norm, factor, count):
    """The result of an attack with `factor` times the steps of its defaults on the first images that are classified correctly."""
    classifier, variables, data = trained
    labels = jnp.asarray(data.test.labels)
    correct = np.flatnonzero(classifier.apply(variables, jnp.asarray(data.test.images)).argmax(-1) == labels)[:count]
    images, labels = jnp.asarray(data.test.images)[correct], labels[correct]
    attack = make(classifier.apply, norm, factor, data)
    if isinstance(attack, LearnedAttack):
        learned = attack.fit(jax.random.key(1), variables, data.train.images[:400], data.train.labels[:400])
        attack = jax.tree_util.Partial(attack.attack, learned)
    return jax.jit(attack, compiler_options=FAST)(jax.random.key(0), variables, images, labels)


@pytest.mark.parametrize("name, norm", CASES)
def test_ten_times_the_steps_do_little_more_than_the_defaults(name, norm, trained):
    make, _, count = {**SUCCESSES, **DISTANCES}[name]
    usual, longer = (run(trained, make, norm, factor, count) for factor in (1, 10))
    if name in DISTANCES:
        medians = [np.median(np.where(result.success, getattr(result, norm), np.inf)) for result in (usual, longer)]
        assert np.isfinite(medians[1]) and medians[0] <= 1.05 * medians[1]
        return
    assert 0 < longer.success.mean() < 0.9
    assert usual.success.sum() >= 0.9 * longer.success.sum()


def test_a_single_step_does_less_than_many(trained):
    """Towards the class after the label."""
    aimed = lambda attack: lambda key, variables, x, y: attack(key, variables, x, y, (y + 1) % 10)  # noqa: E731
    makers = {"fgsm": (lambda f: fgsm(f, 0.2), lambda f: bim(f, 0.2)), "fooling": (fooling, lambda f: fooling(f, num_steps=10))}
    assert set(makers) == set(ONE_STEP)
    for pair in makers.values():
        one, many = (run(trained, lambda f, *_, m=make: aimed(m(f)), "linf", 1, 100) for make in pair)
        assert one.success.sum() < 0.9 * many.success.sum()


def test_madrys_step_in_linf_is_a_hundredth_and_in_l2_grows_with_epsilon(trained):
    selective = lambda f, epsilon, **more: selective_gradient_descent(f, unseen, 1.0, epsilon, 40, **more)  # noqa: E731
    for make, share in ((pgd, 1), (variance_reduced_gradient, 1), (selective, 2)):
        for norm, step in (("linf", 0.01), ("l2", share * 2.5 * EPSILON["l2"] / 40)):
            attack = lambda f, n, *_, m=make, **more: m(f, EPSILON[n], norm=n, **more)  # noqa: E731
            usual, explicit = (run(trained, a, norm, 1, 10) for a in (attack, partial(attack, step_size=step)))
            np.testing.assert_array_equal(usual.adversarial, explicit.adversarial)
    with pytest.raises(ValueError, match="choose"):
        pgd(trained[0].apply, step_size="large")


STEPPED = [name for name in SIGNATURES if "step_size" in SIGNATURES[name].parameters]
NEEDED = {
    "pgd_mutants": ([gaussian_fuzzing()],),
    "selective_gradient_descent": (unseen,),
    "substitute_model": (CLASSIFIER,),
}


@pytest.mark.parametrize("name", STEPPED)
@pytest.mark.parametrize("step", [0.0, -0.1, float("inf"), float("nan")])
def test_steps_that_are_not_positive_and_finite_are_refused(name, step):
    with pytest.raises(ValueError, match="step_size"):
        build.factory("attacks", name)(CLASSIFIER.apply, *NEEDED.get(name, ()), step_size=step)
