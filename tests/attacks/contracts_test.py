"""Clauses that hold for every attack; MAKE has a line for each, small enough to compile in no time."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import build
from mgan_jax.attacks.adversarial_patch import adversarial_patch
from mgan_jax.attacks.adversarial_patch_generator import adversarial_patch_generator
from mgan_jax.attacks.adversarial_transformation_network import adversarial_transformation_network
from mgan_jax.attacks.advgan import advgan
from mgan_jax.attacks.apgd import apgd
from mgan_jax.attacks.autoattack import autoattack
from mgan_jax.attacks.bim import bim
from mgan_jax.attacks.carlini_wagner_l0 import carlini_wagner_l0
from mgan_jax.attacks.carlini_wagner_l2 import carlini_wagner_l2
from mgan_jax.attacks.carlini_wagner_linf import carlini_wagner_linf
from mgan_jax.attacks.deepfool import deepfool
from mgan_jax.attacks.evolutionary import evolutionary
from mgan_jax.attacks.expectation_over_transformations import expectation_over_transformations
from mgan_jax.attacks.fab import fab
from mgan_jax.attacks.few_pixel import few_pixel
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.fooling import fooling
from mgan_jax.attacks.gradient_descent import gradient_descent
from mgan_jax.attacks.jsma import jsma
from mgan_jax.attacks.latent_space import latent_space
from mgan_jax.attacks.lbfgs import lbfgs
from mgan_jax.attacks.mgan import mgan
from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.pgd_mutants import pgd_mutants
from mgan_jax.attacks.selective_gradient_descent import selective_gradient_descent
from mgan_jax.attacks.square import square
from mgan_jax.attacks.substitute_model import substitute_model
from mgan_jax.attacks.undetected import undetected
from mgan_jax.attacks.universal_perturbation import universal_perturbation
from mgan_jax.attacks.variance_reduced_gradient import variance_reduced_gradient
from mgan_jax.losses import margin_to_fool
from mgan_jax.models.autoencoder import autoencoder
from mgan_jax.models.decoder import decoder
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.models.mlp import mlp
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing


def generative(factory, apply_fn, epsilon, **more):
    made = factory(apply_fn, generator(epsilon, (4, 8), 1), discriminator((4, 8)), **more)
    return jax.tree_util.Partial(made.attack, made.init(jax.random.key(5), (8, 8, 1)))


def fitted(learned, variables, shape=(8, 8, 1)):
    """A LearnedAttack, fitted to a few random images."""
    images = jax.random.uniform(jax.random.key(6), (8, *shape))
    state = jax.jit(learned.fit)(jax.random.key(7), variables, images, jnp.arange(8, dtype=jnp.int32) % 2)
    return jax.tree_util.Partial(learned.attack, state)


def brightness(variables, images):
    """A detector that needs no fitting."""
    return images.mean((1, 2, 3))


def on_substitute(apply_fn, epsilon, variables):
    """FGSM on a substitute with as many classes as the target has."""
    substitute = mlp((8, 8, 1), variables["params"]["output"]["bias"].size, (4,))
    make_attack = partial(fgsm, epsilon=epsilon)
    return fitted(substitute_model(apply_fn, substitute, make_attack, num_rounds=1, num_epochs=2), variables)


def in_codes(apply_fn, epsilon):
    """The latent space of an untrained decoder, which stands beside the target instead of in it."""
    made = decoder(3, (8,))
    generator = made.init(jax.random.key(8), (8, 8, 1))
    return latent_space(
        apply_fn, made.apply, apply_fn, 3, epsilon, num_steps=5, inversion_steps=5, generator=lambda variables: generator
    )


def noisy(key, variables):
    """The target with other output biases, as a defense that draws them."""
    output = variables["params"]["output"]
    output = {**output, "bias": output["bias"] + 0.1 * jax.random.normal(key, output["bias"].shape)}
    return {**variables, "params": {**variables["params"], "output": output}}


# name: (apply_fn, epsilon, variables) -> attack
MAKE = {
    "adversarial_patch": lambda f, e, v: fitted(adversarial_patch(f, num_steps=2), v),
    "adversarial_patch_generator": lambda f, e, v: fitted(
        adversarial_patch_generator(
            f, autoencoder("dense", (4,), "sigmoid"), discriminator((4,)), patch_size=4, num_steps=2, batch_size=4
        ),
        v,
    ),
    "adversarial_transformation_network": lambda f, e, v: fitted(
        adversarial_transformation_network(f, generator(e, (4, 8), 1), num_steps=2, batch_size=4), v
    ),
    "advgan": lambda f, e, v: generative(advgan, f, e),
    "apgd": lambda f, e, v: apgd(f, e, num_steps=10),
    "autoattack": lambda f, e, v: autoattack(f, e, num_steps=5, num_queries=20, group_size=4),
    "bim": lambda f, e, v: bim(f, e, num_steps=5),
    "carlini_wagner_l0": lambda f, e, v: carlini_wagner_l0(f, num_steps=10, largest_constant=1.0),
    "carlini_wagner_l2": lambda f, e, v: carlini_wagner_l2(f, num_searches=3, num_steps=10, initial_constant=0.1),
    "carlini_wagner_linf": lambda f, e, v: carlini_wagner_linf(f, num_steps=10, initial_constant=1e-3, largest_constant=1.0),
    "deepfool": lambda f, e, v: deepfool(f, num_steps=10),
    "evolutionary": lambda f, e, v: evolutionary(f, e, num_queries=40, population_size=10, tiles=4),
    "expectation_over_transformations": lambda f, e, v: expectation_over_transformations(
        f, lambda mean, loss: pgd(mean, e, 5, 0.05, loss=loss), noisy, num_draws=2, every_step=True
    ),
    "fab": lambda f, e, v: fab(f, num_steps=5, num_target_classes=3),
    "few_pixel": lambda f, e, v: few_pixel(f, 3, 10, 3),
    "fgsm": lambda f, e, v: fgsm(f, e),
    "fooling": lambda f, e, v: fooling(f, 0.05, 5),
    "gradient_descent": lambda f, e, v: gradient_descent(f, num_steps=5),
    "jsma": lambda f, e, v: jsma(f, theta=0.6, gamma=0.2),
    "latent_space": lambda f, e, v: in_codes(f, e),
    "lbfgs": lambda f, e, v: lbfgs(f, 4, 10),
    "mgan": lambda f, e, v: generative(mgan, f, e, mutations=[gaussian_fuzzing()]),
    "pgd": lambda f, e, v: pgd(f, e, 5, 0.05),
    "pgd_mutants": lambda f, e, v: pgd_mutants(f, [gaussian_fuzzing()], epsilon=e, num_steps=5, step_size=0.05),
    "selective_gradient_descent": lambda f, e, v: selective_gradient_descent(f, brightness, 0.5, e, 5, 0.05),
    "square": lambda f, e, v: square(f, e, num_queries=30),
    "substitute_model": on_substitute,
    "variance_reduced_gradient": lambda f, e, v: variance_reduced_gradient(f, e, 5, 0.05, num_samples=2),
    "undetected": lambda f, e, v: generative(lambda *nets: undetected(advgan(*nets), lambda v, x: x.mean((1, 2, 3))[None]), f, e),
    "universal_perturbation": lambda f, e, v: fitted(universal_perturbation(f, e, num_steps=5, batch_size=8), v),
}
# They have no epsilon, or are made without.
UNBOUNDED = ("carlini_wagner_l2", "carlini_wagner_linf", "deepfool", "fab", "fooling", "gradient_descent", "lbfgs")
# They change few pixels, as much as they like.
L0 = ("adversarial_patch", "adversarial_patch_generator", "carlini_wagner_l0", "few_pixel", "jsma")
# As they are made here.
UNTARGETED = ("adversarial_patch", "adversarial_patch_generator", "adversarial_transformation_network", "advgan", "mgan",
              "pgd_mutants", "undetected", "universal_perturbation")  # fmt: skip
DRAWING = ("adversarial_patch", "adversarial_patch_generator", "apgd", "autoattack", "evolutionary",
           "expectation_over_transformations", "few_pixel", "gradient_descent", "latent_space", "pgd", "pgd_mutants",
           "selective_gradient_descent", "square", "variance_reduced_gradient")  # fmt: skip
BOUNDED = [name for name in MAKE if name not in (*UNBOUNDED, *L0)]
LEARNED = ("adversarial_patch", "adversarial_patch_generator", "adversarial_transformation_network", "substitute_model",
           "universal_perturbation")  # fmt: skip

# name: (apply_fn, epsilon, norm) -> attack
IN_L2 = {
    "apgd": lambda f, e, norm: apgd(f, e, norm, num_steps=10),
    "autoattack": lambda f, e, norm: autoattack(f, e, norm, num_steps=5, num_queries=20, group_size=4),
    "bim": lambda f, e, norm: bim(f, e, norm, 5),
    "fab": lambda f, e, norm: fab(f, norm, 10, 2, epsilon=e),
    "fgsm": lambda f, e, norm: fgsm(f, e, norm),
    "pgd": lambda f, e, norm: pgd(f, e, 5, None, norm=norm),
    "selective_gradient_descent": lambda f, e, norm: selective_gradient_descent(f, brightness, 0.5, e, 5, 0.2, norm=norm),
    "square": lambda f, e, norm: square(f, e, norm, num_queries=30),
}


@pytest.fixture(scope="module")
def compiled(target):
    """`compiled(name)`: the attack on the target, `(key, variables, images, labels, targets=None)`, traced once a shape.

    `compiled.traces` counts how often the target was traced.
    """
    classifier, variables = target
    kept = {}

    def counted(v, x):
        get.traces += 1
        return classifier.apply(v, x)

    def get(name):
        if name not in kept:
            kept[name] = jax.jit(MAKE[name](counted, 0.2, variables))
        return kept[name]

    get.traces = 0
    return get


def test_every_attack_is_here():
    assert set(MAKE) == set(build.available("attacks"))


def check(result, classifier, variables, images, labels, targets=None):
    """Every field is what the returned images say."""
    change = np.abs(np.asarray(result.adversarial) - np.asarray(images))
    flat = change.reshape(len(change), -1)
    assert np.isfinite(result.adversarial).all() and np.isfinite(result.logits).all()
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    clean = classifier.apply(variables, images).argmax(-1) == labels
    for field, shown in (
        ("success", result.adversarial),
        ("success_rounded", np.round(np.asarray(result.adversarial) * 255) / np.float32(255)),
    ):
        fooled = (margin_to_fool(classifier.apply(variables, shown), labels, targets) < 0) & clean
        np.testing.assert_array_equal(getattr(result, field), fooled if targets is None else fooled & (targets != labels))
    np.testing.assert_array_equal(result.clean_correct, clean)
    np.testing.assert_array_equal(result.l0, (change > 0).any(-1).reshape(len(change), -1).sum(1))
    np.testing.assert_allclose(result.l1, flat.sum(1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.l2, np.linalg.norm(flat, axis=1), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(result.linf, flat.max(1), rtol=1e-6, atol=3e-7)
    assert result.used.shape == labels.shape and result.used.dtype == jnp.int32


@pytest.mark.parametrize("name", MAKE)
def test_inside_bounds_and_ball_and_success_recomputed(name, target, compiled, images):
    classifier, variables = target
    images, _ = images
    labels = classifier.apply(variables, images).argmax(-1).astype(jnp.int32)
    result = compiled(name)(jax.random.key(1), variables, images, labels)
    check(result, classifier, variables, images, labels)
    if name in BOUNDED:
        assert result.linf.max() <= 0.2 + 1e-6


@pytest.mark.parametrize("name", MAKE)
def test_hostile_inputs_have_defined_results(name, target, compiled):
    """Constant images, exact 0 and 1, misclassified images; huge, negative, equal logits, learned from too; targets as labels."""
    classifier, variables = target
    images = jnp.stack([jnp.full((8, 8, 1), value) for value in (0.0, 1.0, 0.5, 0.0, 1.0, 0.25)] + [jnp.eye(8)[..., None]] * 2)
    labels = jnp.arange(8, dtype=jnp.int32)
    head = variables["params"]["output"]
    heads = {
        "huge": {**head, "kernel": head["kernel"] * 1e6},
        "negative": {**head, "bias": head["bias"] - 1e4},
        "equal": jax.tree.map(jnp.zeros_like, head),
    }
    for change in heads.values():
        other = {**variables, "params": {**variables["params"], "output": change}}
        attack = jax.jit(MAKE[name](classifier.apply, 0.2, other)) if name in LEARNED else compiled(name)
        check(attack(jax.random.key(2), other, images, labels), classifier, other, images, labels)
    if name not in UNTARGETED:
        result = compiled(name)(jax.random.key(2), variables, images, labels, targets=labels)
        check(result, classifier, variables, images, labels, labels)
        assert not result.success.any()


@pytest.mark.parametrize("name", IN_L2)
def test_balls_in_l2_hold_whatever_the_inputs(name, target, images):
    """Misclassified images and constant ones, exact 0 and 1; targets by position and by name."""
    classifier, variables = target
    images = jnp.concatenate([images[0][:5], jnp.zeros((1, 8, 8, 1)), jnp.ones((1, 8, 8, 1)), jnp.full((1, 8, 8, 1), 0.5)])
    labels = jnp.arange(8, dtype=jnp.int32)
    attack = jax.jit(IN_L2[name](classifier.apply, 0.5, "l2"))
    results = [attack(jax.random.key(2), variables, images, labels)]
    check(results[0], classifier, variables, images, labels)
    if name != "selective_gradient_descent":
        targets = labels[::-1]
        results += [attack(jax.random.key(2), variables, images, labels, targets)]
        check(results[1], classifier, variables, images, labels, targets)
        named = attack(jax.random.key(2), variables, images, labels, targets=targets)
        np.testing.assert_array_equal(named.adversarial, results[1].adversarial)
    for result in results:
        assert result.l2.max() <= 0.5 + 1e-5 and (result.l2.max() > 0.25 or name == "fab")  # which returns the smallest change


@pytest.mark.parametrize("name", ["bim", "carlini_wagner_l2", "deepfool", "fgsm", "jsma", "square"])
def test_compiled_or_not_it_is_the_same(name, target, compiled, images):
    classifier, variables = target
    attacks = compiled(name), MAKE[name](classifier.apply, 0.2, variables)
    runs = [attack(jax.random.key(3), variables, *images) for attack in attacks]
    assert (np.abs(runs[0].adversarial - runs[1].adversarial) < 1e-5).mean() > 0.98


@pytest.mark.parametrize("name", MAKE)
def test_a_batch_of_one_and_two_classes(name):
    classifier = mlp((8, 8, 1), 2, (4,))
    variables = classifier.init(jax.random.key(0))
    images, labels = jnp.full((1, 8, 8, 1), 0.5), jnp.zeros(1, jnp.int32)
    result = jax.jit(MAKE[name](classifier.apply, 0.2, variables))(jax.random.key(3), variables, images, labels)
    check(result, classifier, variables, images, labels)


@pytest.mark.parametrize("name", BOUNDED)
def test_epsilon_zero_returns_the_input(name, target, images):
    classifier, variables = target
    result = jax.jit(MAKE[name](classifier.apply, 0.0, variables))(jax.random.key(1), variables, *images)
    np.testing.assert_array_equal(result.adversarial, images[0])


@pytest.mark.parametrize("name", [name for name in MAKE if name not in DRAWING])
def test_batch_equals_one_by_one_for_attacks_that_draw_nothing(name, target, compiled, images):
    variables = target[1]
    images, labels = images
    whole = compiled(name)(jax.random.key(0), variables, images, labels).adversarial
    single = [compiled(name)(jax.random.key(0), variables, images[i : i + 1], labels[i : i + 1]).adversarial[0] for i in range(3)]
    # A pixel whose gradient is nearly zero may go the other way.
    assert (np.abs(whole[:3] - np.stack(single)) < 1e-5).mean() > 0.98


@pytest.mark.parametrize("name", MAKE)
def test_one_trace_serves_many_batches_and_a_key_gives_one_result(name, target, compiled, images):
    variables = target[1]
    attack = compiled(name)
    first = attack(jax.random.key(3), variables, *images).adversarial
    count = compiled.traces
    attack(jax.random.key(4), variables, images[0][::-1], images[1])
    assert compiled.traces == count
    np.testing.assert_array_equal(attack(jax.random.key(3), variables, *images).adversarial, first)
