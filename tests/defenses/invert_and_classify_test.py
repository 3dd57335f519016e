"""Invert-and-classify with a linear generator against projections, its derivative, and that it takes noise away."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.defenses.invert_and_classify import invert_and_classify
from mgan_jax.models.decoder import decoder
from mgan_jax.models.encoder import encoder
from mgan_jax.training import generative
from mgan_jax.training.vae import vae

pytestmark = pytest.mark.numerical

SHAPE = (4, 4, 1)


def linear(matrix, codes):
    return (codes @ matrix).reshape(-1, *SHAPE)


def classify(weights, images):
    return images.reshape(len(images), -1) @ weights


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    matrix, weights = rng.normal(size=(3, 16)).astype(np.float32), rng.normal(size=(16, 4)).astype(np.float32)
    defense = invert_and_classify(classify, linear, lambda key, images: jnp.asarray(matrix), 3, 2, 300, 0.2)
    images = rng.random((6, *SHAPE)).astype(np.float32)
    state = defense.fit(jax.random.key(0), weights, images, np.zeros(6, np.int32))
    return defense, {"target": jnp.asarray(weights), "defense": state}, images, matrix


def test_a_linear_generator_purifies_by_projection(problem):
    defense, variables, images, matrix = problem
    projection = matrix.T @ np.linalg.inv(matrix @ matrix.T) @ matrix
    expected = images.reshape(6, -1) @ projection
    np.testing.assert_allclose(jax.jit(defense.purify)(variables, images).reshape(6, -1), expected, atol=2e-3)
    np.testing.assert_allclose(defense.apply(variables, images), expected @ np.asarray(variables["target"]), atol=1e-2)


def test_attackers_get_the_identitys_derivative(problem):
    defense, variables, images, _ = problem
    slopes = jax.jit(jax.grad(lambda x: defense.apply(variables, x)[:, 2].sum()))(images)
    expected = np.broadcast_to(np.asarray(variables["target"])[:, 2].reshape(1, *SHAPE), images.shape)
    np.testing.assert_allclose(slopes, expected, rtol=1e-6)


def test_its_draws_lie_in_its_state(problem):
    defense, variables, images, _ = problem
    assert variables["defense"]["starts"].shape == (2, 3)
    states = [defense.fit(jax.random.key(k), None, images, np.zeros(len(images), np.int32))["starts"] for k in (0, 0, 1)]
    np.testing.assert_array_equal(states[0], states[1])
    assert (states[0] != states[2]).all()
    np.testing.assert_array_equal(defense.apply(variables, images), defense.apply(variables, images))


def test_noise_that_ruins_the_target_does_little_to_the_defended_one(trained):
    classifier, target, data = trained
    networks = encoder(8, (64,)), decoder(8, (64,))
    fit = partial(generative.fit, make=partial(vae, *networks, learning_rate=5e-3), epochs=15, batch_size=50)
    defense = invert_and_classify(
        classifier.apply, networks[1].apply, lambda key, images: fit(key, images=images), 8, 4, 60, 0.2, optimizer="adam"
    )
    state = defense.fit(jax.random.key(0), target, data.train.images, data.train.labels)
    variables = {"target": target, "defense": state}
    images, labels = data.test.images[:100], data.test.labels[:100]
    slopes = jax.grad(lambda x: jax.nn.log_softmax(classifier.apply(target, x))[jnp.arange(100), labels].sum())(images)
    attacked = jnp.clip(images - 0.15 * jnp.sign(slopes), 0, 1)
    right = lambda logits: float((logits.argmax(-1) == labels).mean())  # noqa: E731
    apply = jax.jit(defense.apply)
    bare, defended = (
        right(f(x)) for f, x in ((partial(classifier.apply, target), attacked), (partial(apply, variables), attacked))
    )
    assert right(apply(variables, images)) > 0.8
    assert defended > bare + 0.15


@pytest.mark.parametrize(
    "bad",
    [
        {"num_restarts": 0},
        {"num_steps": 0},
        {"learning_rate": 0.0},
        {"momentum": 1.5},
        {"optimizer": "newton"},
        {"code_size": 0},
        {"start_scale": -1.0},
    ],
)
def test_bad_arguments_are_refused_when_building(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        invert_and_classify(classify, linear, lambda key, images: images, **bad)
