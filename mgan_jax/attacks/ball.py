"""Balls around the original images, in L-inf and L2, cut by the bounds [0, 1]: what bounded attacks share."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.types import Array, Attack, AttackResult

NORMS = ("linf", "l2")
PUBLISHED = "published"


def check_ball(epsilon: float | Sequence[float], norm: str) -> None:
    """Whether a radius, or every one of several, makes sense.

    Raises:
      ValueError: another norm; a radius that is negative or not finite, in L-inf above 1.
    """
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; choose one of {', '.join(NORMS)}")
    values = np.asarray(epsilon, np.float64)
    if values.ndim > 1 or not values.size:
        raise ValueError(f"epsilon has the shape {values.shape}; choose one number or a list of them")
    if norm == "linf" and not ((values >= 0) & (values <= 1)).all():
        raise ValueError(f"epsilon is {epsilon}; it bounds changes of pixels in [0, 1], so choose it between 0 and 1")
    if not ((values >= 0) & np.isfinite(values)).all():
        raise ValueError(f"epsilon is {epsilon}; it is the radius of a ball, so choose it >= 0")


def check_step(step_size: float | str | None) -> None:
    """Whether a step size is one that `step_length` knows.

    Raises:
      ValueError: a number that is not positive and finite, or another word.
    """
    if isinstance(step_size, str) and step_size != PUBLISHED:
        raise ValueError(f'step_size is {step_size!r}; choose a number, None or "{PUBLISHED}"')
    if not (step_size is None or isinstance(step_size, str) or 0 < step_size < float("inf")):
        raise ValueError(f"step_size is {step_size}; choose a positive, finite number")


def step_length(step_size: float | str | None, epsilon: Array | float, num_steps: float, norm: str) -> Array | float:
    """How long the steps of PGD are, in units of pixels in [0, 1].

    "published" is what Madry et al. (2018) take: 0.01 in L-inf, for MNIST, and 2.5 epsilon / num_steps in L2, where 0.01 would
    leave all but the smallest balls unexplored. None: 2.5 epsilon / num_steps in either norm.
    """
    if step_size == PUBLISHED:
        step_size = 0.01 if norm == "linf" else None
    return 2.5 * epsilon / num_steps if step_size is None else step_size


def swept(attack: Callable[..., AttackResult], epsilon: float | Sequence[float]) -> Attack:
    """`attack(epsilon, key, ...)` at one epsilon, or at K in one program, its results with a leading axis K.

    All epsilons have the same draws, so that a curve over them is not rougher than the attack.
    """

    def run(key, variables, images, labels, *targets, **named):
        if np.ndim(epsilon) == 0:
            return attack(epsilon, key, variables, images, labels, *targets, **named)
        one = lambda e: attack(e, jax.random.clone(key), variables, images, labels, *targets, **named)  # noqa: E731
        return jax.lax.map(one, jnp.asarray(epsilon, jnp.float32))

    return run


def direction(gradient: Array, norm: str) -> Array:
    """Steepest ascent of length 1 in this norm, [B, H, W, C]: the sign, or the gradient over its 2-norm; 0 where that is 0."""
    if norm == "linf":
        return jnp.sign(gradient)
    # Scaled first: squares of small gradients are zero in float32.
    largest = jnp.abs(gradient).max((1, 2, 3), keepdims=True)
    unit = gradient / jnp.where(largest > 0, largest, 1.0)
    length = jnp.sqrt(jnp.square(unit).sum((1, 2, 3), keepdims=True))
    return unit / jnp.where(length > 0, length, 1.0)


def project(x: Array, images: Array, epsilon: Array | float, norm: str) -> Array:
    """Nearest point of the ball around the originals, then of [0, 1]; both [B, H, W, C].

    The second step leaves no ball: the originals lie in [0, 1], and cutting towards them shortens every change.
    """
    if norm == "linf":
        return jnp.clip(x, jnp.maximum(images - epsilon, 0.0), jnp.minimum(images + epsilon, 1.0))
    change = x - images
    length = jnp.sqrt(jnp.square(change).sum((1, 2, 3), keepdims=True))
    return jnp.clip(images + change * jnp.minimum(1.0, epsilon / jnp.where(length > 0, length, 1.0)), 0.0, 1.0)


def draw(key: Array, images: Array, epsilon: Array | float, norm: str) -> Array:
    """A uniform draw of each image's ball, then cut to [0, 1]; `key` is consumed."""
    if norm == "linf":
        noise = jax.random.uniform(key, images.shape, images.dtype, minval=-epsilon, maxval=epsilon)
        return project(images + noise, images, epsilon, norm)
    direction_key, radius_key = jax.random.split(key)
    unit = direction(jax.random.normal(direction_key, images.shape, images.dtype), "l2")
    radius = jax.random.uniform(radius_key, (images.shape[0], 1, 1, 1), images.dtype) ** (1 / images[0].size)
    return project(images + epsilon * radius * unit, images, epsilon, norm)
