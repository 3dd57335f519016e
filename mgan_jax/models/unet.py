"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597): a decoder that sees what the encoder saw at its size."""

import flax.linen as nn
import jax.numpy as jnp

from mgan_jax.models.classifier import initialise
from mgan_jax.models.layers import Conv, swap_batch
from mgan_jax.types import Array, Network


class UNet(nn.Module):
    """Images [B, H, W, C] -> [B, H, W, C]."""

    widths: tuple[int, ...]
    num_convolutions: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x, beside = swap_batch(images), []
        for i, width in enumerate(self.widths):
            x = self.deepened(nn.relu(Conv(width, 3, stride=1 if i == 0 else 2)(x)), width)
            beside.append(x)
        for width, lateral in zip(self.widths[-2::-1], beside[-2::-1], strict=True):
            # A convolution of concatenated channels is the sum of convolutions: the upsampled ones are never made.
            larger = Conv(width, 3, upsample=True)(x)[:, : lateral.shape[1], : lateral.shape[2]]
            x = self.deepened(nn.relu(larger + Conv(width, 3)(lateral)), width)
        return swap_batch(0.1 * Conv(images.shape[-1], 1)(x))

    def deepened(self, x: Array, width: int) -> Array:
        for _ in range(self.num_convolutions - 1):
            x = nn.relu(Conv(width, 3)(x))
        return x


def unet(widths: tuple[int, ...] = (8, 16, 32), num_convolutions: int = 1) -> Network:
    """An encoder with strides 1, 2, 2, ..., and a decoder that concatenates its own channels with the encoder's of each size.

    This is the shape of the denoiser of Liao et al. 2018 (arXiv:1712.02976), narrower, whose pixels are repeated where
    theirs are interpolated, and without batch normalisation: what becomes of an image does not depend on the others.

    Args:
      widths: channels at each size, from the image's own to the smallest, for images of any size.
      num_convolutions: 3 x 3 convolutions with ReLU at each size, on the way down and on the way up; theirs has 2 to 3.

    Returns:
      A `Network` whose apply gives any numbers [B, H, W, C], divided by 10 so that they are small before anything is learned.

    Raises:
      ValueError: no widths, one below 1, or no convolutions.
    """
    if not widths or min(widths) < 1 or num_convolutions < 1:
        raise ValueError(f"widths is {tuple(widths)}, num_convolutions {num_convolutions}; choose all >= 1, at least one width")
    module = UNet(tuple(widths), num_convolutions)
    return Network(
        init=lambda key, image_shape: initialise(key, module, jnp.zeros((1, *image_shape))),
        apply=module.apply,
    )
