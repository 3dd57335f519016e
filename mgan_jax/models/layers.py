"""What the networks are made of: convolution that stays fast in a scan, pooling, and layers whose structure is data."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from mgan_jax.types import Array

NARROW = 33
"""Below so many input channels the patches of a convolution are cheaper on a CPU than XLA's convolution in a loop."""


def convolution(images: Array, kernel: Array, window_strides, padding, lhs_dilation=None, rhs_dilation=None, **options) -> Array:
    """`lax.conv_general_dilated` for NHWC images; on a CPU narrow ones become slices and one matrix product.

    XLA's CPU convolution loses its threads inside `lax.scan`, where a matrix product keeps them.

    Args:
      images: [B, H, W, C].
      kernel: [h, w, C, out].
      window_strides, padding, lhs_dilation, rhs_dilation, **options: as in `lax.conv_general_dilated`.

    Returns:
      [B, H', W', out].
    """
    height, width, channels, out = kernel.shape
    plain = lhs_dilation in (None, (1, 1)) and rhs_dilation in (None, (1, 1)) and images.shape[-1] == channels
    if jax.default_backend() != "cpu" or channels >= NARROW or not plain:
        return lax.conv_general_dilated(
            images, kernel, window_strides, padding, lhs_dilation=lhs_dilation, rhs_dilation=rhs_dilation, **options
        )
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(images.shape[1:3], (height, width), window_strides, padding)
    images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    stride_h, stride_w = window_strides
    rows = (images.shape[1] - height) // stride_h + 1
    columns = (images.shape[2] - width) // stride_w + 1
    patches = [
        images[:, i : i + stride_h * rows : stride_h, j : j + stride_w * columns : stride_w]
        for i in range(height)
        for j in range(width)
    ]
    return jnp.concatenate(patches, axis=-1) @ kernel.reshape(-1, out)


def conv(features: int, size: int, strides: int = 1, padding: str = "SAME", **options) -> nn.Conv:
    """A square Linen convolution [B, H, W, C] -> [B, H', W', features] through `convolution`, kernels left at zero.

    `classifier.draw_kernels` fills the kernels of a whole network from one draw, which compiles ten times faster.
    """
    return nn.Conv(
        features,
        (size, size),
        strides=strides,
        padding=padding,
        kernel_init=nn.initializers.zeros,
        conv_general_dilated=convolution,
        **options,
    )


def dense(features: int, **options) -> nn.Dense:
    """A Linen dense layer [B, in] -> [B, features], its kernel left at zero as in `conv`."""
    return nn.Dense(features, kernel_init=nn.initializers.zeros, **options)


def max_pool(images: Array) -> Array:
    """2 x 2 maxima, [B, H, W, C] -> [B, H // 2, W // 2, C]; a tie's gradient goes to the first maximum alone."""
    height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
    largest = images[:, 0:height:2, 0:width:2]
    for i, j in ((0, 1), (1, 0), (1, 1)):
        other = images[:, i:height:2, j:width:2]
        largest = jnp.where(other > largest, other, largest)
    return largest


def flatten(images: Array) -> Array:
    """[B, ...] -> [B, features]."""
    return images.reshape(images.shape[0], -1)


class Gated(nn.Module):
    """A layer followed by ReLU whose structure is data: gates beside the parameters, written by LD, LA and AFR.

    Plain: relu(f(x)). Residual, where input and output shapes agree: x + relu(f(x)). The gates, scalars of the
    collection `structure`, rest at `activation=True`, `active=True`, `repeated=False`; at rest the layer computes
    exactly what it would without them.

    Attributes:
      layer: f, a Linen layer.
      residual: whether x is added; only then do the gates `active` and `repeated` exist.
    """

    layer: nn.Module
    residual: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        gate = lambda name, rest: self.variable("structure", name, lambda: jnp.array(rest)).value  # noqa: E731
        activation = gate("activation", True)
        branch = lambda z: jnp.where(activation, nn.relu(z), z)  # noqa: E731
        z = self.layer(x)
        if not self.residual:
            return branch(z)
        active, repeated = gate("active", True), gate("repeated", False)
        y = x + jnp.where(active, branch(z), 0.0)
        # Linen's scopes do not reach into lax.cond: the second application works on the parameters themselves.
        layer, params = self.layer.clone(parent=None), {"params": self.layer.variables["params"]}
        return lax.cond(repeated, lambda y: y + branch(layer.apply(params, y)), lambda y: y, y)
