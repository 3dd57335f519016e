"""Squeezers against SciPy, a plain loop, and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage

from mgan_jax.squeezers import SQUEEZERS, bit_depth, median, non_local_means, squeezer, straight_through

pytestmark = pytest.mark.numerical


def images(shape=(3, 7, 9, 2)):
    return np.random.default_rng(0).random(shape, np.float32)


def test_bit_depth_by_hand():
    values = jnp.asarray([0.0, 0.16, 0.17, 0.49, 0.51, 0.9, 1.0]).reshape(1, 1, 7, 1)
    np.testing.assert_allclose(bit_depth(2)(values).ravel() * 3, [0, 0, 1, 1, 2, 3, 3], atol=1e-6)
    np.testing.assert_array_equal(bit_depth(1)(values).ravel(), [0, 0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("bits", [1, 2])
def test_a_slope_leaves_the_values_and_lends_the_derivative_of_a_soft_stair(bits):
    values, levels = jnp.linspace(0.0, 1.0, 41).reshape(1, 41, 1, 1), 2**bits - 1
    soft = bit_depth(bits, slope=8.0)
    np.testing.assert_array_equal(soft(values), bit_depth(bits)(values))
    given = jax.grad(lambda x: soft(x).sum())(values).ravel()
    away = np.asarray(values).ravel() * levels % 1 - 0.5
    np.testing.assert_allclose(given, 8 / (2 + 2 * np.cosh(8 * away)), rtol=1e-3)
    assert given.max() > 1.9 and given.min() < 0.2, "steep between two levels, flat at one"


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_median_is_scipys(size):
    before = images()
    expected = ndimage.median_filter(before, (1, size, size, 1), mode="reflect")
    np.testing.assert_array_equal(median(size)(jnp.asarray(before)), expected)


def test_the_window_of_size_2_has_its_pixel_in_the_lower_right_corner_and_takes_the_upper_median():
    image = jnp.asarray([[0.1, 0.2, 0.9], [0.3, 0.4, 0.8], [0.7, 0.6, 0.5]]).reshape(1, 3, 3, 1)
    assert float(median(2)(image)[0, 1, 1, 0]) == np.float32(0.3)
    assert float(median(2)(image)[0, 2, 2, 0]) == np.float32(0.6)


def by_loop(image, search_window, patch_size, strength):
    height, width, _ = image.shape
    far, near = search_window // 2, patch_size // 2
    padded = np.pad(image.astype(np.float64), ((far + near,) * 2, (far + near,) * 2, (0, 0)), mode="symmetric")
    patch = lambda i, j: padded[i - near : i + near + 1, j - near : j + near + 1]  # noqa: E731
    result = np.zeros(image.shape)
    for i in range(height):
        for j in range(width):
            y, x, total = i + far + near, j + far + near, 0.0
            for v in range(y - far, y + far + 1):
                for u in range(x - far, x + far + 1):
                    weight = np.exp(-np.mean((patch(y, x) - patch(v, u)) ** 2) / (strength / 255) ** 2)
                    result[i, j] += weight * padded[v, u]
                    total += weight
            result[i, j] /= total
    return result


@pytest.mark.parametrize(("search_window", "patch_size", "strength"), [(5, 3, 60.0), (3, 1, 30.0), (13, 3, 90.0)])
def test_non_local_means_is_a_loop_over_pixels(search_window, patch_size, strength):
    before = images((2, 6, 5, 3))
    after = jax.jit(non_local_means(search_window, patch_size, strength))(jnp.asarray(before))
    for one, squeezed in zip(before, after, strict=True):
        np.testing.assert_allclose(squeezed, by_loop(one, search_window, patch_size, strength), atol=2e-6)
    assert np.abs(after - before).max() > 0.05


def test_non_local_means_keeps_an_edge_and_removes_noise_that_a_mean_of_the_window_would_smear():
    edge = np.zeros((1, 12, 12, 1), np.float32)
    edge[:, :, 6:] = 1
    noisy = (0.1 + 0.8 * edge + 0.02 * np.random.default_rng(0).normal(size=edge.shape)).astype(np.float32)
    after = non_local_means(11, 3, 10.0)(jnp.asarray(noisy))
    clean = 0.1 + 0.8 * edge
    assert np.abs(after - clean).mean() < 0.4 * np.abs(noisy - clean).mean()


@pytest.mark.parametrize("name", ["median", "non_local_means"])
def test_derivatives_are_those_of_differences(name):
    squeeze = squeezer(name, **({"strength": 80.0, "search_window": 3} if name == "non_local_means" else {}))
    before, weights = jnp.asarray(images((1, 4, 5, 1))), jnp.asarray(images((1, 4, 5, 1)))
    f = jax.jit(lambda x: (weights * squeeze(x)).sum())
    gradient, step = jax.grad(f)(before), 1e-2 if name == "non_local_means" else 1e-4
    for i, j in ((0, 0), (1, 2), (3, 4)):
        change = jnp.zeros_like(before).at[0, i, j, 0].set(step)
        assert float(f(before + change) - f(before - change)) / (2 * step) == pytest.approx(float(gradient[0, i, j, 0]), abs=5e-3)


def test_straight_through_changes_the_value_and_not_the_derivative():
    before, squeeze = jnp.asarray(images()), bit_depth(1)
    f = lambda x: (jnp.square(straight_through(x, squeeze(x)))).sum()  # noqa: E731
    np.testing.assert_allclose(straight_through(before, squeeze(before)), squeeze(before), atol=1e-6)
    np.testing.assert_allclose(jax.grad(f)(before), 2 * squeeze(before), atol=1e-6)
    assert not jax.grad(lambda x: jnp.square(squeeze(x)).sum())(before).any()


@pytest.mark.parametrize("name", SQUEEZERS)
def test_every_one_stays_within_bounds_treats_images_alone_and_leaves_constant_ones(name):
    squeeze, before = squeezer(name), jnp.asarray(images())
    after = squeeze(before)
    assert after.shape == before.shape and after.dtype == before.dtype and after.min() >= 0 and after.max() <= 1
    np.testing.assert_allclose(jax.jit(squeeze)(before), after, atol=1e-6)
    np.testing.assert_allclose(squeeze(before[1:2]), after[1:2], atol=1e-6)
    constant = jnp.asarray([0.0, 1.0]).reshape(2, 1, 1, 1) * jnp.ones((2, 5, 5, 1))
    np.testing.assert_allclose(squeeze(constant), constant, atol=1e-6)


@pytest.mark.parametrize(
    ("config", "said"),
    [({"name": "bit_depth", "bits": 0}, "bits is 0"), ({"name": "bit_depth", "bits": 1.5}, "1.5"),
     ({"name": "bit_depth", "slope": 0.0}, "slope is 0.0"),
     ({"name": "median", "size": 0}, "size is 0"), ({"name": "median", "bits": 3}, "does not take bits"),
     ({"name": "medain"}, "choose from bit_depth"), ({"size": 3}, "None"),
     ({"name": "non_local_means", "search_window": 4}, "odd"), ({"name": "non_local_means", "strength": 0.0}, "strength is 0")],
)  # fmt: skip
def test_mistakes_are_refused(config, said):
    with pytest.raises(ValueError, match=said):
        squeezer(**config)
