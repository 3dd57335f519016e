"""AdvGAN's perturbation generator (Xiao et al. 2018, arXiv:1801.02610)."""

from collections.abc import Sequence

import flax.linen as nn
import jax.numpy as jnp

from mgan_jax.models.classifier import initialise
from mgan_jax.models.layers import Conv, InstanceNorm, swap_batch
from mgan_jax.types import Array, Network, Variables

MIN_SIZE = 4


class Generator(nn.Module):
    """Images [B, H, W, C] -> directions [B, H, W, C] in (-1, 1), for any H, W >= 4."""

    widths: tuple[int, ...]
    num_residual_blocks: int

    @nn.compact
    def __call__(self, images: Array) -> Array:
        x, sizes = swap_batch(images), []
        for i, width in enumerate(self.widths):
            sizes.append(x.shape[1:3])
            x = nn.relu(InstanceNorm()(Conv(width, 3, stride=1 if i == 0 else 2)(x)))
        for _ in range(self.num_residual_blocks):
            y = nn.relu(InstanceNorm()(Conv(self.widths[-1], 3)(x)))
            x = x + InstanceNorm()(Conv(self.widths[-1], 3)(y))
        for width, (height, breadth) in zip(self.widths[-2::-1], sizes[:0:-1], strict=True):
            x = Conv(width, 3, upsample=True)(x)[:, :height, :breadth]
            x = nn.relu(InstanceNorm()(x))
        return swap_batch(jnp.tanh(Conv(images.shape[-1], 3)(x)))


def generator(epsilon: float = 0.3, widths: tuple[int, ...] = (8, 16, 32), num_residual_blocks: int = 4) -> Network:
    """Encoder with strides 1, 2, 2, residual bottleneck, decoder; tanh times epsilon.

    The decoder repeats pixels and convolves, instead of a transposed convolution: no checkerboards, any image size.

    Args:
      epsilon: bound of the perturbation in L-inf, in units of images in [0, 1].
      widths: channels of the encoder; the decoder mirrors them.
      num_residual_blocks: blocks of two 3 x 3 convolutions at the narrowest place.

    Returns:
      A `Network` whose apply gives perturbations [B, H, W, C] in [-epsilon, epsilon].

    Raises:
      ValueError: epsilon outside [0, 1], or no widths, or one below 1; when called, images that are not [B, H, W, C] with H and W
        of at least 4, such as those whose channels come first.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is {epsilon}; it bounds changes of pixels in [0, 1], so choose it between 0 and 1")
    if not widths or min(widths) < 1 or num_residual_blocks < 0:
        raise ValueError(f"widths is {tuple(widths)}, num_residual_blocks {num_residual_blocks}; choose widths >= 1, blocks >= 0")
    module = Generator(tuple(widths), num_residual_blocks)

    def check(shape: Sequence[int]) -> None:
        if len(shape) != 4 or min(shape[1:3]) < MIN_SIZE:
            raise ValueError(
                f"images are of the shape {tuple(shape)}; a generator takes [B, H, W, C] with H and W of at least {MIN_SIZE}, "
                "channels last"
            )

    def init(key: Array, image_shape: Sequence[int]) -> Variables:
        check((1, *image_shape))
        return initialise(key, module, jnp.zeros((1, *image_shape)))

    def apply(variables: Variables, images: Array) -> Array:
        check(images.shape)
        return epsilon * module.apply(variables, images)

    return Network(init, apply)
