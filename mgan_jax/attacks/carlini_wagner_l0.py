"""Carlini and Wagner's attack in L0 (2017, arXiv:1608.04644)."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mgan_jax.attacks.carlini_wagner_l2 import image_wise_adam, to_images, to_space
from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.losses import margin_to_fool
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult

UNCHANGED = 1e-4
PACE = 0.3


class Descent(NamedTuple):
    """Where every image is; all [B], or [B, H, W, C] and trees of such.

    Attributes:
      step: of gradient descent with this c.
      constant: c.
      allowed: [B, H, W] bool, pixels that may change.
      running: whether the image still goes on.
      w: the variable; moments: Adam's state for it.
      best, best_count, best_margin: the image that fools with fewest changed pixels, else (count infinite) that of least margin.
      used: gradients so far.
    """

    step: Array
    constant: Array
    allowed: Array
    running: Array
    w: Array
    moments: Any
    best: Array
    best_count: Array
    best_margin: Array
    used: Array


def drop_least(allowed: Array, worth: Array, count: Array, share: float) -> Array:
    """Takes the pixel of least worth, and with it further ones that hardly matter, from those that may change.

    Args:
      allowed: [B, H, W] bool.
      worth: [B, H, W], -g_i delta_i.
      count: [B] float, how many pixels are changed; at most ceil(0.3 sqrt(count)) are dropped.
      share: all but the first are dropped only where they are worth at most this share of what all changes are worth together.
    """
    flat = jnp.where(allowed, worth, jnp.inf).reshape(allowed.shape[0], -1)
    gain = jnp.where(allowed, jnp.maximum(worth, 0.0), 0.0).sum((1, 2))
    most = min(flat.shape[1], math.ceil(PACE * math.sqrt(flat.shape[1])))
    least, index = jax.lax.top_k(-flat, most)
    rank = jnp.arange(most)[None]
    dropped = (rank == 0) | ((rank < PACE * jnp.sqrt(count)[:, None]) & (-least <= share * gain[:, None]))
    rows = jnp.arange(flat.shape[0])[:, None]
    kept = allowed.reshape(flat.shape).at[rows, index].min(~dropped)
    return kept.reshape(allowed.shape)


def carlini_wagner_l0(
    apply_fn: ApplyFn,
    confidence: float = 0.0,
    num_steps: int = 1000,
    learning_rate: float = 1e-2,
    initial_constant: float = 1e-3,
    largest_constant: float = 2e6,
    constant_factor: float = 2.0,
    share: float = 0.01,
) -> Attack:
    """Descends as `carlini_wagner_l2` does, on ever fewer pixels that may change.

    When an image fools the target, the pixel of least -g_i delta_i (its channels summed) is fixed at its original value,
    g = grad f(x + delta); descent goes on from the other pixels as they are, with a fresh Adam. As in the authors' code
    several are fixed at once, at most ceil(0.3 sqrt(changed pixels)), here those of at most a `share` of the sum of all. When
    num_steps have not done it, c is multiplied by constant_factor; an image ends at c >= largest_constant, which is where
    it fails and where most of its steps are spent. Changes below 1e-4 are none, and are shown to the target as none. Every
    image has its own pixels, c and step. Returned is the iterate of fewest changed pixels that fools; where there is none, the
    one of least margin.

    Defaults: those of the authors' code, but for share, which is ours: there -g_i delta_i of up to 0.01 counts as hardly
    anything, whatever the sum.

    Args:
      apply_fn: the target.
      confidence: kappa, how far in logits beyond the decision an image has to be.
      num_steps: gradient steps for each c.
      learning_rate: of Adam, in the space of w; this and the constants are those of the authors' code.
      initial_constant: the first c.
      largest_constant: c that is not tried any more.
      constant_factor: what c grows by.
      share: see above; 0 fixes one pixel at a time, and with it those that do nothing.

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
    if not (constant_factor > 1.001 and 0 <= share < 1):
        raise ValueError(f"constant_factor is {constant_factor}, share {share}; choose one > 1.001 and one in [0, 1)")
    init, update = image_wise_adam(learning_rate)
    apply_fn = matched(apply_fn)

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        del key
        start = to_space(images)
        fresh = init(start)
        spread = lambda values: values.reshape(-1, 1, 1, 1)  # noqa: E731

        def margins(x: Array):
            margin = margin_to_fool(apply_fn(variables, x), labels, targets)
            return margin.sum(), margin

        def one(s: Descent) -> Descent:
            moved = to_images(s.w)
            changed = s.allowed & (jnp.abs(moved - images) > UNCHANGED).any(-1)
            x = jnp.where(changed[..., None], moved, images)
            gradient, margin = jax.grad(margins, has_aux=True)(x)
            count = changed.sum((1, 2)).astype(images.dtype)
            fools = margin < -confidence
            better = jnp.where(fools, count < s.best_count, jnp.isinf(s.best_count) & (margin < s.best_margin))
            best = choose(
                better & s.running, (x, jnp.where(fools, count, jnp.inf), margin), (s.best, s.best_count, s.best_margin)
            )

            worth = -(gradient * (x - images)).sum(-1)
            allowed = jnp.where(fools[:, None, None], drop_least(s.allowed, worth, count, share), s.allowed)
            out_of_steps = ~fools & (s.step == num_steps - 1)
            constant = jnp.where(out_of_steps, constant_factor * s.constant, s.constant)
            # By hand through tanh, so that changes too small to be shown grow nevertheless.
            slope = 2 * moved * (1 - moved) * s.allowed[..., None]
            updates, moments = update(slope * (2 * (x - images) + spread(s.constant) * gradient), s.moments)
            w, moments = choose(fools, (s.w, fresh), (s.w + updates, moments))
            step = jnp.where(fools | out_of_steps, 0, s.step + 1)
            running = s.running & (constant < largest_constant) & ~(fools & (count == 0)) & allowed.any((1, 2))
            return Descent(step, constant, allowed, running, w, moments, *best, s.used + s.running)

        zeros = jnp.zeros(labels.shape, jnp.int32)
        infinite = jnp.full(labels.shape, jnp.inf, images.dtype)
        constant = jnp.full(labels.shape, initial_constant, images.dtype)
        first = Descent(
            zeros, constant, jnp.ones(images.shape[:3], bool), zeros == 0, start, fresh, images, infinite, infinite, zeros
        )  # fmt: skip
        last = jax.lax.while_loop(lambda s: s.running.any(), one, first)
        return attack_result(apply_fn, variables, images, last.best, labels, targets, last.used)

    return checked(apply_fn, attack)
