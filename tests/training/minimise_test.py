"""Minimising any loss against a closed form."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.training.minimise import minimiser
from mgan_jax.training.target import optimizer

pytestmark = pytest.mark.numerical


def test_least_squares_reaches_the_closed_form():
    rng = np.random.default_rng(0)
    inputs, weights = rng.normal(size=(200, 3)).astype(np.float32), np.array([1.0, -2.0, 0.5], np.float32)
    outputs = inputs @ weights

    def loss(params, key, step, x, y):
        error = x @ params["w"] - y
        return jnp.square(error).mean(), {"largest": jnp.abs(error).max()}

    start = {"w": jnp.zeros(3)}
    found = minimiser(epochs=60, batch_size=20, learning_rate=0.05)(jax.random.key(0), "line", start, loss, (inputs, outputs))
    np.testing.assert_allclose(found["w"], np.linalg.lstsq(inputs, outputs)[0], atol=1e-3)
    assert not np.any(start["w"])


def test_a_key_reaches_the_loss_and_the_same_one_gives_the_same():
    data = (np.ones((20, 1), np.float32),)

    def loss(params, key, step, x):
        return ((params - jax.random.normal(jax.random.fold_in(key, step))) ** 2 + 0 * x.sum()).sum(), {}

    train = minimiser(epochs=2, batch_size=5, learning_rate=0.1)
    first, again, other = (train(jax.random.key(k), "draws", jnp.zeros(()), loss, data) for k in (0, 0, 1))
    assert first == again != other


def test_a_learning_rate_rises_and_falls_along_lines():
    """Adam's first step of a constant gradient is the rate itself."""
    transform = optimizer(0.4, 10, warmup=0.5)
    params, state, steps = jnp.zeros(()), transform.init(jnp.zeros(())), []
    for _ in range(10):
        update, state = transform.update(jnp.ones(()), state, params)
        steps.append(-float(update))
    np.testing.assert_allclose(steps, [0.0, 0.08, 0.16, 0.24, 0.32, 0.4, 0.32, 0.24, 0.16, 0.08], atol=1e-5)
    with pytest.raises(ValueError, match="warmup 1"):
        optimizer(0.4, 10, warmup=1)
