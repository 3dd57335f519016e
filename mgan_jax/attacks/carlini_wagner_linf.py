"""Carlini and Wagner's attack in L-inf (2017, arXiv:1608.04644)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mgan_jax.attacks.carlini_wagner_l2 import image_wise_adam, to_images, to_space
from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.losses import margin_to_fool
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult

LEAST_TAU = 1 / 256
SOLVED = 1e-4  # the penalty that is left, in units of c, when a tau counts as reached


class Descent(NamedTuple):
    """Where every image is; all [B], or [B, H, W, C] and trees of such.

    Attributes:
      step: of gradient descent with this c.
      constant, tau: c and the bound that is tried.
      running: whether the image still goes on.
      w: the variable; moments: Adam's state for it.
      best, best_distance, best_margin: the closest image that fools, else (distance infinite) the one of least margin.
      used: gradients so far.
    """

    step: Array
    constant: Array
    tau: Array
    running: Array
    w: Array
    moments: Any
    best: Array
    best_distance: Array
    best_margin: Array
    used: Array


def carlini_wagner_linf(
    apply_fn: ApplyFn,
    confidence: float = 0.0,
    num_steps: int = 1000,
    learning_rate: float = 5e-3,
    initial_constant: float = 1e-5,
    largest_constant: float = 20.0,
    constant_factor: float = 2.0,
    tau_factor: float = 0.9,
) -> Attack:
    """Minimises c f(x + delta) + sum_i max(|delta_i| - tau, 0), with f of `carlini_wagner_l2`, for ever smaller tau.

    tau starts at 1. When an image fools the target and its penalty is below 1e-4 c, tau becomes tau_factor times the smaller of
    tau and max |delta_i|; descent goes on from there with a fresh Adam. When num_steps have not done it, c is multiplied by
    constant_factor. An image ends at tau <= 1/256, or at c >= largest_constant, which is where it fails and where most of its
    steps are spent. Every image has its own tau, c and step. Returned is the iterate of least max |delta_i| that
    fools; where there is none, the one of least margin.

    Defaults: those of the authors' code.

    Args:
      apply_fn: the target.
      confidence: kappa, how far in logits beyond the decision an image has to be.
      num_steps: gradient steps for each c.
      learning_rate: of Adam, in the space of w; this and the other numbers are those of the authors' code.
      initial_constant: the first c.
      largest_constant: c that is not tried any more.
      constant_factor: what c grows by.
      tau_factor: what tau shrinks by.

    Raises:
      ValueError: a negative or infinite confidence, or numbers out of the ranges that let the loop end.
    """
    if not 0 <= confidence < float("inf"):
        raise ValueError(f"confidence is {confidence}; choose a finite number >= 0")
    if num_steps < 1 or not learning_rate > 0:
        raise ValueError(f"num_steps is {num_steps}, learning_rate {learning_rate}; choose positive ones")
    if not (0 < initial_constant < largest_constant < float("inf")):
        raise ValueError(
            f"initial_constant is {initial_constant}, largest_constant {largest_constant}; choose 0 < first < second"
        )
    if not (constant_factor > 1.001 and 0 < tau_factor < 0.999):
        raise ValueError(
            f"constant_factor is {constant_factor}, tau_factor {tau_factor}; choose one > 1.001 and one in (0, 0.999)"
        )
    init, update = image_wise_adam(learning_rate)
    apply_fn = matched(apply_fn)

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        del key
        start = to_space(images)
        fresh = init(start)
        spread = lambda values: values.reshape(-1, 1, 1, 1)  # noqa: E731

        def objective(w: Array, constant: Array, tau: Array):
            x = to_images(w)
            margin = margin_to_fool(apply_fn(variables, x), labels, targets)
            change = jnp.abs(x - images)
            penalty = jnp.maximum(change - spread(tau), 0.0).sum((1, 2, 3))
            total = (constant * jnp.maximum(margin, -confidence) + penalty).sum()
            return total, (x, margin, change.max((1, 2, 3)), penalty)

        def one(s: Descent) -> Descent:
            gradient, (x, margin, distance, penalty) = jax.grad(objective, has_aux=True)(s.w, s.constant, s.tau)
            fools = margin < -confidence
            better = jnp.where(fools, distance < s.best_distance, jnp.isinf(s.best_distance) & (margin < s.best_margin))
            iterate = x, jnp.where(fools, distance, jnp.inf), margin
            best = choose(better & s.running, iterate, (s.best, s.best_distance, s.best_margin))

            solved = fools & (penalty < SOLVED * s.constant)
            out_of_steps = ~solved & (s.step == num_steps - 1)
            tau = jnp.where(solved, tau_factor * jnp.minimum(s.tau, distance), s.tau)
            constant = jnp.where(out_of_steps, constant_factor * s.constant, s.constant)
            updates, moments = update(gradient, s.moments)
            w, moments = choose(solved, (s.w, fresh), (s.w + updates, moments))
            step = jnp.where(solved | out_of_steps, 0, s.step + 1)
            running = s.running & (tau > LEAST_TAU) & (constant < largest_constant)
            return Descent(step, constant, tau, running, w, moments, *best, s.used + s.running)

        zeros = jnp.zeros(labels.shape, jnp.int32)
        infinite = jnp.full(labels.shape, jnp.inf, images.dtype)
        constant = jnp.full(labels.shape, initial_constant, images.dtype)
        first = Descent(
            zeros, constant, jnp.ones_like(constant), zeros == 0, start, fresh, images, infinite, infinite, zeros
        )  # fmt: skip
        last = jax.lax.while_loop(lambda s: s.running.any(), one, first)
        return attack_result(apply_fn, variables, images, last.best, labels, targets, last.used)

    return checked(apply_fn, attack)
