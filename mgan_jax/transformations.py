"""What happens to an image between its maker and the network: noise, rotation, blur, fewer bits (Kurakin et al. 2017,
arXiv:1607.02533, section 3.4).

Each factory binds its strength and returns `transform(key, images [B, H, W, C]) -> [B, H, W, C]` in [0, 1], a plain function that
can be jitted; those that draw nothing leave the key alone. It raises ValueError for images that `inputs.as_images` refuses.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates

from mgan_jax.inputs import as_images
from mgan_jax.squeezers import bit_depth
from mgan_jax.types import Array

Transform = Callable[[Array, Array], Array]


def _on_images(transform: Transform) -> Transform:
    """The transformation of images as `inputs.as_images` gives them; halves are computed with in float32, and stay halves."""

    def run(key: Array, images: Array) -> Array:
        images = as_images(images)
        return transform(key, images.astype(jnp.promote_types(images.dtype, jnp.float32))).astype(images.dtype)

    return run


def gaussian_noise(standard_deviation: float) -> Transform:
    """Adds independent N(0, standard_deviation^2) to every value, then clips.

    Args:
      standard_deviation: in units of pixels in [0, 1].

    Raises:
      ValueError: it is negative or not finite.
    """
    _check("standard_deviation", standard_deviation, 0.0, math.inf)

    def transform(key: Array, images: Array) -> Array:
        return jnp.clip(images + standard_deviation * jax.random.normal(key, images.shape, images.dtype), 0.0, 1.0)

    return _on_images(transform)


def rotation(degrees: float) -> Transform:
    """Turns every image counterclockwise about its centre; bilinear, black from outside.

    Args:
      degrees: the angle.

    Raises:
      ValueError: it is not between -180 and 180.
    """
    _check("degrees", degrees, -180.0, 180.0)
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))

    def transform(key: Array, images: Array) -> Array:
        del key
        height, width = images.shape[1:3]
        rows, columns = (
            np.arange(size, dtype=np.float32).reshape(shape) - (size - 1) / 2
            for size, shape in ((height, (-1, 1)), (width, (1, -1)))
        )
        # Rows run downwards: each place of the result is turned clockwise to where it came from.
        places = [
            jnp.asarray(cosine * rows + sine * columns + (height - 1) / 2),
            jnp.asarray(cosine * columns - sine * rows + (width - 1) / 2),
        ]
        turned = jax.vmap(jax.vmap(lambda plane: map_coordinates(plane, places, order=1), -1, -1))
        return jnp.clip(turned(images), 0.0, 1.0)

    return _on_images(transform)


def blur(sigma: float) -> Transform:
    """A Gaussian filter cut off at four standard deviations, borders repeated.

    Args:
      sigma: standard deviation in pixels; 0 leaves the images.

    Raises:
      ValueError: it is negative or not finite.
    """
    _check("sigma", sigma, 0.0, math.inf)
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * np.square(offsets / sigma)) if reach else np.ones(1)
    weights = weights / weights.sum()

    def along(axis: int, images: Array) -> Array:
        padding = [(reach, reach) if i == axis else (0, 0) for i in range(images.ndim)]
        padded, size = jnp.pad(images, padding, mode="edge"), images.shape[axis]
        taps = (jax.lax.slice_in_dim(padded, i, i + size, axis=axis) for i in range(len(weights)))
        return sum(float(weight) * tap for weight, tap in zip(weights, taps, strict=True))

    def transform(key: Array, images: Array) -> Array:
        del key
        return jnp.clip(along(2, along(1, images)), 0.0, 1.0)

    return _on_images(transform)


def rounding(bits: int) -> Transform:
    """Rounds every value to one of 2^bits levels from 0 to 1; 8 is how images are saved.

    Args:
      bits: of a value.

    Raises:
      ValueError: they are no whole number from 1 to 16.
    """
    squeeze = bit_depth(bits)
    return lambda key, images: squeeze(images)


TRANSFORMATIONS: dict[str, Callable[..., Transform]] = {
    "gaussian_noise": gaussian_noise,
    "rotation": rotation,
    "blur": blur,
    "rounding": rounding,
}
"""By the name that a config has for them; each takes its strength."""


def transformation(name: str, strength: float) -> Transform:
    """The transformation of this name and strength.

    Raises:
      ValueError: there is none of this name, or its strength is out of range.
    """
    if name not in TRANSFORMATIONS:
        raise ValueError(f"unknown transformation {name!r}; choose from {', '.join(TRANSFORMATIONS)}")
    return TRANSFORMATIONS[name](strength)


def _check(name: str, value: float, low: float, high: float) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (number and math.isfinite(value) and low <= value <= high):
        span = f"from {low:g} to {high:g}" if math.isfinite(high) else f"from {low:g}"
        raise ValueError(f"{name} is {value!r}; choose a number {span}")
