"""Feature squeezers: fewer bits and spatial smoothing (Xu, Evans and Qi 2018, arXiv:1704.01155, section 3).

Each factory binds its numbers and returns `squeeze(images [B, H, W, C]) -> [B, H, W, C]` in [0, 1], a plain function that draws
nothing, treats every image by itself, and can be jitted. It raises ValueError for images that `inputs.as_images` refuses.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.inputs import as_images
from mgan_jax.types import Array

Squeeze = Callable[[Array], Array]


def straight_through(images: Array, changed: Array) -> Array:
    """`changed` [B, H, W, C], with the identity's derivative in `images` (Bengio et al. 2013, arXiv:1308.3432)."""
    return images + jax.lax.stop_gradient(changed - images)


def _on_images(squeeze: Squeeze) -> Squeeze:
    """The squeezer of images as `inputs.as_images` gives them; halves are squeezed in float32, and stay halves."""

    def run(images: Array) -> Array:
        images = as_images(images)
        return squeeze(images.astype(jnp.promote_types(images.dtype, jnp.float32))).astype(images.dtype)

    return run


def bit_depth(bits: int = 1, slope: float | None = None) -> Squeeze:
    """Rounds every value to the nearest of 2^bits levels from 0 to 1; its derivative is 0 wherever there is one.

    Args:
      bits: of a value; 1, black and white, is the paper's for MNIST, 4 or 5 for colour.
      slope: None; or k, for an attacker: the derivative is that of sigmoid(k (x n - i - 1 / 2)) / n between the levels i and
        i + 1 of n = 2^bits - 1, so that it says which values are near to where they change.

    Raises:
      ValueError: bits that are no whole number from 1 to 16, or a slope that is not positive and finite.
    """
    _check_whole("bits", bits, 1, 16)
    levels = 2 ** int(bits) - 1
    if slope is None:
        return _on_images(lambda images: jnp.round(images * levels) / levels)
    if not 0 < slope < float("inf"):
        raise ValueError(f"slope is {slope}; choose a positive number, or none")

    def squeeze(images: Array) -> Array:
        scaled = images * levels
        stair = jax.nn.sigmoid(slope * (scaled - jax.lax.stop_gradient(jnp.floor(scaled)) - 0.5)) / levels
        return jax.lax.stop_gradient(jnp.round(scaled) / levels) + (stair - jax.lax.stop_gradient(stair))

    return _on_images(squeeze)


