"""The perturbation generator: any image of 4 x 4 pixels or more, and no other array."""

import jax
import jax.numpy as jnp
import pytest

from mgan_jax.models.generator import generator


@pytest.mark.parametrize("shape", [(4, 4, 1), (5, 9, 3), (8, 8, 1)])
def test_perturbations_have_the_images_shape_and_the_bound(shape):
    network = generator(0.1, (4, 8, 8), 1)
    variables = network.init(jax.random.key(0), shape)
    found = network.apply(variables, jnp.ones((2, *shape)))
    assert found.shape == (2, *shape) and float(jnp.abs(found).max()) <= 0.1


@pytest.mark.parametrize("shape", [(2, 1, 28, 28), (2, 3, 4, 4), (2, 8, 3, 1), (8, 8, 1), (2, 2, 8, 8, 1)])
def test_channels_first_and_smaller_images_are_refused_before_and_after_training(shape):
    network = generator(0.1, (4, 8, 8), 1)
    with pytest.raises(ValueError, match=r"\[B, H, W, C\] with H and W of at least 4, channels last"):
        network.init(jax.random.key(0), shape[1:])
    variables = network.init(jax.random.key(0), (8, 8, 1))
    with pytest.raises(ValueError, match=r"\[B, H, W, C\] with H and W of at least 4, channels last"):
        jax.eval_shape(network.apply, variables, jnp.ones(shape))
