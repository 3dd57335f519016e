"""Patches laid on images at drawn places, sizes and angles: what patch attacks share."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates

from mgan_jax.types import Array

SHAPES = ("round", "square")


class Places(NamedTuple):
    """Where a patch lies on each of B images, each [B]: its centre in pixels, its diameter or side in pixels, its angle.

    `row` and `column` count as indices do: the middle of an H x W image is ((H - 1) / 2, (W - 1) / 2). Angles are in radians,
    from the rows' axis towards the columns'.
    """

    row: Array
    column: Array
    side: Array
    angle: Array


def check_patch(area: float | tuple[float, float], shape: str, max_rotation: float) -> tuple[float, float]:
    """The range of areas, low and high.

    Raises:
      ValueError: areas that are not between 0 and 1 in this order, another shape, a rotation outside 0 to 180 degrees.
    """
    low, high = (area, area) if isinstance(area, (int, float)) else area
    if not 0 < low <= high <= 1:
        raise ValueError(f"area is {area}; it is a share of the image, so choose it, or low <= high, above 0 and up to 1")
    if shape not in SHAPES:
        raise ValueError(f"shape is {shape!r}; choose one of {', '.join(SHAPES)}")
    if not 0 <= max_rotation <= 180:
        raise ValueError(f"max_rotation is {max_rotation}; choose degrees between 0 and 180")
    return low, high


def side_of(area: float | Array, shape: str, image_shape: tuple[int, ...]) -> Array | float:
    """Diameter of the disc, or side of the square, that covers this share of an image (H, W, C), in pixels."""
    return (area * image_shape[0] * image_shape[1] / (math.pi / 4 if shape == "round" else 1)) ** 0.5


def draw_places(
    key: Array, number: int, image_shape: tuple[int, int, int], area: tuple[float, float], shape: str, max_rotation: float
) -> Places:
    """Uniform draws of area, angle in [-max_rotation, max_rotation] degrees, and centre, the whole patch within the image.

    A patch too large for that is centred; `key` is consumed.
    """
    draws = jax.random.uniform(key, (4, number))
    side = side_of(area[0] + (area[1] - area[0]) * draws[0], shape, image_shape)
    angle = math.radians(max_rotation) * (2 * draws[1] - 1)
    reach = side / 2 if shape == "round" else side / 2 * (jnp.abs(jnp.cos(angle)) + jnp.abs(jnp.sin(angle)))

    def centre(size: int, draw: Array) -> Array:
        return (size - 1) / 2 + jnp.maximum(size / 2 - reach, 0.0) * (2 * draw - 1)

    return Places(centre(image_shape[0], draws[2]), centre(image_shape[1], draws[3]), side, angle)


def place(patches: Array, images: Array, places: Places, shape: str) -> tuple[Array, Array]:
    """Images with a patch on each, and where it covers them.

    A pixel is covered if its centre lies in the disc or square; then it is the patch's bilinear value there, else it is
    untouched. A patch whose side is its number of pixels, at angle 0 and on the grid, is copied pixel by pixel.

    Args:
      patches: [P, P, C], the same for all, or [B, P, P, C].
      images: [B, H, W, C].
      places: of [B] patches.
      shape: "round" or "square".

    Returns:
      (images [B, H, W, C], covered [B, H, W] bool).
    """
    size = patches.shape[-2]
    rows, columns = (jnp.arange(n, dtype=images.dtype) for n in images.shape[1:3])

    def one(patch: Array, image: Array, where: Places) -> tuple[Array, Array]:
        down, right = (rows - where.row)[:, None], (columns - where.column)[None, :]
        cos, sin = jnp.cos(where.angle), jnp.sin(where.angle)
        u, v = cos * down + sin * right, cos * right - sin * down
        extent = jnp.sqrt(u**2 + v**2) if shape == "round" else jnp.maximum(jnp.abs(u), jnp.abs(v))
        covered = extent <= where.side / 2
        coordinates = [axis * (size / where.side) + (size - 1) / 2 for axis in (u, v)]
        sample = lambda channel: map_coordinates(channel, coordinates, order=1, mode="nearest")  # noqa: E731
        sampled = jax.vmap(sample, in_axes=-1, out_axes=-1)(patch)
        return jnp.where(covered[..., None], sampled, image), covered

    return jax.vmap(one, in_axes=(0 if patches.ndim == 4 else None, 0, 0))(patches, images, places)
