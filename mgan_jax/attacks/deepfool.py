"""DeepFool (Moosavi-Dezfooli et al. 2016, arXiv:1511.04599)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mgan_jax.attacks.ball import NORMS, direction
from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.attacks.slots import default_slots, in_slots, take
from mgan_jax.losses import margin_to_fool, runner_up
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult

SMALLEST_STEP = 1e-4


def dual_norm(gradient: Array, norm: str) -> Array:
    """How fast a function rises per unit of the norm along its steepest ascent, [B]; gradient [B, H, W, C].

    That is the 2-norm of the gradient for "l2", its 1-norm for "linf".
    """
    return (gradient * direction(gradient, norm)).sum((1, 2, 3))


def nearest_boundary(
    apply: Callable[[Array], Array], x: Array, candidates: Array, labels: Array, targets: Array | None, norm: str
) -> tuple[Array, Array, Array]:
    """The nearest of the boundaries f_k = f_y of the linearised target, or with targets f_k = f_j, j the likeliest besides t.

    The gradients of the classes are taken one class after the other and only the nearest boundary is kept: memory is that of
    two images and one forward pass, whatever the number of classes.

    Args:
      apply: [S, H, W, C] -> logits [S, num_classes].
      x: where it is linearised.
      candidates: [S, n] classes k.
      labels: y, [S].
      targets: t, [S] or None.
      norm: of the distance.

    Returns:
      |f'_k| / ||w_k||_q, infinite where no gradient is left, and f'_k, both [S], and w_k, [S, H, W, C], as in `deepfool`.
    """
    logits, pullback = jax.vjp(apply, x)
    away = labels if targets is None else runner_up(logits, targets)
    one_hot = lambda classes: jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype)  # noqa: E731

    def one(best, towards):
        between = one_hot(towards) - one_hot(away)
        (w,) = pullback(between)
        slope, value = dual_norm(w, norm), (logits * between).sum(-1)
        distance = jnp.abs(value) / jnp.where(slope > 0, slope, 0.0)
        distance = jnp.where(slope > 0, distance, jnp.inf)
        return choose(distance < best[0], (distance, value, w), best), None

    far = jnp.full(len(x), jnp.inf, x.dtype), jnp.zeros(len(x), x.dtype), jnp.zeros_like(x)
    return jax.lax.scan(one, far, candidates.T)[0]


def deepfool(
    apply_fn: ApplyFn,
    norm: str = "l2",
    num_steps: int = 50,
    overshoot: float = 0.02,
    num_candidates: int | None = None,
    num_slots: int | None = None,
) -> Attack:
    """Steps to the nearest boundary of the linearised target, until x + (1 + overshoot) r is of another class.

    With y the label, w_k = grad f_k(x_i) - grad f_y(x_i) and f'_k = f_k(x_i) - f_y(x_i), one step is

        l = argmin over k of |f'_k| / ||w_k||_q,    r_i = |f'_l| / ||w_l||_q d(w_l),    x_{i+1} = clip(x_i + r_i)

    with q = 2 and d(w) = w / ||w||_2 for "l2", q = 1 and d(w) = sign(w) for "linf", and r the sum of the r_i as far as they
    were not cut by the bounds [0, 1] (which the paper leaves out). Each image stops by itself. An image that is not of its
    label's class already is returned as it is.

    With `targets` (an extension) there is one boundary: w = grad f_t - grad f_j, j the likeliest class besides t at x_i.

    As in the paper, x_i is not yet overshot where it is linearised, so that up to `overshoot` of the distance is left at the end.
    The authors' code and Foolbox linearise at the overshot image, whose further steps undo the overshoot: they take twice the
    steps and end 0.3 to 1.4 % nearer. overshoot=1e-3 does the same.

    It is quick, and near the smallest change of networks that are nearly linear around their images. Where they saturate it is
    not, and is no measure of robustness: on MNIST networks trained adversarially in L-inf its median 2-norm is 5.3, where DDN
    finds 1.9; on digits behind a steep sigmoid it is 1.4 times that of `fab`. `fab` or `autoattack` measure it.

    Defaults: the paper's. The authors' code looks at the 10 likeliest classes alone.

    Args:
      apply_fn: the target.
      norm: of the distance that is to be small, "l2" or "linf".
      num_steps: the most steps an image gets.
      overshoot: eta, by which the final perturbation is longer, to be beyond the boundary and not on it.
      num_candidates: how many classes k besides the label are looked at, the likeliest of the clean image; None: all.
      num_slots: images attacked at a time, of which one that is finished makes room for the next; None: `default_slots`.

    Raises:
      ValueError: another norm, numbers that are not positive, or a negative overshoot.
    """
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}; choose one of {', '.join(NORMS)}")
    slots = default_slots() if num_slots is None else num_slots
    if min(num_steps, slots) < 1 or not (num_candidates is None or num_candidates >= 1):
        raise ValueError(
            f"num_steps is {num_steps}, num_candidates {num_candidates}, num_slots {num_slots}; all must be positive"
        )
    if not 0 <= overshoot < float("inf"):
        raise ValueError(f"overshoot is {overshoot}; choose it >= 0, and finite")
    apply_fn = matched(apply_fn)

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        del key
        apply = lambda x: apply_fn(variables, x)  # noqa: E731
        clean = apply(images)
        num_classes = clean.shape[-1]
        if targets is None:
            others = jnp.where(jax.nn.one_hot(labels, num_classes, dtype=bool), -jnp.inf, clean)
            count = min(num_candidates or num_classes, num_classes - 1)
            candidates = jax.lax.top_k(others, count)[1]
        else:
            candidates = targets[:, None]

        def nearest(index, x):
            """The step r_i at x."""
            aims = take((candidates, labels, targets), index)
            distance, _, w = nearest_boundary(apply, x, *aims, norm)
            # A step of nearly nothing would leave an image on the boundary for ever.
            length = jnp.where(jnp.isfinite(distance), jnp.maximum(distance, SMALLEST_STEP), 0.0)
            return length.reshape(-1, 1, 1, 1) * direction(w, norm)

        def step(index, state):
            x, best, best_distance, used = state
            of = take(images, index)
            x = jnp.clip(x + nearest(index, x), 0.0, 1.0)
            beyond = jnp.clip(of + (1 + overshoot) * (x - of), 0.0, 1.0)
            distance = margin_to_fool(apply(beyond), take(labels, index), take(targets, index))
            best, best_distance = choose(distance < best_distance, (beyond, distance), (best, best_distance))
            return x, best, best_distance, used + candidates.shape[1]

        start = images, images, margin_to_fool(clean, labels, targets), jnp.zeros(labels.shape, jnp.int32)
        most = num_steps * candidates.shape[1]
        _, best, _, used = in_slots(step, lambda state: ~(state[2] >= 0) | (state[3] >= most), start, slots)
        return attack_result(apply_fn, variables, images, best, labels, targets, used)

    return checked(apply_fn, attack)
