"""Auto-PGD (Croce & Hein 2020, arXiv:2003.01690)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mgan_jax.attacks.ball import check_ball, direction, draw, project, swept
from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.losses import margin, margin_to_fool, runners_up
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult

LOSSES = ("cross_entropy", "dlr", "targeted_dlr")


def ratio(numerator: Array, denominator: Array) -> Array:
    """Numerator over denominator >= 0; where that is 0, the numerator itself, so that neither value nor gradient is NaN."""
    return numerator / jnp.where(denominator > 0, denominator, 1.0)


def dlr(logits: Array, labels: Array) -> Array:
    """DLR = -(z_y - max_{i != y} z_i) / (z_pi1 - z_pi3), pi sorting z from the largest: [B] of logits [B, >= 3] (equation 6)."""
    largest = jax.lax.top_k(logits, 3)[0]
    return ratio(-margin(logits, labels), largest[:, 0] - largest[:, 2])


def targeted_dlr(logits: Array, labels: Array, targets: Array) -> Array:
    """-(z_y - z_t) / (z_pi1 - (z_pi3 + z_pi4) / 2), [B] of logits [B, >= 4] (equation 7)."""
    own, aim = (jnp.take_along_axis(logits, i[:, None], axis=-1)[:, 0] for i in (labels, targets))
    largest = jax.lax.top_k(logits, 4)[0]
    return ratio(aim - own, largest[:, 0] - (largest[:, 2] + largest[:, 3]) / 2)


def checkpoints(num_steps: int) -> list[int]:
    """w_j = ceil(p_j N): p_0 = 0, p_1 = .22, p_{j+1} = p_j + max(p_j - p_{j-1} - .03, .06); those up to num_steps."""
    hundredths = [0, 22]
    while hundredths[-1] < 100:
        hundredths.append(hundredths[-1] + max(hundredths[-1] - hundredths[-2] - 3, 6))
    return sorted({-(-p * num_steps // 100) for p in hundredths if p <= 100})


def apgd(
    apply_fn: ApplyFn,
    epsilon: float | Sequence[float] = 0.3,
    norm: str = "linf",
    loss: str = "cross_entropy",
    num_steps: int = 100,
    num_restarts: int = 1,
    num_target_classes: int = 9,
    momentum: float = 0.75,
    rho: float = 0.75,
) -> Attack:
    """PGD with momentum, whose step size, at first 2 epsilon, is halved image by image where the loss no longer grows.

    z^(k+1) = P(x^(k) + eta d(grad f(x^(k)))), x^(k+1) = P(x^(k) + alpha (z^(k+1) - x^(k)) + (1 - alpha) (x^(k) - x^(k-1))),
    d the steepest ascent of length 1 and P the projection on ball and bounds. At iterate w_j of `checkpoints`, eta is halved
    and the image goes on from its best iterate x_max where (1) fewer than rho (w_j - w_{j-1}) steps since w_{j-1} raised f, or
    (2) w_{j-1} halved nothing and f_max has not grown since. Returned is the last iterate that fools the target, or where
    none does, the one closest to fooling it, over all runs; an image that a run fools has no further runs.

    Defaults: the paper's. Starts are uniform draws of the ball; the authors' code takes draws out to its boundary.

    Args:
      apply_fn: the target.
      epsilon: radius of the ball; K of them give results [K, B, ...].
      norm: "linf" or "l2".
      loss: f. "cross_entropy"; "dlr", `dlr`; "targeted_dlr", `targeted_dlr` with one run for each target class, from the most
        likely class that is not y on. With `targets`, cross-entropy of the target class is descended, and both forms of DLR
        are the targeted one with that class alone.
      num_steps: N, gradients a run.
      num_restarts: runs (for each target class), each from a draw of the ball.
      num_target_classes: of "targeted_dlr", at most all but y.
      momentum: alpha; 1 has none.
      rho: share of the steps that must raise f.

    Raises:
      ValueError: epsilon out of range, another norm or loss, numbers below 1, momentum outside (0, 1] or rho outside [0, 1];
        when called, DLR of fewer than three classes or targeted DLR of fewer than four, on which it is not defined.
    """
    check_ball(epsilon, norm)
    attack = apgd_within(apply_fn, norm, loss, num_steps, num_restarts, num_target_classes, momentum, rho)
    return checked(apply_fn, swept(attack, epsilon))


def apgd_within(
    apply_fn: ApplyFn,
    norm: str,
    loss: str,
    num_steps: int,
    num_restarts: int,
    num_target_classes: int,
    momentum: float,
    rho: float,
) -> Callable[..., AttackResult]:
    """`apgd` with the radius, which may be traced, as an argument: `attack(epsilon, key, variables, images, labels, targets)`."""
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; choose one of {', '.join(LOSSES)}")
    numbers = {"num_steps": num_steps, "num_restarts": num_restarts, "num_target_classes": num_target_classes}
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} is {number}; choose a positive one")
    if not 0 < momentum <= 1 or not 0 <= rho <= 1:
        raise ValueError(f"momentum is {momentum}, rho {rho}; choose them in (0, 1] and [0, 1]")
    checks = checkpoints(num_steps)
    lengths = np.zeros(num_steps + 1, np.float32)
    lengths[checks[1:]] = np.diff(checks)  # 0 where there is no checkpoint
    apply_fn = matched(apply_fn)

    def attack(epsilon, key, variables, images, labels, targets=None) -> AttackResult:
        many = loss == "targeted_dlr" and targets is None
        aims = runners_up(apply_fn(variables, images), labels, num_target_classes) if many else None

        def objective(logits, aim):
            if loss == "cross_entropy":
                sign, goal = (1.0, labels) if targets is None else (-1.0, targets)
                return sign * optax.softmax_cross_entropy_with_integer_labels(logits, goal)
            least = 4 if many or targets is not None else 3
            if logits.shape[-1] < least:
                raise ValueError(f"{loss} needs {least} classes, the target has {logits.shape[-1]}; choose cross_entropy")
            return dlr(logits, labels) if least == 3 else targeted_dlr(logits, labels, aim)

        def keep(best, x, logits):
            distance = margin_to_fool(logits, labels, targets)
            return choose((distance < 0) | (distance < best[1]), (x, distance), best)

        def run(i, best):
            aim = aims[:, i % aims.shape[1]] if many else targets

            def total(x):
                logits = apply_fn(variables, x)
                values = objective(logits, aim)
                return values.sum(), (values, logits)

            def one(k, carry):
                x, before, eta, value, increases, (top, top_gradient, top_value), checked_value, halved, best = carry
                gradient, (new_value, logits) = jax.grad(total, has_aux=True)(x)
                best = keep(best, x, logits)
                increases += new_value > value
                found = choose(new_value > top_value, (x, gradient, new_value), (top, top_gradient, top_value))
                length = jnp.asarray(lengths)[k]
                halve = (length > 0) & ((increases < rho * length) | (~halved & (found[2] == checked_value)))
                eta = jnp.where(halve, eta / 2, eta)
                x, gradient, value = choose(halve, found, (x, gradient, new_value))
                increases, halved, checked_value = jax.tree.map(
                    lambda new, old: jnp.where(length > 0, new, old),
                    (jnp.zeros_like(increases), halve, found[2]),
                    (increases, halved, jnp.where(k == 0, new_value, checked_value)),
                )
                z = project(x + eta[:, None, None, None] * direction(gradient, norm), images, epsilon, norm)
                alpha = jnp.where(k == 0, 1.0, momentum)
                moved = project(x + alpha * (z - x) + (1 - alpha) * (x - before), images, epsilon, norm)
                return moved, x, eta, value, increases, found, checked_value, halved, best

            start = draw(jax.random.fold_in(key, i), images, epsilon, norm)
            zeros = jnp.zeros(labels.shape, images.dtype)
            low = jnp.full_like(zeros, -jnp.inf)
            carry = start, start, zeros + 2 * epsilon, zeros + jnp.inf, zeros, (start, start, low), low, zeros > 0, best
            x, *_, best = jax.lax.fori_loop(0, num_steps, one, carry)
            return keep(best, x, apply_fn(variables, x))

        def next_run(carry):
            i, best, used = carry
            left = best[1] >= 0
            return i + 1, choose(left, run(i, best), best), used + num_steps * left

        num_runs = num_restarts * (aims.shape[1] if many else 1)
        unknown = images, jnp.full(labels.shape, jnp.inf, images.dtype)
        _, best, used = jax.lax.while_loop(
            lambda carry: (carry[0] < num_runs) & (carry[1][1] >= 0).any(),
            next_run,
            (0, unknown, jnp.zeros(labels.shape, jnp.int32)),
        )
        return attack_result(apply_fn, variables, images, best[0], labels, targets, used)

    return attack
