"""FAB, the fast adaptive boundary attack (Croce & Hein 2020, arXiv:1907.02044)."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mgan_jax.attacks.ball import check_ball, direction, swept
from mgan_jax.attacks.deepfool import nearest_boundary
from mgan_jax.attacks.entry import checked, matched, representable
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.losses import margin_to_fool, rounding, runners_up
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult

SEARCH_STEPS = 3
AXES = (1, 2, 3)
LARGEST_OFFSET = 1e30
# Of runs with `targets`.
PATIENCE = 3
OVERSHOOT = 0.02


def size(change: Array, norm: str) -> Array:
    """The norm of each change [B, H, W, C], [B]."""
    return jnp.abs(change).max(AXES) if norm == "linf" else jnp.sqrt(jnp.square(change).sum(AXES))


def to_hyperplane(x: Array, w: Array, value: Array, norm: str) -> Array:
    """The shortest delta with <w, delta> + value = 0 and x + delta in [0, 1]: d = proj_p(x, pi, C) - x (section 2).

    Every pixel moves towards the hyperplane at speed s_i until it is at its bound: delta_i = -+min(lambda s_i, m_i) with s_i = 1
    for "linf", s_i = |w_i| for "l2", and m_i the room that x_i has that way. lambda solves

        sum_i |w_i| min(lambda s_i, m_i) = |value|,

    whose left side is concave and piecewise linear. The paper sorts the m_i / s_i, where its slope changes; here Newton's
    method, which from lambda = 0 never goes too far, adds those that are reached to the pixels at their bounds. It ends with
    the exact solution at the first step that adds none, the 3rd to 11th for images of up to 224 x 224 x 3 pixels.

    Where the hyperplane does not meet [0, 1]^d all pixels with w_i != 0 end at their bounds, which is as near to it as the
    linear function gets; where w is 0, delta is.

    Args:
      x: [B, H, W, C] in [0, 1].
      w: its normals, [B, H, W, C].
      value: <w, x> + b, [B].
      norm: "linf" or "l2".
    """
    total = lambda a: a.sum(AXES, keepdims=True)  # noqa: E731
    # Scaled first: squares of small gradients are zero in float32.
    steep = jnp.abs(w)
    scale = steep.max(AXES, keepdims=True)
    scale = jnp.where(scale > 0, scale, 1.0)
    steep = steep / scale
    value = value.reshape(-1, 1, 1, 1) / scale
    offset = jnp.minimum(jnp.abs(value), representable(LARGEST_OFFSET, value.dtype))
    towards = -jnp.sign(value) * jnp.sign(w)
    room = jnp.where(steep > 0, jnp.where(towards > 0, 1 - x, x), 0.0)
    speed = jnp.ones_like(steep) if norm == "linf" else steep

    def newton(carry):
        at_bound, _, _ = carry
        missing = jnp.maximum(offset - total(jnp.where(at_bound, steep * room, 0.0)), 0.0)
        slope = total(jnp.where(at_bound, 0.0, steep * speed))
        multiplier = missing / jnp.where(slope > 0, slope, 1.0)
        reached = ~at_bound & (multiplier * speed >= room)
        return at_bound | reached, multiplier, reached.any()

    start = room <= 0, jnp.zeros_like(offset), jnp.asarray(True)
    at_bound, multiplier, _ = jax.lax.while_loop(lambda carry: carry[2], newton, start)
    return towards * jnp.where(at_bound, room, multiplier * speed)


class Found(NamedTuple):
    """The best iterates so far.

    Attributes:
      nearest: [B, H, W, C], the one that fools at the smallest distance.
      distance: [B] of it, infinite where none has fooled; margin: [B], by how much it fools, negative.
      closest: [B, H, W, C], the one within the ball that is closest to fooling; closest_margin: [B], by how much it misses.
    """

    nearest: Array
    distance: Array
    margin: Array
    closest: Array
    closest_margin: Array


def fab(
    apply_fn: ApplyFn,
    norm: str = "linf",
    num_steps: int = 100,
    num_restarts: int = 1,
    num_target_classes: int | None = 9,
    epsilon: float | Sequence[float] | None = None,
    alpha_max: float = 0.1,
    eta: float = 1.05,
    beta: float = 0.9,
) -> Attack:
    """The smallest change that fools: projections on the linearised decision boundary, drawn back to the original.

    With pi the boundary f_s = f_y of the target linearised at x^(i), delta and delta_orig the ways from x^(i) and from x_orig
    to it within C = [0, 1]^d (`to_hyperplane`), one step is

        x^(i+1) = proj_C((1 - alpha) (x^(i) + eta delta) + alpha (x_orig + eta delta_orig)),
        alpha = min(||delta|| / (||delta|| + ||delta_orig||), alpha_max),

    and where that fools, x^(i+1) <- (1 - beta) x_orig + beta x^(i+1). The nearest of all x^(i+1) that fool is kept. After each
    run it is replaced, `SEARCH_STEPS` times, by the point between it and the original where the margin, taken as linear
    between the two, is zero (or beyond it by what rounding may take back), if that point fools; if not, the point takes the
    original's place in the search.

    s is a class of its own in every run, from the likeliest besides y on (FAB-T, the form that is part of AutoAttack), or of all
    classes that with the smallest |f_s - f_y| / ||w_s||_q, w_s the gradient of f_s - f_y. pi is where f_s leads by twice what
    rounding may take back, so that iterates do not end on the boundary itself.

    `targets` t are an extension: the published targeted form leaves y towards t and takes any class it comes to. Here the
    boundary is that of t and of the likeliest class besides it at x^(i). Where several of these meet, the draw to the original
    undoes what the last step has won, and steps along one boundary and another come ever nearer to the meeting point without
    getting beyond it. So, until a run has fooled for the first time, and after `PATIENCE` steps that did not, alpha is 0 and a
    step goes `OVERSHOOT` ||x^(i) - x_orig|| farther.

    Defaults: the paper's; steps, restarts and classes as in AutoAttack's standard version.

    Args:
      apply_fn: the target.
      norm: of the distance that is to be small, "linf" or "l2".
      num_steps: steps a run: one gradient each, or one for every class where s is looked for among them.
      num_restarts: runs (for each target class), the first from the original, the others from a draw at min(u, epsilon) / 2
        around it, u the smallest distance found, and at half the diameter of [0, 1]^d where there is neither.
      num_target_classes: of FAB-T, at most all but y; None or 0: s is looked for at every step.
      epsilon: None: the smallest change, however large. Else the radius of a ball, K of them give results [K, B, ...]: returned
        is, of the iterates within, not the nearest but the one that fools by most, or misses by least, which rounding to 8 bits
        undoes less easily; an image that a run fools within the ball has no further runs.
      alpha_max: the most that a step is drawn to the original.
      eta: by how much steps go beyond the boundary.
      beta: what the backward step keeps of the change.

    Raises:
      ValueError: epsilon out of range, another norm, numbers of steps or restarts below 1, of classes below 0, alpha_max or
        beta outside [0, 1], eta below 1 or infinite.
    """
    check_ball(0.0 if epsilon is None else epsilon, norm)
    attack = fab_within(apply_fn, norm, num_steps, num_restarts, num_target_classes, alpha_max, eta, beta)
    return checked(apply_fn, swept(attack, float("inf") if epsilon is None else epsilon))


def fab_within(
    apply_fn: ApplyFn,
    norm: str,
    num_steps: int,
    num_restarts: int,
    num_target_classes: int | None,
    alpha_max: float,
    eta: float,
    beta: float,
) -> Callable[..., AttackResult]:
    """`fab` with the radius, maybe traced or infinite, as an argument: `attack(epsilon, key, variables, images, labels)`."""
    if min(num_steps, num_restarts) < 1:
        raise ValueError(f"num_steps is {num_steps}, num_restarts {num_restarts}; both must be positive")
    if not (num_target_classes is None or num_target_classes >= 0):
        raise ValueError(f"num_target_classes is {num_target_classes}; choose None or a number >= 0")
    if not (0 <= alpha_max <= 1 and 0 <= beta <= 1):
        raise ValueError(f"alpha_max is {alpha_max}, beta {beta}; choose both in [0, 1]")
    if not 1 <= eta < float("inf"):
        raise ValueError(f"eta is {eta}; choose it >= 1, and finite")
    apply_fn = matched(apply_fn)

    def attack(epsilon, key, variables, images, labels, targets=None) -> AttackResult:
        apply = lambda x: apply_fn(variables, x)  # noqa: E731
        spread = lambda numbers: numbers.reshape(-1, 1, 1, 1)  # noqa: E731
        margin_of = lambda x: margin_to_fool(apply(x), labels, targets)  # noqa: E731
        logits = apply(images)
        clean_margin = margin_to_fool(logits, labels, targets)
        beyond = 2 * rounding(logits, labels if targets is None else targets)
        if targets is None:
            candidates = runners_up(logits, labels, num_target_classes or logits.shape[-1])
        else:
            candidates = targets[:, None]
        num_aims = candidates.shape[1] if num_target_classes else 1
        diameter = 1.0 if norm == "linf" else images[0].size ** 0.5
        # Within a ball the first find is enough; without one, only what is misclassified unchanged cannot be improved.
        enough = jnp.where(jnp.isfinite(epsilon), epsilon, 0.0)

        def keep(found: Found, x: Array, margin: Array) -> Found:
            distance = size(x - images, norm)
            nearer = (margin < 0) & (distance < found.distance)
            closer = (distance <= epsilon) & (margin < found.closest_margin)
            return Found(*choose(nearer, (x, distance, margin), found[:3]), *choose(closer, (x, margin), found[3:]))

        def start(i, distance):
            """The point that run i begins at."""
            if num_restarts == 1:
                return images
            radius = jnp.minimum(jnp.minimum(distance, epsilon), diameter) / 2
            run_key = jax.random.fold_in(key, i)
            if norm == "linf":
                noise = jax.random.uniform(run_key, images.shape, images.dtype, minval=-1.0, maxval=1.0)
                noise = noise / jnp.abs(noise).max(AXES, keepdims=True)
            else:
                noise = direction(jax.random.normal(run_key, images.shape, images.dtype), norm)
            return jnp.clip(images + jnp.where(i < num_aims, 0.0, spread(radius)) * noise, 0.0, 1.0)

        def search(found: Found) -> Found:
            def one(_, carry):
                low, low_margin, high, high_margin = carry
                drop = low_margin - high_margin
                share = jnp.maximum(-beyond - high_margin, 0.0) / jnp.where(drop > 0, drop, 1.0)
                x = high + spread(share) * (low - high)
                margin = margin_of(x)
                fools = margin < 0
                return *choose(fools, (low, low_margin), (x, margin)), *choose(fools, (x, margin), (high, high_margin))

            ends = images, clean_margin, found.nearest, found.margin
            _, _, x, margin = jax.lax.fori_loop(0, SEARCH_STEPS, one, ends)
            return keep(found, x, margin)

        def run(i, found):
            aims = candidates if num_aims == 1 else jnp.take(candidates, i % num_aims, axis=1)[:, None]

            def one(_, carry):
                x, misses, found = carry
                _, value, w = nearest_boundary(apply, x, aims, labels, targets, norm)
                value = value - beyond
                original_value = value + (w * (images - x)).sum(AXES)
                both = jnp.concatenate([x, images]), jnp.concatenate([w, w]), jnp.concatenate([value, original_value])
                change, original_change = jnp.split(to_hyperplane(*both, norm), 2)
                length, original_length = size(change, norm), size(original_change, norm)
                sum_ = length + original_length
                alpha, reach = jnp.minimum(length / jnp.where(sum_ > 0, sum_, 1.0), alpha_max), eta
                if targets is not None:
                    caught = misses >= PATIENCE
                    alpha = jnp.where(caught, 0.0, alpha)
                    farther = OVERSHOOT * size(x - images, norm) / jnp.where(length > 0, length, 1.0)
                    reach = spread(eta + jnp.where(caught, farther, 0.0))
                alpha = spread(alpha)
                x = (1 - alpha) * (x + reach * change) + alpha * (images + reach * original_change)
                x = jnp.clip(x, 0.0, 1.0)
                margin = margin_of(x)
                fools = margin < 0
                return (
                    choose(fools, (1 - beta) * images + beta * x, x),
                    jnp.where(fools, 0, misses + 1),
                    keep(found, x, margin),
                )

            misses = jnp.full(labels.shape, PATIENCE, jnp.int32)
            return search(jax.lax.fori_loop(0, num_steps, one, (start(i, found.distance), misses, found))[2])

        def next_run(carry):
            i, found, used = carry
            left = found.distance > enough
            return i + 1, choose(left, run(i, found), found), used + left * (num_steps * candidates.shape[1] // num_aims)

        distance = jnp.where(clean_margin < 0, 0.0, jnp.inf).astype(images.dtype)
        _, found, used = jax.lax.while_loop(
            lambda carry: (carry[0] < num_restarts * num_aims) & (carry[1].distance > enough).any(),
            next_run,
            (0, Found(images, distance, clean_margin, images, clean_margin), jnp.zeros(labels.shape, jnp.int32)),
        )
        adversarial = choose(jnp.isinf(epsilon) & jnp.isfinite(found.distance), found.nearest, found.closest)
        return attack_result(apply_fn, variables, images, adversarial, labels, targets, used)

    return attack
