"""Inversion of a linear generator against least squares, of any other against a loop over its restarts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.inversion import Descent, check_descent, errors, invert
from mgan_jax.models.decoder import decoder

pytestmark = pytest.mark.numerical

SHAPE = (4, 4, 1)


def linear(matrix, codes):
    return (codes @ matrix).reshape(-1, *SHAPE)


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    return rng.normal(size=(3, 16)).astype(np.float32), rng.normal(size=(5, *SHAPE)).astype(np.float32)


@pytest.mark.parametrize(("optimizer", "rate"), [("momentum", 0.1), ("adam", 0.1)])
def test_a_linear_generator_is_inverted_by_least_squares(problem, optimizer, rate):
    matrix, images = problem
    starts = jax.random.normal(jax.random.key(0), (2, 3))
    found = jax.jit(lambda x: invert(linear, matrix, x, starts, Descent(400, rate, 0.7, optimizer)))(images)
    expected, squares, *_ = np.linalg.lstsq(matrix.T, images.reshape(5, -1).T)
    np.testing.assert_allclose(found.codes, expected.T, atol=2e-3)
    np.testing.assert_allclose(found.errors, squares / 16, rtol=1e-4)


def test_momentum_is_the_loop_of_numpy(problem):
    matrix, images = problem
    starts = np.random.default_rng(1).normal(size=(3, 3)).astype(np.float32)
    found = invert(linear, matrix, images, jnp.asarray(starts), Descent(7, 0.3, 0.7, "momentum"))
    for b, image in enumerate(images.reshape(5, -1)):
        ends = []
        for z in starts.astype(np.float64):
            v = np.zeros(3)
            for _ in range(7):
                v = 0.7 * v - 0.3 * 2 * (z @ matrix - image) @ matrix.T / 16
                z = z + v
            ends.append((((z @ matrix - image) ** 2).mean(), tuple(z)))
        error, code = min(ends)
        np.testing.assert_allclose(found.codes[b], code, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(found.errors[b], error, rtol=1e-4)


def test_more_restarts_never_fit_worse_and_images_do_not_meet():
    made = decoder(4, (8,))
    variables, images = made.init(jax.random.key(0), SHAPE), jax.random.uniform(jax.random.key(1), (6, *SHAPE))
    starts = 3 * jax.random.normal(jax.random.key(2), (5, 4))
    descent = Descent(4, 5.0, 0.5, "momentum")
    run = jax.jit(lambda x, starts: invert(made.apply, variables, x, starts, descent))
    few, many = run(images, starts[:1]), run(images, starts)
    assert (many.errors <= few.errors + 1e-6).all() and (many.errors < few.errors - 1e-3).any()
    np.testing.assert_allclose(run(images[3:4], starts).codes[0], many.codes[3], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(errors(made.apply, variables, many.codes[None], images)[0], many.errors, rtol=1e-5)


def test_a_restart_that_diverged_is_not_chosen(problem):
    matrix, images = problem
    starts = jnp.stack([jnp.full(3, jnp.nan), jnp.zeros(3)])
    descent = Descent(5, 0.1, 0.7, "momentum")
    found, alone = (invert(linear, matrix, images, s, descent) for s in (starts, starts[1:]))
    np.testing.assert_allclose(found.codes, alone.codes, rtol=1e-5)
    assert np.isfinite(found.errors).all()


@pytest.mark.parametrize(
    "bad", [Descent(0, 1.0, 0.5, "adam"), Descent(1, 0.0, 0.5, "adam"), Descent(1, 1.0, 1.0, "adam"), Descent(1, 1.0, 0.5, "sgd")]
)
def test_bad_numbers_are_refused(bad):
    with pytest.raises(ValueError, match="choose"):
        check_descent(bad)
