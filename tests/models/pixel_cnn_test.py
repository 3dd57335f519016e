"""PixelCNN: what looks at what, probabilities that sum to 1, and rewriting against one whole pass for each value."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.models.pixel_cnn import PixelCNN, pixel_cnn

pytestmark = pytest.mark.numerical


def drawn(network, shape, seed=0):
    """Variables with biases that are not zero, so that a border counted twice would show."""
    variables = network.init(jax.random.key(seed), shape)
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    return jax.tree.unflatten(tree, [x + 0.3 * jax.random.normal(k, x.shape) for k, x in zip(keys, leaves, strict=True)])


@pytest.mark.parametrize("shape", [(4, 5, 1), (3, 3, 2)])
def test_a_value_depends_on_all_values_in_sight_before_it_and_on_none_after(shape):
    """By the gradient at several images, where a masked weight is a factor of exactly 0 whatever the compiler does.

    At full reach and without blind spot a value changes the probabilities of the next.
    """
    levels, size = 5, int(np.prod(shape))
    variables = drawn(pixel_cnn(8, 2, 5, levels), shape)
    network = PixelCNN(8, 2, 5, levels, shape[-1])
    images = jnp.asarray(np.random.default_rng(0).uniform(size=(4, *shape)), jnp.float32)
    log_probabilities = jax.jit(network.apply)(variables, images)
    assert log_probabilities.shape == (4, *shape, levels)
    np.testing.assert_allclose(jnp.exp(log_probabilities).sum(-1), 1, rtol=1e-5)
    slopes = jax.jit(jax.vmap(jax.jacrev(lambda image: network.apply(variables, image[None])[0])))(images)
    influence = np.abs(np.asarray(slopes)).max((0, 4)).reshape(size, size).T
    assert not influence[np.tril_indices(size)].any()
    assert (np.diag(influence, 1)[: shape[1] * shape[2] - 1] > 0).all()


def test_probabilities_are_of_images_rounded_to_levels():
    """So that the levels of `apply` are what `PixelCNN`, without a gradient through rounding, is given."""
    network, shape = pixel_cnn(8, 2, 5, 5), (4, 5, 1)
    variables = drawn(network, shape)
    images = np.random.default_rng(0).uniform(size=(3, *shape)).astype(np.float32)
    expected = PixelCNN(8, 2, 5, 5, 1).apply(variables, jnp.asarray(np.round(4 * images) / 4))
    np.testing.assert_allclose(network.apply(variables, jnp.asarray(images)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("shape", "levels"), [((1, 2, 1), 3), ((2, 1, 1), 3), ((1, 2, 2), 2)])
def test_likelihoods_of_all_images_sum_to_one(shape, levels):
    network = pixel_cnn(4, 1, 3, levels)
    size = int(np.prod(shape))
    images = np.array(list(itertools.product(np.linspace(0, 1, levels), repeat=size)), np.float32).reshape(-1, *shape)
    likelihoods = jax.jit(network.log_likelihood)(drawn(network, shape), jnp.asarray(images))
    assert likelihoods.shape == (levels**size,) and np.ptp(likelihoods) > 0.1
    np.testing.assert_allclose(np.exp(np.asarray(likelihoods, np.float64)).sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5, 4, 1), (3, 3, 2)])
def test_rewriting_equals_a_whole_pass_for_every_value(shape):
    levels = 4
    network = pixel_cnn(8, 2, 3, levels)
    variables, apply = drawn(network, shape), jax.jit(network.apply)
    images = np.random.default_rng(1).uniform(size=(3, *shape)).astype(np.float32)
    # Levels that any difference in either argument would change.
    choose = lambda p, old: (levels * old + 20 * jnp.exp(p[:, 1])).astype(jnp.int32) % levels  # noqa: E731
    naive = images.copy()
    for place in np.ndindex(*shape):
        at = (slice(None), *place)
        log_probabilities = apply(variables, jnp.asarray(naive))[at]
        naive[at] = np.asarray(choose(log_probabilities, images[at])) / (levels - 1)
    rewrite = jax.jit(lambda v, x: network.rewrite(v, x, choose))
    np.testing.assert_allclose(rewrite(variables, jnp.asarray(images)), naive, atol=1e-6)
    assert len(np.unique(naive)) == levels


def test_rewriting_by_draws_has_the_models_distribution():
    """Of a 1 x 2 image all outcomes are enumerated; their frequencies among 4,000 draws are within five standard errors."""
    network, number = pixel_cnn(4, 1, 3, 2), 4000
    variables = drawn(network, (1, 2, 1))
    uniform = jax.random.uniform(jax.random.key(5), (number, 1, 2, 1))
    choose = lambda p, old: (old > jnp.exp(p[:, 0])).astype(jnp.int32)  # noqa: E731
    made = np.asarray(jax.jit(lambda v, x: network.rewrite(v, x, choose))(variables, uniform)).reshape(number, 2)
    outcomes = np.array(list(itertools.product((0, 1), repeat=2)), np.float32)
    expected = np.exp(jax.jit(network.log_likelihood)(variables, jnp.asarray(outcomes.reshape(4, 1, 2, 1))))
    found = np.array([(made == outcome).all(1).mean() for outcome in outcomes])
    assert (np.abs(found - expected) < 5 * np.sqrt(expected * (1 - expected) / number)).all()


@pytest.mark.parametrize("arguments", [{"size": 4}, {"num_levels": 1}, {"width": 0}, {"num_layers": -1}])
def test_impossible_shapes_are_refused(arguments):
    with pytest.raises(ValueError, match=str(next(iter(arguments.values())))):
        pixel_cnn(**arguments)


def test_a_width_that_the_channels_do_not_divide_is_refused():
    with pytest.raises(ValueError, match="width is 8"):
        pixel_cnn(8).init(jax.random.key(0), (4, 4, 3))
