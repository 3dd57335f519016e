"""AdvGAN's discriminator (Xiao et al. 2018, arXiv:1801.02610)."""

import flax.linen as nn
import jax.numpy as jnp

from mgan_jax.models.classifier import initialise
from mgan_jax.models.generator import instance_norm
from mgan_jax.models.layers import conv, dense, flatten
from mgan_jax.types import Array, Network


class Discriminator(nn.Module):
    """Images [B, H, W, C] -> scores [B]; real images are to get 1, adversarial ones 0."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = images
        for i, width in enumerate(self.widths):
            x = conv(width, 3, strides=2)(x)
            x = nn.leaky_relu(x if i == 0 else instance_norm()(x), 0.2)
        return dense(1)(flatten(x))[:, 0]


def discriminator(widths: tuple[int, ...] = (8, 16, 32)) -> Network:
    """Convolutions with stride 2 and one dense unit, for the least-squares loss; any image size from 8 pixels on."""
    module = Discriminator(tuple(widths))
    return Network(
        init=lambda key, image_shape: initialise(key, module, jnp.zeros((1, *image_shape))),
        apply=module.apply,
    )
