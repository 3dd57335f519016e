"""Inversion of a generator: the code whose image is the closest to a given one, by gradient descent from several starts."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mgan_jax.inputs import as_array, as_images, as_variables, of_no_images
from mgan_jax.types import Array, Variables

Decode = Callable[[Variables, Array], Array]
"""A generator: `(variables, codes [B, K]) -> images [B, H, W, C]`."""

OPTIMIZERS = ("momentum", "adam")


class Descent(NamedTuple):
    """How codes are found.

    Attributes:
      num_steps: L, gradient steps.
      learning_rate: of the mean squared difference of the pixels.
      momentum: of the steps; of Adam, the decay of its first moment.
      optimizer: "momentum", z <- z + v with v <- momentum v - learning_rate gradient; or "adam".
    """

    num_steps: int
    learning_rate: float
    momentum: float
    optimizer: str


class Inverted(NamedTuple):
    """The best of all restarts.

    Attributes:
      codes: z* [B, K].
      errors: mean squared difference of the pixels of G(z*) and the images, [B].
    """

    codes: Array
    errors: Array


def check_descent(descent: Descent) -> None:
    """Whether the numbers make sense.

    Raises:
      ValueError: steps or a rate that are not positive, momentum outside [0, 1), another optimiser.
    """
    if descent.num_steps < 1 or not descent.learning_rate > 0 or not 0 <= descent.momentum < 1:
        raise ValueError(
            f"num_steps is {descent.num_steps}, learning_rate {descent.learning_rate}, momentum {descent.momentum}; "
            "choose steps and rate > 0, momentum in [0, 1)"
        )
    if descent.optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer is {descent.optimizer!r}; choose one of {', '.join(OPTIMIZERS)}")


def errors(decode: Decode, generator: Variables, codes: Array, images: Array) -> Array:
    """Mean squared differences of the pixels of G(z) and the images, [R, B]: codes [R, B, K], images [B, H, W, C]."""
    made = decode(generator, codes.reshape(-1, codes.shape[-1]))
    difference = made.reshape(*codes.shape[:2], *images.shape[1:]) - images[None]
    return jnp.square(difference).mean((2, 3, 4))


def invert(decode: Decode, generator: Variables, images: Array, starts: Array, descent: Descent) -> Inverted:
    """z* = argmin ||G(z) - x||^2 over R restarts of L steps: all R B codes are one batch of one loop.

    Args:
      decode: G.
      generator: its variables.
      images: x, [B, H, W, C], of any range.
      starts: first codes, [R, K], the same for every image, or [R, B, K].
      descent: how.

    Raises:
      ValueError: images that `inputs.as_images` refuses, or starts of another shape.
    """
    generator, images, starts = as_variables(generator), as_images(images, bounded=False), jnp.asarray(as_array(starts, "starts"))
    if starts.ndim not in (2, 3) or (starts.ndim == 3 and starts.shape[1] != len(images)) or not len(starts):
        raise ValueError(f"starts are of the shape {starts.shape}, images of {images.shape}; choose [R, K] or [R, B, K]")
    if not len(images):
        any_start = jnp.zeros((len(starts), starts.shape[-1]), starts.dtype)
        return of_no_images(lambda x: invert(decode, generator, x, any_start, descent), images)
    if descent.optimizer == "adam":
        transform = optax.adam(descent.learning_rate, b1=descent.momentum)
    else:
        transform = optax.sgd(descent.learning_rate, descent.momentum)
    if starts.ndim == 2:
        starts = jnp.broadcast_to(starts[:, None], (len(starts), len(images), starts.shape[-1]))
    slope = jax.grad(lambda codes: errors(decode, generator, codes, images).sum())

    def step(_, carry):
        codes, state = carry
        updates, state = transform.update(slope(codes), state)
        return optax.apply_updates(codes, updates), state

    codes, _ = jax.lax.fori_loop(0, descent.num_steps, step, (starts, transform.init(starts)))
    found = errors(decode, generator, codes, images)
    # A restart that diverged is no candidate: argmin takes the first NaN.
    best = jnp.where(jnp.isnan(found), jnp.inf, found).argmin(0)
    return Inverted(jnp.take_along_axis(codes, best[None, :, None], axis=0)[0], jnp.take_along_axis(found, best[None], axis=0)[0])