def median(size: int = 2) -> Squeeze:
    """The median of a size x size window in each channel; borders are mirrored, the outermost pixel repeated.

    As SciPy's `median_filter` has it, for even sizes too: the window of a pixel reaches size // 2 pixels up and left and
    (size - 1) // 2 down and right, so that of size 2 has its pixel in the lower right corner; of an even number of values the
    median is the upper of the two in the middle.

    Args:
      size: of the window, in pixels; 2 or 3 in the paper.

    Raises:
      ValueError: it is no whole number from 1 to 7.
    """
    _check_whole("size", size, 1, 7)
    before, after = size // 2, (size - 1) // 2

    def squeeze(images: Array) -> Array:
        height, width = images.shape[1:3]
        padded = jnp.pad(images, ((0, 0), (before, after), (before, after), (0, 0)), mode="symmetric")
        taps = [padded[:, i : i + height, j : j + width] for i in range(size) for j in range(size)]
        return _ranked(taps, len(taps) // 2)

    return _on_images(squeeze)


def _ranked(taps: list[Array], rank: int) -> Array:
    """Value by value the one of this rank among arrays of one shape, 0 the least.

    A selection by minima and maxima, which XLA fuses; its sort of a short axis is many times slower on a CPU.
    """
    rest = list(taps)
    for _ in range(rank + 1):
        least, others = rest[0], []
        for tap in rest[1:]:
            others.append(jnp.maximum(least, tap))
            least = jnp.minimum(least, tap)
        rest = others
    return least


def non_local_means(search_window: int = 11, patch_size: int = 3, strength: float = 4.0) -> Squeeze:
    """Every pixel becomes a mean of those around it whose patches look alike (Buades, Coll and Morel 2005).

    NL(v)(i) = sum_j w(i, j) v(j) / sum_j w(i, j), w(i, j) = exp(-d(i, j)^2 / h^2), where d^2 is the mean squared difference of
    the patches around i and j, over pixels and channels, and j runs through the search window around i; borders are mirrored.
    Xu et al.'s 11-3-2, 11-3-4, 13-3-2 and 13-3-4 are search_window-patch_size-strength (they smooth brightness and colour apart,
    as OpenCV does; here patches are compared in all channels at once).

    Memory is that of some copies of the images, whatever the search window: offsets are taken one after the other, and a
    derivative computes their weights anew.

    Args:
      search_window: pixels a side, odd.
      patch_size: pixels a side, odd.
      strength: h, in units of 8-bit levels (1 / 255).

    Raises:
      ValueError: a window that is not odd or not from 1 to 63, or a strength that is not positive and finite.
    """
    for name, value in (("search_window", search_window), ("patch_size", patch_size)):
        _check_whole(name, value, 1, 63)
        if value % 2 == 0:
            raise ValueError(f"{name} is {value}; choose an odd number, so that the window has a middle")
    if not 0 < strength < float("inf"):
        raise ValueError(f"strength is {strength}; choose a positive number")
    near, far = patch_size // 2, search_window // 2
    offsets = np.stack(np.meshgrid(*[np.arange(search_window, dtype=np.int32)] * 2), axis=-1).reshape(-1, 2)

    def box(values: Array, axis: int) -> Array:
        """Sums of patch_size neighbours along an axis, which shortens it."""
        size = values.shape[axis] - 2 * near
        return sum(jax.lax.slice_in_dim(values, i, i + size, axis=axis) for i in range(patch_size))

    def squeeze(images: Array) -> Array:
        height, width, channels = images.shape[1:]
        reach = near + far
        padded = jnp.pad(images, ((0, 0), (reach, reach), (reach, reach), (0, 0)), mode="symmetric")
        middle = padded[:, far : far + height + 2 * near, far : far + width + 2 * near]

        @jax.checkpoint
        def one(padded: Array, middle: Array, offset: Array) -> tuple[Array, Array]:
            around = jax.lax.dynamic_slice(padded, jnp.pad(offset, 1), middle.shape)
            squares = jnp.square(around - middle).sum(-1, keepdims=True)
            distance = box(box(squares, 1), 2) / (patch_size**2 * channels)
            weight = jnp.exp(-distance * (255 / strength) ** 2)
            return weight * around[:, near : near + height, near : near + width], weight

        def add(sums: tuple[Array, Array], offset: Array) -> tuple[tuple[Array, Array], None]:
            return jax.tree.map(jnp.add, sums, one(padded, middle, offset)), None

        start = jnp.zeros_like(images), jnp.zeros_like(images[..., :1])
        (total, weights), _ = jax.lax.scan(add, start, jnp.asarray(offsets))
        return jnp.clip(total / weights, 0.0, 1.0)

    return _on_images(squeeze)


SQUEEZERS: dict[str, Callable[..., Squeeze]] = {"bit_depth": bit_depth, "median": median, "non_local_means": non_local_means}
"""By the name that a config has for them."""


def squeezer(name: str | None = None, **arguments: Any) -> Squeeze:
    """The squeezer of this name, for configs: `squeezer(**{"name": "median", "size": 2})`.

    Raises:
      ValueError: there is none of this name, or it does not take these arguments.
    """
    if name not in SQUEEZERS:
        raise ValueError(f"unknown squeezer {name!r}; choose from {', '.join(SQUEEZERS)}")
    taken = inspect.signature(SQUEEZERS[name]).parameters
    unknown = [argument for argument in arguments if argument not in taken]
    if unknown:
        raise ValueError(f"squeezer {name} does not take {', '.join(unknown)}; its arguments are {', '.join(taken)}")
    return SQUEEZERS[name](**arguments)


def _check_whole(name: str, value: int, low: int, high: int) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and low <= value <= high and int(value) == value):
        raise ValueError(f"{name} is {value!r}; choose a whole number from {low} to {high}")
