"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mgan_jax.attacks.result import attack_result
from mgan_jax.losses import margin
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Variables


def cross_entropy(key: Array, step: Array, variables: Variables, images: Array, logits: Array, goal: Array) -> Array:
    """The loss that PGD climbs, [B]; it draws nothing and looks at the logits alone."""
    del key, step, variables, images
    return optax.softmax_cross_entropy_with_integer_labels(logits, goal)


def pgd(
    apply_fn: ApplyFn,
    epsilon: float = 0.3,
    num_steps: int = 40,
    step_size: float = 0.01,
    random_start: bool = True,
    loss: Callable[..., Array] = cross_entropy,
) -> Attack:
    """x <- clip(x + step_size sign(grad loss)), projected on the L-inf ball around the original, then on [0, 1].

    Returned is the last iterate that fools the target, or where none does, the one closest to fooling it. With `targets`
    the loss of the target class is descended.

    Args:
      apply_fn: the target.
      epsilon: radius of the ball, in units of pixels in [0, 1].
      num_steps: gradient steps.
      step_size: of each, in the same units.
      random_start: whether to start from a uniform draw of the ball.
      loss: `(key, step, variables, images, logits, labels) -> [B]`, climbed.

    Raises:
      ValueError: epsilon outside [0, 1], or numbers of steps or sizes that are not positive.
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is {epsilon}; it bounds changes of pixels in [0, 1], so choose it between 0 and 1")
    if num_steps < 1 or not step_size > 0:
        raise ValueError(f"num_steps is {num_steps}, step_size {step_size}; both must be positive")

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        goal, sign = (labels, 1.0) if targets is None else (targets, -1.0)
        lower, upper = jnp.maximum(images - epsilon, 0.0), jnp.minimum(images + epsilon, 1.0)
        start_key, loss_key = jax.random.split(key)
        start = images
        if random_start:
            noise = jax.random.uniform(start_key, images.shape, minval=-epsilon, maxval=epsilon)
            start = jnp.clip(images + noise, lower, upper)

        def total(x, step):
            logits = apply_fn(variables, x)
            return sign * loss(loss_key, step, variables, x, logits, goal).sum(), logits

        def keep(best, best_distance, x, logits):
            """Negative distances fool: among those the latest is kept, else the smallest distance."""
            distance = sign * margin(logits, goal)
            better = (distance < 0) | (distance < best_distance)
            return jnp.where(better[:, None, None, None], x, best), jnp.where(better, distance, best_distance)

        def step(i, carry):
            x, best, best_distance = carry
            gradient, logits = jax.grad(total, has_aux=True)(x, i)
            best, best_distance = keep(best, best_distance, x, logits)
            return jnp.clip(x + step_size * jnp.sign(gradient), lower, upper), best, best_distance

        carry = (start, images, jnp.full(labels.shape, jnp.inf))
        last, best, best_distance = jax.lax.fori_loop(0, num_steps, step, carry)
        best, _ = keep(best, best_distance, last, apply_fn(variables, last))
        return attack_result(apply_fn, variables, images, best, labels, targets)

    return attack
