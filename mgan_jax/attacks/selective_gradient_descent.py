"""Selective and orthogonal projected gradient descent (Bryniarski et al. 2021, arXiv:2106.15023): fools, and is not detected."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from mgan_jax.attacks.ball import check_ball, direction, draw, project, swept
from mgan_jax.attacks.entry import checked
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.losses import margin_to_fool
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Variables

ORTHOGONAL = ("both", "score", "neither")


def without(gradient: Array, other: Array) -> Array:
    """Image by image what of a gradient is orthogonal to another, both [B, H, W, C]; itself where the other is 0."""
    along = direction(other, "l2")
    return gradient - (gradient * along).sum((1, 2, 3), keepdims=True) * along


def selective_gradient_descent(
    apply_fn: ApplyFn,
    score: Callable[[Variables, Array], Array],
    threshold: float = 0.0,
    epsilon: float | Sequence[float] = 0.3,
    num_steps: int = 200,
    step_size: float = 0.01,
    norm: str = "linf",
    random_start: bool = True,
    num_restarts: int = 1,
    orthogonal: str = "score",
) -> Attack:
    """Goes down the margin to fool while an image does not fool the target, else down the detector's score.

    The loss of each step is L_f(x) 1[f(x) = y] + L_g(x) 1[f(x) != y], the selective descent; the orthogonal one first projects
    the gradient that is followed off the other one, so that a step for one aim does not undo the other to first order. L_f is
    the margin of logits, which unlike cross-entropy has a gradient where the target is certain. Steps are sign(gradient) in
    L-inf; orthogonal ones, whose signs would not be orthogonal, have the gradient's own direction and the 2-norm of such a step.

    Returned is the image of the least score among those that fool and pass; where there is none, among those that fool; where
    there is none, the one closest to fooling. `success` says that it fools; whether it also passes, `score` of it says.

    Args:
      apply_fn: the target.
      score: the detector's, `(variables, images) -> [B]`, of the same variables as the target, which may thus hold the detector's
        state; several detectors are attacked by the largest of their scores. Images pass where it is at most `threshold`.
      threshold: in units of the score; 0 where `score` is an excess already.
      epsilon: radius of the ball, in units of pixels in [0, 1]; K of them give results [K, B, ...] in one program.
      num_steps: gradient steps.
      step_size: of each, in the same units.
      norm: "linf" or "l2".
      random_start: whether to start from a uniform draw of the ball.
      num_restarts: runs from other starts; the best image of all is kept.
      orthogonal: whose gradient is projected off the other: "both", as published; "score", the detector's alone; "neither",
        sign steps in L-inf. The first two cost two gradients a step, as `used` says. Not the published form is the default
        because a score that depends on the target's decision or softmax has nearly the gradient of the margin: projected off
        it, the step that is to fool hardly moves, and fewer images fool than without a detector.

    Raises:
      ValueError: epsilon out of range, another norm or form of projection, steps that are not positive, or restarts without a
        random start.
    """
    check_ball(epsilon, norm)
    if num_steps < 1 or not step_size > 0:
        raise ValueError(f"num_steps is {num_steps}, step_size {step_size}; both must be positive")
    if num_restarts < 1 or (num_restarts > 1 and not random_start):
        raise ValueError(f"num_restarts is {num_restarts}; choose 1, or more with a random start")

    if orthogonal not in ORTHOGONAL:
        raise ValueError(f"orthogonal is {orthogonal!r}; choose one of {', '.join(ORTHOGONAL)}")

    def attack(epsilon, key, variables, images, labels, targets=None) -> AttackResult:
        # An orthogonal step in L-inf has the 2-norm of a step of signs.
        length = step_size * images[0].size ** 0.5 if norm == "linf" else step_size

        def both(x: Array) -> tuple[Array, Array]:
            return margin_to_fool(apply_fn(variables, x), labels, targets), score(variables, x) - threshold

        def descend(pull: Callable, fools: Array) -> Array:
            """The step of every image, from the derivative's pullback."""
            chosen = fools.astype(images.dtype)
            if orthogonal == "neither":
                return -step_size * direction(pull((1 - chosen, chosen))[0], norm)
            ones, zeros = jnp.ones_like(chosen), jnp.zeros_like(chosen)
            to_fool, to_pass = pull((ones, zeros))[0], pull((zeros, ones))[0]
            onwards = without(to_fool, to_pass) if orthogonal == "both" else to_fool
            return -length * direction(choose(fools, without(to_pass, to_fool), onwards), "l2")

        def keep(best: tuple, x: Array, margin: Array, excess: Array) -> tuple:
            fools = margin < 0
            stage = fools.astype(jnp.int32) + (fools & (excess <= 0))
            value = jnp.where(fools, excess, margin)
            better = (stage > best[1]) | ((stage == best[1]) & (value < best[2]))
            return choose(better, (x, stage, value), best)

        def run(best: tuple, run_key: Array) -> tuple:
            start = draw(run_key, images, epsilon, norm) if random_start else images

            def one(i: Array, carry: tuple) -> tuple:
                x, best = carry
                (margin, excess), pull = jax.vjp(both, x)
                best = keep(best, x, margin, excess)
                return project(x + descend(pull, margin < 0), images, epsilon, norm), best

            last, best = jax.lax.fori_loop(0, num_steps, one, (start, best))
            return keep(best, last, *both(last))

        best = images, jnp.full(labels.shape, -1, jnp.int32), jnp.full(labels.shape, jnp.inf, images.dtype)
        if num_restarts == 1:
            best = run(best, key)
        else:
            best, _ = jax.lax.scan(lambda best, k: (run(best, k), None), best, jax.random.split(key, num_restarts))
        used = num_steps * num_restarts * (1 if orthogonal == "neither" else 2)
        return attack_result(apply_fn, variables, images, best[0], labels, targets, used)

    return checked(apply_fn, swept(attack, epsilon))
