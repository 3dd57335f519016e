"""Jacobian-based saliency map attack (Papernot et al. 2016, arXiv:1511.07528), with its search over pairs."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.attacks.slots import default_slots, in_slots, take
from mgan_jax.losses import margin_to_fool
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult

OUTPUTS = ("logits", "softmax")


class Rows(NamedTuple):
    """The search for the best pair, by rows p.

    Attributes:
      u, v: [B, D] what the features still searched give, -inf where a row is done.
      bound: [B, D] what no pair of a row exceeds.
      tilt: [B] lambda of the bound.
      value, p, q: [B] the best pair so far.
    """

    u: Array
    v: Array
    bound: Array
    tilt: Array
    value: Array
    p: Array
    q: Array


def best_pair(u: Array, v: Array, domain: Array) -> tuple[Array, Array, Array]:
    """argmax over p != q of (u_p + u_q)(v_p + v_q) where both sums are positive; exact, in O(D) memory an image.

    A row p holds all pairs of p. None of them exceeds (u_p + max u)(v_p + max v), nor, as U V <= (lambda U + V / lambda)^2 / 4,
    (w_p + max w)^2 / 4 with w = lambda u + v / lambda; this is tight at the best pair so far for lambda^2 = V / U. Rows are
    searched in the order of the lesser bound and then left out, until none exceeds the best pair: of the 784 rows of an
    image of MNIST mostly one or two.

    Args:
      u, v: [B, D] finite.
      domain: [B, D] bool, features that may be of a pair.

    Returns:
      p, q [B] int32 and whether there is such a pair, [B] bool.
    """
    index = jnp.arange(u.shape[1])[None]
    column = lambda values: values[:, None]  # noqa: E731

    def scaled(values: Array) -> Array:
        """Of size 1, so that no product underflows; a feature out of the domain makes every sum -inf."""
        largest = jnp.where(domain, jnp.abs(values), 0.0).max(1, keepdims=True)
        return jnp.where(domain, values / jnp.where(largest > 0, largest, 1.0), -jnp.inf)

    def product(a: Array, b: Array) -> Array:
        return jnp.where((a > 0) & (b > 0), a * b, 0.0)

    def bounds(u: Array, v: Array, tilt: Array) -> Array:
        w = column(tilt) * u + v / column(tilt)
        square = jnp.square(jnp.maximum(w + w.max(1, keepdims=True), 0.0) / 2)
        return jnp.minimum(square, product(u + u.max(1, keepdims=True), v + v.max(1, keepdims=True)))

    def one(s: Rows) -> Rows:
        p = s.bound.argmax(1).astype(jnp.int32)
        row = index == column(p)
        at = lambda values, place: jnp.take_along_axis(values, column(place), 1)  # noqa: E731
        own_u, own_v = at(s.u, p), at(s.v, p)
        values = jnp.where(row, 0.0, product(s.u + own_u, s.v + own_v))
        q, value = values.argmax(1).astype(jnp.int32), values.max(1)
        fitting = jnp.sqrt((own_v + at(s.v, q)) / (own_u + at(s.u, q)))[:, 0]
        # Nothing yet: towards the side that this row lacks, so that a search in vain ends soon.
        searching = s.tilt * jnp.where((own_v < own_u)[:, 0], 0.5, 2.0)
        tilt, *found = choose(value > s.value, (fitting, value, p, q), (s.tilt, s.value, s.p, s.q))
        tilt = jnp.clip(jnp.where(found[0] > 0, tilt, searching), 1e-6, 1e6)
        u, v = jnp.where(row, -jnp.inf, s.u), jnp.where(row, -jnp.inf, s.v)
        return Rows(u, v, bounds(u, v, tilt), tilt, *found)

    nothing, even = jnp.zeros(u.shape[0], jnp.int32), jnp.ones(u.shape[0], u.dtype)
    u, v = scaled(u), scaled(v)
    first = Rows(u, v, bounds(u, v, even), even, jnp.zeros_like(even), nothing, nothing)
    last = jax.lax.while_loop(lambda s: (s.bound.max(1) > s.value).any(), one, first)
    return last.p, last.q, last.value > 0


class Climb(NamedTuple):
    """Where every image is: features x [B, D], those changed [B, D], whether it goes on [B], the best so far, gradients."""

    x: Array
    changed: Array
    running: Array
    best: Array
    best_margin: Array
    used: Array


def jsma(
    apply_fn: ApplyFn, theta: float = 1.0, gamma: float = 0.145, outputs: str = "logits", num_slots: int | None = None
) -> Attack:
    """Adds theta to the two features of the greatest saliency, again and again, until the image is of the target class.

    The saliency of a pair is -alpha beta where alpha > 0 and beta < 0, alpha = sum_{i in p, q} dF_t / dX_i and
    beta = sum_{i in p, q} sum_{j != t} dF_j / dX_i; for theta < 0 it is the mirror, alpha < 0 and beta > 0. Features at the bound
    that theta aims at leave the search. An image stops when it fools, when no pair is left that has a saliency, or
    when the next would change more than gamma of all features; it is returned as the iterate of least margin.

    Without targets the attack moves away from the label y: the mirror for y in place of t (alpha < 0, beta > 0 for theta > 0;
    Wiyatno and Xu 2018, arXiv:1808.07945, call it non-targeted JSMA).

    Defaults: the paper's for MNIST.

    Args:
      apply_fn: the target.
      theta: what is added to a feature, between -1 and 1; results stay in [0, 1].
      gamma: share of the H W C features that may change.
      outputs: F is the "logits" (two gradients a step), as the paper takes the layer before the softmax, or the "softmax" (one
        gradient a step: its outputs sum to 1, so that beta = -alpha).
      num_slots: images attacked at a time, of which one that is finished makes room for the next; None: `default_slots`.

    Raises:
      ValueError: theta beyond 1 or below 1/255 in size, gamma out of range, other outputs, or no slots.
    """
    if not 1 / 255 <= abs(theta) <= 1:
        raise ValueError(f"theta is {theta}; it changes pixels in [0, 1]: choose it between 1/255 and 1, or the negative of that")
    if not 0 < gamma <= 1:
        raise ValueError(f"gamma is {gamma}; it is a share of features, so choose it in (0, 1]")
    if outputs not in OUTPUTS:
        raise ValueError(f"outputs is {outputs!r}; choose one of {', '.join(OUTPUTS)}")
    slots = default_slots() if num_slots is None else num_slots
    if slots < 1:
        raise ValueError(f"num_slots is {num_slots}; images are attacked that many at a time, choose at least 1")
    apply_fn = matched(apply_fn)

    def slopes(logits: Array, pullback: Callable[[Array], tuple[Array]], goal: Array) -> tuple[Array, Array]:
        """dF_t / dX and -sum_{j != t} dF_j / dX, [B, H, W, C], t the goal."""
        own = jax.nn.one_hot(goal, logits.shape[1], dtype=logits.dtype)
        if outputs == "softmax":
            _, through = jax.vjp(jax.nn.softmax, logits)
            (slope,) = pullback(*through(own))
            return slope, slope
        (slope,), (total,) = pullback(own), pullback(jnp.ones_like(own))
        return slope, slope - total

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        del key
        size = images.shape[0]
        flat = images.reshape(size, -1)
        most = int(gamma * flat.shape[1] + 1e-6)
        goal, sign = (labels, -1.0) if targets is None else (targets, 1.0)
        sign = sign if theta > 0 else -sign

        def one(index: Array, s: Climb) -> Climb:
            logits, pullback = jax.vjp(lambda x: apply_fn(variables, x), s.x.reshape(-1, *images.shape[1:]))
            margin = margin_to_fool(logits, take(labels, index), take(targets, index))
            best = choose(s.running & (margin < s.best_margin), (s.x, margin), (s.best, s.best_margin))
            running = s.running & (margin >= 0)
            u, v = (sign * slope.reshape(s.x.shape) for slope in slopes(logits, pullback, take(goal, index)))
            p, q, there = best_pair(u, v, (s.x < 1 if theta > 0 else s.x > 0) & running[:, None])
            pair = jnp.zeros_like(s.changed).at[jnp.arange(len(p))[:, None], jnp.stack([p, q], 1)].set(True)
            running &= there & ((s.changed | pair).sum(1) <= most)
            moves = pair & running[:, None]
            x = jnp.clip(jnp.where(moves, s.x + theta, s.x), 0.0, 1.0)
            return Climb(x, s.changed | moves, running, *best, s.used + s.running * (1 if outputs == "softmax" else 2))

        none = jnp.zeros(size, jnp.int32)
        infinite = jnp.full(size, jnp.inf, images.dtype)
        first = Climb(flat, jnp.zeros(flat.shape, bool), none == 0, flat, infinite, none)
        last = in_slots(one, lambda s: ~s.running, first, slots)
        return attack_result(apply_fn, variables, images, last.best.reshape(images.shape), labels, targets, last.used)

    return checked(apply_fn, attack)
