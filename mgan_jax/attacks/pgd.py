"""Projected gradient descent (Madry et al. 2018, arXiv:1706.06083)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from mgan_jax.attacks.ball import check_ball, check_step, direction, draw, project, step_length, swept
from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.losses import margin_to_fool
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Variables

STEPS = ("steepest", "truncated")


def cross_entropy(key: Array, step: Array, variables: Variables, images: Array, logits: Array, goal: Array) -> Array:
    """The loss that PGD climbs, [B]; it draws nothing and looks at the logits alone."""
    del key, step, variables, images
    return optax.softmax_cross_entropy_with_integer_labels(logits, goal)


def run_keys(key: Array) -> tuple[Array, Array]:
    """The keys of a run's start and of its loss."""
    start_key, loss_key = jax.random.split(key)
    return start_key, loss_key


def pgd(
    apply_fn: ApplyFn,
    epsilon: float | Sequence[float] = 0.3,
    num_steps: int = 40,
    step_size: float | str | None = "published",
    random_start: bool = True,
    loss: Callable[..., Array] = cross_entropy,
    norm: str = "linf",
    num_restarts: int = 1,
    step: str = "steepest",
    gradient_scale: float = 1.0,
) -> Attack:
    """x <- clip(x + step_size sign(grad loss)), projected on the ball around the original, then on [0, 1].

    Returned is the last iterate that fools the target, or where none does, the one closest to fooling it, over all restarts.
    With `targets` the loss of the target class is descended.

    Defaults: the paper's for MNIST.

    Args:
      apply_fn: the target.
      epsilon: radius of the ball, in units of pixels in [0, 1]; K of them give results [K, B, ...] in one program.
      num_steps: gradient steps.
      step_size: of each, in the same units. "published": Madry et al.'s, 0.01 in L-inf, 2.5 epsilon / num_steps in L2; None:
        2.5 epsilon / num_steps in either norm.
      random_start: whether to start from a uniform draw of the ball.
      loss: `(key, step, variables, images, logits, labels) -> [B]`, climbed.
      norm: "linf"; or "l2", with steps along grad / ||grad||_2.
      num_restarts: runs from other starts; the best iterate of each image is kept.
      step: "steepest" as above; "truncated": clip(gradient_scale * gradient, -step_size, step_size), the gradient itself
        where it is small.
      gradient_scale: of truncated steps.

    Raises:
      ValueError: epsilon out of range, another norm or step, numbers of steps or sizes that are not positive, or restarts
        without a random start.
    """
    check_ball(epsilon, norm)
    check_step(step_size)
    if num_steps < 1 or not gradient_scale > 0:
        raise ValueError(f"num_steps is {num_steps}, gradient_scale {gradient_scale}; both must be positive")
    apply_fn = matched(apply_fn)
    if step not in STEPS:
        raise ValueError(f"step is {step!r}; choose one of {', '.join(STEPS)}")
    if num_restarts < 1 or (num_restarts > 1 and not random_start):
        raise ValueError(f"num_restarts is {num_restarts}; choose 1, or more with a random start")

    def attack(epsilon, key, variables, images, labels, targets=None) -> AttackResult:
        goal, sign = (labels, 1.0) if targets is None else (targets, -1.0)
        size = step_length(step_size, epsilon, num_steps, norm)

        def moved(gradient):
            if step == "truncated":
                return jnp.clip(gradient_scale * gradient, -size, size)
            return size * direction(gradient, norm)

        def keep(best, best_distance, x, logits):
            """Negative distances fool: among those the latest is kept, else the smallest distance."""
            distance = margin_to_fool(logits, labels, targets)
            better = (distance < 0) | (distance < best_distance)
            return choose(better, (x, distance), (best, best_distance))

        def run(best, best_distance, run_key):
            start_key, loss_key = run_keys(run_key)
            start = draw(start_key, images, epsilon, norm) if random_start else images

            def total(x, i):
                logits = apply_fn(variables, x)
                return sign * loss(loss_key, i, variables, x, logits, goal).sum(), logits

            def one(i, carry):
                x, *best = carry
                gradient, logits = jax.grad(total, has_aux=True)(x, i)
                return project(x + moved(gradient), images, epsilon, norm), *keep(*best, x, logits)

            last, *best = jax.lax.fori_loop(0, num_steps, one, (start, best, best_distance))
            return keep(*best, last, apply_fn(variables, last))

        best = images, jnp.full(labels.shape, jnp.inf, images.dtype)
        if num_restarts == 1:
            best = run(*best, key)
        else:
            keys = jax.random.split(key, num_restarts)
            best, _ = jax.lax.scan(lambda best, k: (run(*best, k), None), best, keys)
        return attack_result(apply_fn, variables, images, best[0], labels, targets, used=num_steps * num_restarts)

    return checked(apply_fn, swept(attack, epsilon))
