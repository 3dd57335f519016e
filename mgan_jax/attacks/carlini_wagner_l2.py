"""Carlini and Wagner's attack in L2 (2017, arXiv:1608.04644), and the space that all three of their attacks search."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mgan_jax.attacks.entry import checked, matched, representable
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.losses import margin_to_fool
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Variables

SMOOTHING = 0.999999  # arctanh(+-1) is infinite: pixels that are exactly 0 or 1 would never move
LARGEST_CONSTANT = 1e10
LEAST_PROGRESS = 0.9999


def to_space(images: Array) -> Array:
    """w = arctanh(0.999999 (2 x - 1)), of any shape; x in [0, 1]."""
    return jnp.arctanh((2 * images - 1) * SMOOTHING)


def to_images(w: Array) -> Array:
    """x = (tanh(w) + 1) / 2, in [0, 1] for every w."""
    return (jnp.tanh(w) + 1) / 2


def image_wise_adam(learning_rate: float) -> tuple[Callable[[Array], Any], Callable[..., tuple[Array, Any]]]:
    """optax's Adam with a count for every image, so that images can start anew at different steps: `init`, `update`."""
    adam = optax.adam(learning_rate)
    return jax.vmap(adam.init), jax.vmap(adam.update)


class Search(NamedTuple):
    """Where every image is in its own binary search; all [B], or [B, H, W, C] and trees of such.

    Attributes:
      index: of the search step, step: of gradient descent within it.
      constant, lower, upper: c and its bounds.
      found: whether this c has fooled the target.
      checked: the loss when progress was last looked at.
      w: the variable; moments: Adam's state for it.
      best, best_distance, best_margin: the closest image that fools, else (distance infinite) the one of least margin.
      used: gradients so far.
    """

    index: Array
    step: Array
    constant: Array
    lower: Array
    upper: Array
    found: Array
    checked: Array
    w: Array
    moments: Any
    best: Array
    best_distance: Array
    best_margin: Array
    used: Array


def carlini_wagner_l2(
    apply_fn: ApplyFn,
    confidence: float = 0.0,
    num_searches: int = 9,
    num_steps: int = 1000,
    learning_rate: float = 1e-2,
    initial_constant: float = 1e-3,
    abort_early: bool = False,
) -> Attack:
    """Minimises ||x' - x||_2^2 + c f(x') over w, x' = (tanh(w) + 1) / 2, by Adam; c is searched for every image.

    f(x') = max(z_y - max_{i != y} z_i, -kappa) (their f_6), with targets max(max_{i != t} z_i - z_t, -kappa). A c that fooled
    the target is an upper bound of the next, one that did not a lower bound: the next lies halfway between them, or where
    nothing has fooled yet is ten times larger. Every c starts at the clean image with a fresh Adam. Returned is the
    closest of all iterates with f = -kappa; where there is none, the one of least margin.

    Defaults: those of the authors' code, but for num_steps, there 10000, and abort_early, there True.

    Args:
      apply_fn: the target.
      confidence: kappa, how far in logits beyond the decision an image has to be.
      num_searches: values of c tried; from ten on the last is the smallest that worked (or 1e10), as the authors' code does.
      num_steps: gradient steps for each c.
      learning_rate: of Adam, in the space of w.
      initial_constant: the first c.
      abort_early: whether an image goes on to its next c when a tenth of the steps has not lowered its loss by 1e-4 of it.

    Raises:
      ValueError: a negative or infinite confidence; numbers of searches or steps, a rate or a constant that are not positive.
    """
    if not 0 <= confidence < float("inf"):
        raise ValueError(f"confidence is {confidence}; choose a finite number >= 0")
    if num_searches < 1 or num_steps < 1:
        raise ValueError(f"num_searches is {num_searches}, num_steps {num_steps}; choose at least 1")
    if not (learning_rate > 0 and 0 < initial_constant <= LARGEST_CONSTANT):
        raise ValueError(f"learning_rate is {learning_rate}, initial_constant {initial_constant}; choose both > 0, c <= 1e10")
    init, update = image_wise_adam(learning_rate)
    between_checks = -(-num_steps // 10)
    apply_fn = matched(apply_fn)

    def objective(w: Array, constant: Array, variables: Variables, images: Array, labels: Array, targets: Array | None):
        x = to_images(w)
        margin = margin_to_fool(apply_fn(variables, x), labels, targets)
        distance = jnp.square(x - images).reshape(images.shape[0], -1).sum(-1)
        loss = distance + constant * jnp.maximum(margin, -confidence)
        return loss.sum(), (x, margin, distance, loss)

    def next_constant(s: Search) -> tuple[Array, Array, Array]:
        """c and its bounds for the next search step."""
        lower = jnp.where(s.found, s.lower, jnp.maximum(s.lower, s.constant))
        upper = jnp.where(s.found, jnp.minimum(s.upper, s.constant), s.upper)
        largest = representable(LARGEST_CONSTANT, s.constant.dtype)
        grown = jnp.minimum(10 * s.constant, largest)
        constant = jnp.where(upper < largest, (lower + upper) / 2, grown)
        if num_searches >= 10:
            constant = jnp.where(s.index == num_searches - 2, upper, constant)
        return constant, lower, upper

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        del key
        start = to_space(images)
        fresh = init(start)

        def one(s: Search) -> Search:
            running = s.index < num_searches
            gradient, found = jax.grad(objective, has_aux=True)(s.w, s.constant, variables, images, labels, targets)
            x, margin, distance, loss = found
            fools = margin < -confidence
            better = jnp.where(fools, distance < s.best_distance, jnp.isinf(s.best_distance) & (margin < s.best_margin))
            iterate = x, jnp.where(fools, distance, jnp.inf), margin
            best = choose(better & running, iterate, (s.best, s.best_distance, s.best_margin))
            s = s._replace(best=best[0], best_distance=best[1], best_margin=best[2], found=s.found | fools, used=s.used + running)

            over = s.step == num_steps - 1
            if abort_early:
                due = s.step % between_checks == 0
                over |= due & (loss > LEAST_PROGRESS * s.checked)
                s = s._replace(checked=jnp.where(due, loss, s.checked))
            updates, moments = update(gradient, s.moments)
            s = s._replace(step=s.step + 1, w=s.w + updates, moments=moments)
            anew = (s.index + 1, jnp.zeros_like(s.step), *next_constant(s), jnp.zeros_like(s.found), jnp.full_like(loss, jnp.inf))
            return Search(*choose(over, (*anew, start, fresh), s[:9]), *s[9:])

        zeros, infinite = jnp.zeros(labels.shape, jnp.int32), jnp.full(labels.shape, jnp.inf, images.dtype)
        bounds = representable(initial_constant, images.dtype), 0.0, representable(LARGEST_CONSTANT, images.dtype)
        numbers = [jnp.full(labels.shape, c, images.dtype) for c in bounds]
        first = Search(zeros, zeros, *numbers, zeros > 0, infinite, start, fresh, images, infinite, infinite, zeros)
        last = jax.lax.while_loop(lambda s: (s.index < num_searches).any(), one, first)
        return attack_result(apply_fn, variables, images, last.best, labels, targets, last.used)

    return checked(apply_fn, attack)
