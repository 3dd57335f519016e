"""PixelDefend by exhaustive search where each value is on its own, and on a density that has learned a pattern."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.defenses.pixel_defend import pixel_defend
from mgan_jax.models.pixel_cnn import pixel_cnn
from mgan_jax.training.minimise import minimiser

pytestmark = pytest.mark.numerical

LEVELS = 5


def first_pixel(variables, images):
    """A stand-in for the target: logits that are the first two pixels."""
    del variables
    return images.reshape(len(images), -1)[:, :2]


def stripes(number, seed=0):
    """Images whose columns are 0 and 1 in turn, beginning with either."""
    start = np.random.default_rng(seed).integers(0, 2, (number, 1, 1, 1))
    return ((np.arange(6)[None, None, :, None] + start + np.zeros((1, 6, 1, 1))) % 2).astype(np.float32)


@pytest.fixture(scope="module")
def learned():
    density = pixel_cnn(8, 1, 3, LEVELS)
    train = minimiser(epochs=60, batch_size=20, learning_rate=1e-2)
    state = pixel_defend(first_pixel, density, train, 0.5).fit(jax.random.key(0), None, stripes(200), np.zeros(200, np.int32))
    return density, state["density"]


def test_the_density_learns_the_data_by_maximum_likelihood(learned):
    """Stripes are two images, each as often as the other: 1 bit each, all others are next to impossible."""
    density, variables = learned
    bits = -jax.jit(density.log_likelihood)(variables, jnp.asarray(stripes(20))) / np.log(2)
    np.testing.assert_allclose(bits, 1, atol=0.3)
    assert jax.jit(density.log_likelihood)(variables, jnp.zeros((1, 6, 6, 1)))[0] < -50


def test_noisy_stripes_are_restored_but_for_what_lies_outside_the_ball(learned):
    density, variables = learned
    defense = pixel_defend(first_pixel, density, minimiser(), 0.4)
    clean = stripes(10, 1)
    noisy = np.clip(clean + np.random.default_rng(2).uniform(-0.35, 0.35, clean.shape).astype(np.float32), 0, 1)
    purify = jax.jit(defense.purify)
    np.testing.assert_allclose(purify({"defense": {"density": variables}}, jnp.asarray(noisy)), clean, atol=1e-6)
    far = 1 - clean
    moved = purify({"defense": {"density": variables}}, jnp.asarray(0.6 * clean + 0.4 * far))
    assert np.abs(moved - (0.6 * clean + 0.4 * far)).max() <= 0.4 + 1e-5


def test_each_value_is_the_likeliest_level_of_its_ball_given_those_before(learned):
    """A NumPy loop, with a whole pass of the network for every value."""
    density, variables = learned
    apply = jax.jit(density.apply)
    epsilon, levels = 0.3, np.linspace(0, 1, LEVELS)
    images = np.random.default_rng(3).uniform(size=(2, 6, 6, 1)).astype(np.float32)
    expected = images.copy()
    for place in np.ndindex(6, 6, 1):
        scores = np.asarray(apply(variables, jnp.asarray(expected)))[(slice(None), *place)]
        for b in range(2):
            allowed = [k for k in range(LEVELS) if abs(levels[k] - images[(b, *place)]) <= epsilon]
            expected[(b, *place)] = levels[max(allowed, key=lambda k: scores[b, k])]
    defense = pixel_defend(first_pixel, density, minimiser(), epsilon)
    purified = jax.jit(defense.purify)({"defense": {"density": variables}}, jnp.asarray(images))
    np.testing.assert_allclose(purified, expected, atol=1e-6)


def test_attacks_get_the_identitys_derivative(learned):
    density, variables = learned
    defense = pixel_defend(first_pixel, density, minimiser(), 0.3)
    full = {"target": None, "defense": {"density": variables}}
    gradient = jax.jit(jax.grad(lambda x: defense.apply(full, x)[:, 1].sum()))(jnp.full((1, 6, 6, 1), 0.5))
    np.testing.assert_array_equal(gradient.reshape(-1), np.eye(36)[1])


def test_likely_images_are_left_where_a_share_is(learned):
    """Of four kinds of images, each rarer than the one before, the two likeliest are above the median."""
    density, variables = learned
    kinds = np.concatenate([np.clip(stripes(5, 4) + shift, 0, 1) for shift in (0.0, 0.1, 0.5, 1.0)]).astype(np.float32)
    defense = pixel_defend(first_pixel, density, lambda key, name, params, loss, data: variables, 0.5, 0.5, batch_size=7)
    state = defense.fit(jax.random.key(0), None, kinds, np.zeros(20, np.int32))
    likelihoods = np.asarray(jax.jit(density.log_likelihood)(variables, jnp.asarray(kinds)))
    np.testing.assert_allclose(state["threshold"], np.quantile(likelihoods, 0.5), rtol=1e-4)
    purified = jax.jit(defense.purify)({"defense": state}, jnp.asarray(kinds))
    np.testing.assert_array_equal(purified[:10], kinds[:10])
    assert (np.abs(purified[10:15] - kinds[10:15]).max((1, 2, 3)) > 0.1).all()


@pytest.mark.parametrize("arguments", [{"epsilon": 0.1}, {"epsilon": 1.5}, {"unchanged": 1.0}, {"batch_size": 0}])
def test_impossible_arguments_are_refused(arguments):
    with pytest.raises(ValueError, match=str(next(iter(arguments.values())))):
        pixel_defend(first_pixel, pixel_cnn(num_levels=LEVELS), minimiser(), **arguments)
