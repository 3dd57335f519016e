"""Every attack, small enough to compile in no time, the clauses' groups of them, and peers that the tests of several share."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
from mgan_jax.models.autoencoder import autoencoder
from mgan_jax.models.decoder import decoder
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.models.mlp import mlp
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing

# name: (apply_fn, generator, discriminator) -> what `training.gan` trains
GENERATIVE = {
    "advgan": advgan,
    "mgan": partial(mgan, mutations=[gaussian_fuzzing()]),
    "undetected": lambda *networks: undetected(advgan(*networks), lambda v, x: x.mean((1, 2, 3))[None]),
}


def generative(name, apply_fn, epsilon):
    return GENERATIVE[name](apply_fn, generator(epsilon, (4, 8), 1), discriminator((4, 8)))


def untrained(made, shape):
    return jax.tree_util.Partial(made.attack, made.init(jax.random.key(5), shape))


def fitted(learned, variables, shape):
    """A LearnedAttack, fitted to a few random images."""
    images = jax.random.uniform(jax.random.key(6), (8, *shape))
    state = jax.jit(learned.fit)(jax.random.key(7), variables, images, jnp.arange(8, dtype=jnp.int32) % 2)
    return jax.tree_util.Partial(learned.attack, state)


def brightness(variables, images):
    """A detector that needs no fitting."""
    return images.mean((1, 2, 3))


def on_substitute(apply_fn, epsilon, variables, shape):
    """FGSM on a substitute with as many classes as the target has."""
    substitute = mlp(shape, variables["params"]["output"]["bias"].size, (4,))
    return substitute_model(apply_fn, substitute, partial(fgsm, epsilon=epsilon), num_rounds=1, num_epochs=2)


def in_codes(apply_fn, epsilon, shape):
    """The latent space of an untrained decoder, which stands beside the target instead of in it."""
    made = decoder(3, (8,))
    generator = made.init(jax.random.key(8), shape)
    return latent_space(
        apply_fn, made.apply, apply_fn, 3, epsilon, num_steps=5, inversion_steps=5, generator=lambda variables: generator
    )


def noisy(key, variables):
    """The target with other output biases, as a defense that draws them."""
    output = variables["params"]["output"]
    output = {**output, "bias": output["bias"] + 0.1 * jax.random.normal(key, output["bias"].shape)}
    return {**variables, "params": {**variables["params"], "output": output}}


# name: (apply_fn, epsilon, variables, image_shape) -> what learns
LEARN = {
    "adversarial_patch": lambda f, e, v, s: adversarial_patch(f, num_steps=2),
    "adversarial_patch_generator": lambda f, e, v, s: adversarial_patch_generator(
        f, autoencoder("dense", (4,), "sigmoid"), discriminator((4,)), patch_size=4, num_steps=2, batch_size=4
    ),
    "adversarial_transformation_network": lambda f, e, v, s: adversarial_transformation_network(
        f, generator(e, (4, 8), 1), num_steps=2, batch_size=4
    ),
    "substitute_model": on_substitute,
    "universal_perturbation": lambda f, e, v, s: universal_perturbation(f, e, num_steps=5, batch_size=8),
}


# name: (apply_fn, epsilon, variables, image_shape) -> attack
MAKE = {
    "apgd": lambda f, e, v, s: apgd(f, e, num_steps=10),
    "autoattack": lambda f, e, v, s: autoattack(f, e, num_steps=5, num_queries=20, group_size=4),
    "bim": lambda f, e, v, s: bim(f, e, num_steps=5),
    "carlini_wagner_l0": lambda f, e, v, s: carlini_wagner_l0(f, num_steps=10, largest_constant=1.0),
    "carlini_wagner_l2": lambda f, e, v, s: carlini_wagner_l2(f, num_searches=3, num_steps=10, initial_constant=0.1),
    "carlini_wagner_linf": lambda f, e, v, s: carlini_wagner_linf(f, num_steps=10, initial_constant=1e-3, largest_constant=1.0),
    "deepfool": lambda f, e, v, s: deepfool(f, num_steps=10),
    "evolutionary": lambda f, e, v, s: evolutionary(f, e, num_queries=40, population_size=10, tiles=4),
    "expectation_over_transformations": lambda f, e, v, s: expectation_over_transformations(
        f, lambda mean, loss: pgd(mean, e, 5, 0.05, loss=loss), noisy, num_draws=2, every_step=True
    ),
    "fab": lambda f, e, v, s: fab(f, num_steps=5, num_target_classes=3),
    "few_pixel": lambda f, e, v, s: few_pixel(f, 3, 10, 3),
    "fgsm": lambda f, e, v, s: fgsm(f, e),
    "fooling": lambda f, e, v, s: fooling(f, 0.05, 5),
    "gradient_descent": lambda f, e, v, s: gradient_descent(f, num_steps=5),
    "jsma": lambda f, e, v, s: jsma(f, theta=0.6, gamma=0.2),
    "latent_space": lambda f, e, v, s: in_codes(f, e, s),
    "lbfgs": lambda f, e, v, s: lbfgs(f, 4, 10),
    "pgd": lambda f, e, v, s: pgd(f, e, 5, 0.05),
    "pgd_mutants": lambda f, e, v, s: pgd_mutants(f, [gaussian_fuzzing()], epsilon=e, num_steps=5, step_size=0.05),
    "selective_gradient_descent": lambda f, e, v, s: selective_gradient_descent(f, brightness, 0.5, e, 5, 0.05),
    "square": lambda f, e, v, s: square(f, e, num_queries=30),
    "variance_reduced_gradient": lambda f, e, v, s: variance_reduced_gradient(f, e, 5, 0.05, num_samples=2),
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
NAMES = (*LEARN, *GENERATIVE, *MAKE)
BOUNDED = tuple(name for name in NAMES if name not in (*UNBOUNDED, *L0))

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

# A test that takes one of these runs for every name.
GROUPS = {
    "attack_name": NAMES,
    "learned_name": tuple(LEARN),
    "bounded_name": BOUNDED,
    "steady_name": tuple(name for name in NAMES if name not in DRAWING),
    "l2_name": tuple(IN_L2),
}


def pytest_generate_tests(metafunc):
    for argument, names in GROUPS.items():
        if argument in metafunc.fixturenames:
            metafunc.parametrize(argument, names)


class Cases(NamedTuple):
    """`make(name, apply_fn, epsilon, variables, shape)` an attack, `learn` and `generative` what learns before; and names."""

    make: Callable[..., Any]
    learn: Callable[..., Any]
    generative: Callable[..., Any]
    in_l2: dict[str, Any]
    bounded: tuple[str, ...]
    untargeted: tuple[str, ...]
    learned: tuple[str, ...]
    names: tuple[str, ...]


@pytest.fixture(scope="session")
def cases():
    def learn(name, apply_fn, epsilon, variables, shape=(8, 8, 1)):
        return LEARN[name](apply_fn, epsilon, variables, shape)

    def make(name, apply_fn, epsilon, variables, shape=(8, 8, 1)):
        if name in LEARN:
            return fitted(learn(name, apply_fn, epsilon, variables, shape), variables, shape)
        if name in GENERATIVE:
            return untrained(generative(name, apply_fn, epsilon), shape)
        return MAKE[name](apply_fn, epsilon, variables, shape)

    return Cases(make, learn, generative, IN_L2, BOUNDED, UNTARGETED, tuple(LEARN), NAMES)


@pytest.fixture(scope="module")
def compiled(target, cases):
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
            kept[name] = jax.jit(cases.make(name, counted, 0.2, variables))
        return kept[name]

    get.traces = 0
    return get


@pytest.fixture(scope="session")
def check():
    """Every field is what the returned images say."""

    def check(result, classifier, variables, images, labels, targets=None):
        change = np.abs(np.asarray(result.adversarial) - np.asarray(images))
        flat = change.reshape(len(change), -1)
        assert np.isfinite(result.adversarial).all() and np.isfinite(result.logits).all()
        assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
        clean = classifier.apply(variables, images).argmax(-1) == labels
        for field, shown in (
            ("success", result.adversarial),
            ("success_rounded", np.round(np.asarray(result.adversarial) * 255) / np.float32(255)),
        ):
            logits, aims = np.asarray(classifier.apply(variables, shown)), np.asarray(labels if targets is None else targets)
            aimed = np.eye(logits.shape[-1], dtype=bool)[aims]
            own, other, decisions = logits[aimed], np.where(aimed, -np.inf, logits).max(-1), logits.argmax(-1)
            reached = decisions != aims if targets is None else (decisions == aims) & (aims != labels)
            surely = np.abs(own - other) > 1e-5 * np.maximum(np.abs(own), np.abs(other))
            np.testing.assert_array_equal(getattr(result, field), reached & surely & clean)
        np.testing.assert_array_equal(result.clean_correct, clean)
        read = classifier.apply(variables, result.adversarial).argmax(-1)
        away = read != labels if targets is None else (read == targets) & (targets != labels)
        np.testing.assert_array_equal(result.withstood, clean & ~away)
        np.testing.assert_array_equal(result.l0, (change > 0).any(-1).reshape(len(change), -1).sum(1))
        np.testing.assert_allclose(result.l1, flat.sum(1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(result.l2, np.linalg.norm(flat, axis=1), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(result.linf, flat.max(1), rtol=1e-6, atol=3e-7)
        assert result.used.shape == labels.shape and result.used.dtype == jnp.int32

    return check


@pytest.fixture
def art_classifier(trained):
    """The trained network as the Adversarial Robustness Toolbox wants it; skipped where that is not installed."""
    estimators = pytest.importorskip("art.estimators")
    from art.estimators.classification.classifier import ClassGradientsMixin, ClassifierMixin
    from art.estimators.estimator import LossGradientsMixin

    classifier, variables, data = trained

    class Classifier(ClassGradientsMixin, ClassifierMixin, LossGradientsMixin, estimators.BaseEstimator):
        estimator_params = estimators.BaseEstimator.estimator_params
        input_shape = data.image_shape

        def __init__(self):
            super().__init__(model=classifier, clip_values=(0.0, 1.0))
            self.nb_classes = 10
            self.forward = jax.jit(lambda x: classifier.apply(variables, x))
            self.backward = jax.jit(jax.grad(lambda x, label: (self.forward(x) * jax.nn.one_hot(label, 10)).sum()))
            self.jacobian = jax.jit(jax.vmap(jax.jacrev(lambda image: self.forward(image[None])[0])))

        def fit(self, x, y, **more):
            raise NotImplementedError

        def predict(self, x, **more):
            return np.array(self.forward(jnp.asarray(x, jnp.float32)))

        def loss_gradient(self, x, y, **more):
            raise NotImplementedError

        def class_gradient(self, x, label=None, **more):
            if label is None:
                return np.array(self.jacobian(jnp.asarray(x, jnp.float32)))
            labels = jnp.broadcast_to(jnp.asarray(label), (len(x),))
            return np.array(self.backward(jnp.asarray(x, jnp.float32), labels))[:, None]

    return Classifier()
