"""AdvGAN's discriminator (Xiao et al. 2018, arXiv:1801.02610)."""

import flax.linen as nn
import jax.numpy as jnp

from mgan_jax.models.classifier import initialise
from mgan_jax.models.layers import Conv, Dense, InstanceNorm, flatten, swap_batch
from mgan_jax.types import Array, Network


class Discriminator(nn.Module):
    """Images [B, H, W, C] -> scores [B]; real images are to get 1, adversarial ones 0."""

    widths: tuple[int, ...]

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x = swap_batch(images)
        for i, width in enumerate(self.widths):
            x = Conv(width, 3, stride=2)(x)
            x = nn.leaky_relu(x if i == 0 else InstanceNorm()(x), 0.2)
        return Dense(1)(flatten(x))[0]


def discriminator(widths: tuple[int, ...] = (8, 16, 32)) -> Network:
    """Convolutions with stride 2 and one dense unit, for the least-squares loss; any image size from 8 pixels on.

    Raises:
      ValueError: no widths, or one below 1.
    """
    if not widths or min(widths) < 1:
        raise ValueError(f"widths is {tuple(widths)}; choose at least one width, all >= 1")
    module = Discriminator(tuple(widths))
    return Network(
        init=lambda key, image_shape: initialise(key, module, jnp.zeros((1, *image_shape))),
        apply=module.apply,
    )
