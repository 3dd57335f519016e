"""Convolution as matrix products, which stays fast on a CPU: inside a scan, and where it is differentiated.

Images are [C, H, W, B], as in `models.layers`.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from mgan_jax.types import Array

UPSAMPLED = np.array([[[1, 0, 0], [0, 1, 1], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 1]]], np.float32)
"""[offset of an upsampled pixel, tap on the small image, tap on the upsampled one]: which pixel a 3-tap filter reads."""


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


def _settled(x: Array) -> Array:
    """The array [C, H, W, B] as it is, computed before anything reads it.

    XLA otherwise computes it where a matrix product reads it as a matrix, with divisions for every element's place.
    """
    if x.shape[1] < 2:
        return x

    def copy(row: int, done: Array) -> Array:
        return lax.dynamic_update_slice_in_dim(done, lax.dynamic_slice_in_dim(x, row, 1, 1), row, 1)

    return lax.fori_loop(0, x.shape[1], copy, jnp.zeros_like(x))


def _spread(gradient: Array, kernel: Array, padding: Padding) -> Array:
    """Derivative of `_product` by its images: every pixel's product with the kernel, added where the kernel read.

    Args:
      gradient: [out, H', W', B].
      kernel: [h, w, C, out].
      padding: of the correlation.

    Returns:
      [C, H, W, B].
    """
    height, width, channels, out = kernel.shape
    products = kernel.reshape(-1, out) @ _settled(gradient).reshape(out, -1)
    products = products.reshape(height, width, channels, *gradient.shape[1:])
    (top, bottom), (left, right) = padding
    # Where tap (i, j) begins and ends in images that have their padding no more; negative: cut off.
    down = [(i - top, height - 1 - i - bottom, 0) for i in range(height)]
    across = [(j - left, width - 1 - j - right, 0) for j in range(width)]
    taps = [(i, j) for i in range(height) for j in range(width)]
    zero = jnp.zeros((), products.dtype)
    return sum(lax.pad(products[i, j], zero, ((0, 0, 0), down[i], across[j], (0, 0, 0))) for i, j in taps)


@partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _correlate(images: Array, kernel: Array, padding: Padding, finished: bool = False) -> Array:
    """`_product`, whose derivatives are matrix products too: what differentiating it gives is several times slower."""
    return _product(images, kernel, padding, finished)


def _forward(images: Array, kernel: Array, padding: Padding, finished: bool) -> tuple[Array, tuple[Array, Array]]:
    return _correlate(images, kernel, padding, True), (images, kernel)


def _backward(padding: Padding, finished: bool, saved: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    images, kernel = saved
    height, width, channels, out = kernel.shape
    padded = jnp.pad(images, ((0, 0), *padding, (0, 0)))
    if channels <= out:
        to_images = _spread(gradient, kernel, padding)
        patches = _patches(padded, gradient.shape[1:3], height, width, finished=True)
        patches = patches.reshape(height * width * channels, -1)
        to_kernel = (patches @ gradient.reshape(out, -1).T).reshape(kernel.shape)
        return to_images.astype(images.dtype), to_kernel.astype(kernel.dtype)
    turned = tuple((size - 1 - low, size - 1 - high) for size, (low, high) in zip((height, width), padding, strict=True))
    to_images = _correlate(gradient, kernel[::-1, ::-1].transpose(0, 1, 3, 2), turned, True)
    # Slices of the gradient instead of the images, padded so far that every tap has one.
    spread = jnp.pad(gradient, ((0, 0), (height - 1, height - 1), (width - 1, width - 1), (0, 0)))
    patches = _patches(spread, padded.shape[1:3], height, width, finished=True).reshape(height * width * out, -1)
    products = (patches @ padded.reshape(channels, -1).T).reshape(height, width, out, channels)
    return to_images.astype(images.dtype), products[::-1, ::-1].transpose(0, 1, 3, 2).astype(kernel.dtype)


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
        images, kernel = promoted(images, kernel)
        return lax.conv_general_dilated(images, kernel, strides, padding, dimension_numbers=("CHWN", "HWIO", "CHWN"))
    pads = tuple(map(tuple, lax.padtype_to_pads(images.shape[1:3], (height, width), strides, padding)))
    if stride == 1:
        return _correlate(images, kernel, pads)
    images = jnp.pad(images, ((0, 0), *pads, (0, 0)))
    shape = tuple((size - tap) // stride + 1 for size, tap in zip(images.shape[1:3], (height, width), strict=True))
    return jnp.tensordot(kernel.reshape(-1, out).T, _patches(images, shape, height, width, stride, finished=True), 1)


def promoted(images: Array, kernel: Array) -> tuple[Array, Array]:
    """Both in the dtype that their products have: XLA's convolution takes no two."""
    dtype = jnp.promote_types(images.dtype, kernel.dtype)
    return images.astype(dtype), kernel.astype(dtype)


def upsampled_convolution(images: Array, kernel: Array) -> Array:
    """A 3 x 3 convolution of images whose pixels are first repeated 2 x 2, [C, H, W, B] -> [out, 2 H, 2 W, B].

    The repeated pixels are never made: each of the four offsets of the larger image is a filter of its own on the small one.
    """
    small = jnp.einsum("pai,qbj,ijco->abcpqo", UPSAMPLED, UPSAMPLED, kernel)
    made = convolution(images, small.reshape(*small.shape[:3], -1))
    out, (height, width, batch) = kernel.shape[-1], made.shape[1:]
    offsets = made.reshape(2, 2, out, height, width, batch).transpose(2, 3, 0, 4, 1, 5)
    return offsets.reshape(out, 2 * height, 2 * width, batch)
