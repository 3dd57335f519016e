"""U-Net against a direct computation that concatenates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mgan_jax.models.unet import unet

pytestmark = pytest.mark.numerical


def convolved(x, params, stride=1):
    axes = ("NHWC", "HWIO", "NHWC")
    return lax.conv_general_dilated(x, params["kernel"], (stride, stride), "SAME", dimension_numbers=axes)


def test_it_equals_a_decoder_that_concatenates_what_the_encoder_saw():
    network = unet((3, 5), num_convolutions=2)
    images = jax.random.uniform(jax.random.key(0), (2, 8, 8, 2))
    variables = network.init(jax.random.key(1), (8, 8, 2))
    biased = jax.tree.map(lambda leaf: leaf if leaf.ndim > 1 else leaf + jnp.arange(leaf.size) / 7, variables)
    p = biased["params"]
    bias = lambda i: p[f"Conv_{i}"]["bias"][None, None, None]  # noqa: E731
    layer = lambda x, i, stride=1: jax.nn.relu(convolved(x, p[f"Conv_{i}"], stride) + bias(i))  # noqa: E731
    large = layer(layer(images, 0), 1)
    small = layer(layer(large, 2, 2), 3)
    repeated = jnp.repeat(jnp.repeat(small, 2, 1), 2, 2)
    both = {"kernel": jnp.concatenate([p["Conv_4"]["kernel"], p["Conv_5"]["kernel"]], axis=2)}
    joined = jax.nn.relu(convolved(jnp.concatenate([repeated, large], -1), both) + bias(4) + bias(5))
    expected = 0.1 * (convolved(layer(joined, 6), p["Conv_7"]) + bias(7))
    np.testing.assert_allclose(jax.jit(network.apply)(biased, images), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(8, 8, 1), (7, 9, 3)])
def test_it_takes_any_size_each_image_on_its_own(shape):
    network = unet((2, 3, 4))
    variables = network.init(jax.random.key(0), shape)
    images = jax.random.uniform(jax.random.key(1), (3, *shape))
    apply = jax.jit(network.apply)
    made = apply(variables, images)
    assert made.shape == images.shape
    np.testing.assert_allclose(made[:1], apply(variables, images[:1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("arguments", [{"widths": ()}, {"widths": (4, 0)}, {"num_convolutions": 0}])
def test_impossible_shapes_are_refused(arguments):
    with pytest.raises(ValueError, match="choose"):
        unet(**arguments)
