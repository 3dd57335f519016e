"""Transformations against SciPy, by hand, and at their resting strength."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from mgan_jax.transformations import TRANSFORMATIONS, transformation

pytestmark = pytest.mark.numerical

RESTING = {"gaussian_noise": 0.0, "rotation": 0.0, "blur": 0.0}
STRENGTHS = {"gaussian_noise": 0.2, "rotation": 20, "blur": 1.0, "rounding": 3}


def images(shape=(3, 7, 9, 2)):
    return jnp.asarray(np.random.default_rng(0).random(shape, np.float32))


def test_rotation_by_hand_turns_counterclockwise():
    square = jnp.asarray([[1.0, 0.5], [0.0, 0.25]]).reshape(1, 2, 2, 1)
    turned = transformation("rotation", 90)(jax.random.key(0), square)[0, ..., 0]
    np.testing.assert_allclose(turned, [[0.5, 0.25], [1.0, 0.0]], atol=1e-6)


@pytest.mark.parametrize("degrees", [-30, 15, 180])
def test_rotation_is_scipys(degrees):
    before = images()
    after = transformation("rotation", degrees)(jax.random.key(0), before)
    expected = ndimage.rotate(before, degrees, axes=(1, 2), reshape=False, order=1, mode="grid-constant")
    np.testing.assert_allclose(after, expected, atol=1e-5)


@pytest.mark.parametrize("sigma", [0.5, 1.3, 4.0])
def test_blur_is_scipys(sigma):
    before = images()
    expected = ndimage.gaussian_filter(before, (0, sigma, sigma, 0), mode="nearest")
    np.testing.assert_allclose(transformation("blur", sigma)(jax.random.key(0), before), expected, atol=1e-6)


def test_rounding_by_hand():
    values = jnp.asarray([0.0, 0.16, 0.17, 0.5, 0.9, 1.0]).reshape(1, 1, 6, 1)
    rounded = transformation("rounding", 2)(jax.random.key(0), values)
    np.testing.assert_allclose(rounded.ravel() * 3, [0, 0, 1, 2, 3, 3], atol=1e-6)
    eight = transformation("rounding", 8)(jax.random.key(0), images())
    np.testing.assert_allclose(eight * 255, np.round(eight * 255), atol=1e-4)


def test_noise_has_its_deviation_and_its_key():
    noisy, grey = transformation("gaussian_noise", 0.05), jnp.full((4, 50, 50, 1), 0.5)
    change = noisy(jax.random.key(1), grey) - grey
    assert float(change.std()) == pytest.approx(0.05, rel=0.05) and abs(float(change.mean())) < 0.003
    assert not (change == noisy(jax.random.key(2), grey) - grey).all()


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_every_one_stays_within_bounds_and_is_the_same_jitted(name):
    transform, before = transformation(name, STRENGTHS[name]), images()
    after = transform(jax.random.key(3), before)
    assert after.shape == before.shape and after.dtype == before.dtype and after.min() >= 0 and after.max() <= 1
    np.testing.assert_allclose(jax.jit(transform)(jax.random.key(3), before), after, atol=1e-6)
    if name in RESTING:
        np.testing.assert_allclose(transformation(name, RESTING[name])(jax.random.key(3), before), before, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "strength", "said"),
    [("gaussian_noise", -0.1, "-0.1"), ("rotation", 200, "200"), ("blur", float("nan"), "nan"), ("rounding", 0, "bits is 0"),
     ("rounding", 2.5, "whole"), ("blur", "much", "'much'"), ("blurr", 1, "choose from gaussian_noise")],
)  # fmt: skip
def test_mistakes_are_refused(name, strength, said):
    with pytest.raises(ValueError, match=said):
        transformation(name, strength)
