"""What the networks are made of: convolution that stays fast in a scan, pooling, and layers whose structure is data.

Inside a network the batch is the last axis, [C, H, W, B] and [features, B]: on a CPU pooling, ReLU and narrow filters then run
over images as vectors. Accelerators lay arrays out as they like, whatever the order of their axes.
"""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mgan_jax.types import Array

UPSAMPLED = np.array([[[1, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]], np.float32)
"""[offset of an upsampled pixel, tap on the small image, tap on the upsampled one]: which pixel a 3-tap filter reads."""


def swap_batch(x: Array) -> Array:
    """The batch from the first axis to the last, or back: [B, H, W, C] <-> [C, H, W, B], [B, features] <-> [features, B]."""
    return jnp.swapaxes(x, 0, -1)


Padding = tuple[tuple[int, int], tuple[int, int]]


def _patches(images: Array, shape: tuple[int, ...], height: int, width: int, stride: int = 1, finished: bool = False) -> Array:
    """For each tap of a kernel the pixels it reads, [taps C, *shape, B] of padded images [C, H, W, B].

    XLA reads the taps side by side; of images that nothing else needs it then computes what made them (bias, ReLU, pooling) once
    for every tap. A loop over the taps makes it finish the images first.

    Args:
      images, shape, height, width, stride: of the convolution.
      finished: whether the images are kept anyway, as those of a training's forward pass are.
    """
    rows, columns = (stride * (size - 1) + 1 for size in shape)
    if finished:
        taps = [(i, j) for i in range(height) for j in range(width)]
        patches = jnp.stack([images[:, i : i + rows : stride, j : j + columns : stride] for i, j in taps])
        return patches.reshape(-1, *patches.shape[2:])
    sizes = (images.shape[0], rows, columns, images.shape[-1])

    def read(tap: Array) -> Array:
        return lax.dynamic_slice(images, (0, tap // width, tap % width, 0), sizes)[:, ::stride, ::stride]

    patches = lax.map(read, jnp.arange(height * width))
    return patches.reshape(-1, *patches.shape[2:])


def _product(images: Array, kernel: Array, padding: Padding, finished: bool) -> Array:
    """Stride 1, [C, H, W, B] and [h, w, C, out] -> [out, H', W', B], by slices of whichever side has fewer channels."""
    height, width, channels, out = kernel.shape
    images = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    rows, columns = images.shape[1] - height + 1, images.shape[2] - width + 1
    if channels <= out:
        return jnp.tensordot(kernel.reshape(-1, out).T, _patches(images, (rows, columns), height, width, finished=finished), 1)
    products = kernel.transpose(0, 1, 3, 2).reshape(-1, channels) @ images.reshape(channels, -1)
    products = products.reshape(height, width, out, *images.shape[1:])
    return sum(products[i, j][:, i : i + rows, j : j + columns] for i in range(height) for j in range(width))


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _correlate(images: Array, kernel: Array, padding: Padding, finished: bool = False) -> Array:
    """`_product`, whose derivatives are correlations again: the sum of padded arrays that differentiating slices gives is several
    times slower.
    """
    return _product(images, kernel, padding, finished)


def _forward(images: Array, kernel: Array, padding: Padding, finished: bool) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(images, kernel, padding, True), (images, kernel)


def _backward(padding: Padding, finished: bool, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    images, kernel = saved
    height, width, channels, out = kernel.shape
    turned = tuple((size - 1 - low, size - 1 - high) for size, (low, high) in zip((height, width), padding, strict=True))
    to_images = _correlate(gradient, kernel[::-1, ::-1].transpose(0, 1, 3, 2), turned, True)
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    if channels <= out:
        patches = _patches(padded, gradient.shape[1:3], height, width, finished=True)
        patches = patches.reshape(height * width * channels, -1)
        return to_images, (patches @ gradient.reshape(out, -1).T).reshape(kernel.shape)
    # Slices of the gradient instead, padded so far that every tap has one.
    spread = jnp.pad(gradient, ((0, 0), (height - 1, height - 1), (width - 1, width - 1), (0, 0)))
    patches = _patches(spread, padded.shape[1:3], height, width, finished=True).reshape(height * width * out, -1)
    products = (patches @ padded.reshape(channels, -1).T).reshape(height, width, out, channels)
    return to_images, products[::-1, ::-1].transpose(0, 1, 3, 2)


_correlate.defvjp(_forward, _backward)


def convolution(images: Array, kernel: Array, stride: int = 1, padding: str = "SAME") -> Array:
    """`lax.conv_general_dilated` of [C, H, W, B] images; on a CPU it becomes slices and matrix products.

    XLA's CPU convolution loses its threads inside `lax.scan`, where a matrix product keeps them. On a CPU it is differentiable in
    reverse mode only, to any order.

    Args:
      images: [C, H, W, B].
      kernel: [h, w, C, out].
      stride: of both axes.
      padding: "SAME" or "VALID".

    Returns:
      [out, H', W', B].
    """
    strides, (height, width, _, out) = (stride, stride), kernel.shape
    if jax.default_backend() != "cpu":
        return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=("CHWN", "HWIO", "CHWN"))
    pads = tuple(map(tuple, lax.padtype_to_pads(images.shape[1:3], (height, width), strides, padding)))
    if stride == 1:
        return _correlate(images, kernel, pads)
    images = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    shape = tuple((size - tap) // stride + 1 for size, tap in zip(images.shape[1:3], (height, width), strict=True))
    return jnp.tensordot(kernel.reshape(-1, out).T, _patches(images, shape, height, width, stride, finished=True), 1)


def upsampled_convolution(images: Array, kernel: Array) -> Array:
    """A 3 x 3 convolution of images whose pixels are first repeated 2 x 2, [C, H, W, B] -> [out, 2 H, 2 W, B].

    The repeated pixels are never made: each of the four offsets of the larger image is a filter of its own on the small one.
    """
    small = jnp.einsum("pai,qbj,ijco->abcpqo", UPSAMPLED, UPSAMPLED, kernel)
    made = convolution(images, small.reshape(*small.shape[:3], -1))
    out, (height, width, batch) = kernel.shape[-1], made.shape[1:]
    offsets = made.reshape(2, 2, out, height, width, batch).transpose(2, 3, 0, 4, 1, 5)
    return offsets.reshape(out, 2 * height, 2 * width, batch)


def _neurons(module: nn.Module) -> int:
    """How many neurons a layer has; as many as its kernel where it has one, which may be that of some neurons alone."""
    return module.get_variable("params", "kernel").shape[-1] if module.has_variable("params", "kernel") else module.features


class Conv(nn.Module):
    """A square convolution [C, H, W, B] -> [features, H', W', B] with bias, its kernel left at zero.

    `classifier.draw_kernels` fills the kernels of a whole network from one draw, which compiles ten times faster.

    Attributes:
      features: filters.
      size: of the kernel.
      stride: of both axes.
      padding: "SAME" or "VALID".
      upsample: whether pixels are repeated 2 x 2 first; only for size 3, stride 1 and "SAME".
      batch_first: XLA's own convolution of [B, H, W, C]; on a CPU the fastest of 32 channels and more where nothing is
        differentiated.
    """

    features: int
    size: int
    stride: int = 1
    padding: str = "SAME"
    upsample: bool = False
    batch_first: bool = False

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = _neurons(self)
        channels = x.shape[-1 if self.batch_first else 0]
        kernel = self.param("kernel", nn.initializers.zeros, (self.size, self.size, channels, features))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        if self.batch_first:
            axes = ("NHWC", "HWIO", "NHWC")
            y = lax.conv_general_dilated(x, kernel, (self.stride,) * 2, self.padding, dimension_numbers=axes)
            return y + bias[None, None, None]
        y = upsampled_convolution(x, kernel) if self.upsample else convolution(x, kernel, self.stride, self.padding)
        return y + bias[:, None, None, None]


class Dense(nn.Module):
    """A dense layer [in, B] -> [features, B] with bias, its kernel, [in, features], left at zero as in `Conv`."""

    features: int

    @nn.compact
    def __call__(self, x: Array) -> Array:
        features = _neurons(self)
        kernel = self.param("kernel", nn.initializers.zeros, (x.shape[0], features))
        bias = self.param("bias", nn.initializers.zeros, (features,))
        return kernel.T @ x + bias[:, None]


class InstanceNorm(nn.Module):
    """Each channel of each image normalised by its own mean and variance (Ulyanov et al. 2016, arXiv:1607.08022).

    No state, and a batch of one works. [C, H, W, B] -> [C, H, W, B], with scale and bias.
    """

    epsilon: float = 1e-6

    @nn.compact
    def __call__(self, x: Array) -> Array:
        scale = self.param("scale", nn.initializers.ones, (x.shape[0],))
        bias = self.param("bias", nn.initializers.zeros, (x.shape[0],))
        mean, variance = x.mean((1, 2), keepdims=True), x.var((1, 2), keepdims=True)
        weight = lax.rsqrt(variance + self.epsilon) * scale[:, None, None, None]
        return (x - mean) * weight + bias[:, None, None, None]


def max_pool(images: Array) -> Array:
    """2 x 2 maxima, [C, H, W, B] -> [C, H // 2, W // 2, B]; a tie's gradient goes to the first maximum alone."""
    height, width = images.shape[1] // 2 * 2, images.shape[2] // 2 * 2
    largest = images[:, 0:height:2, 0:width:2]
    for i, j in ((0, 1), (1, 0), (1, 1)):
        other = images[:, i:height:2, j:width:2]
        largest = jnp.where(other > largest, other, largest)
    return largest


def max_pool_batch_first(images: Array) -> Array:
    """`max_pool` of [B, H, W, C]; slices as there would be five times slower in this order of the axes."""
    return lax.reduce_window(images, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")


def flatten(images: Array) -> Array:
    """[C, H, W, B] -> [H W C, B]; features of a pixel stay together, as in images [B, H, W, C] that are flattened."""
    return images.transpose(1, 2, 0, 3).reshape(-1, images.shape[-1])


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

        def branch(z: Array) -> Array:
            if getattr(self.layer, "batch_first", False):
                # XLA fuses convolutions through a maximum, not through a select: three times faster, but another derivative at 0.
                return jnp.maximum(z, jnp.where(activation, 0.0, -jnp.inf))
            return jnp.where(activation, nn.relu(z), z)

        z = self.layer(x)
        if not self.residual:
            return branch(z)
        active, repeated = gate("active", True), gate("repeated", False)
        y = x + jnp.where(active, branch(z), 0.0)
        # Linen's scopes do not reach into lax.cond: the second application works on the parameters themselves.
        layer, params = self.layer.clone(parent=None), {"params": self.layer.variables["params"]}
        return lax.cond(repeated, lambda y: y + branch(layer.apply(params, y)), lambda y: y, y)
