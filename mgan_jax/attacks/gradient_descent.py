"""Gradient descent on the quadratic cost of an answer: noise read as a class, and pictures read as another class."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.attacks.ball import swept
from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.losses import runner_up
from mgan_jax.types import ApplyFn, Attack, AttackResult

OUTPUTS = {"softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid}


def gradient_descent(
    apply_fn: ApplyFn,
    distance_weight: float | Sequence[float] = 0.005,
    num_steps: int = 500,
    step_size: float = 0.5,
    output: str = "softmax",
    bounds: bool = True,
    brightness: float = 0.3,
) -> Attack:
    """From a random image, x <- x - step_size grad C(x), of

        C(x) = 1/2 ||y_goal - y(x)||^2 + lambda ||x - x_target||^2

    where y(x) is the target's softmax (or sigmoid of its logits) and y_goal is 1 at the class wanted, else 0. `images` are the
    pictures x_target that people shall read, `targets` the classes the network shall read (without: the likeliest class
    besides the label). With lambda 0 the result is noise read as that class, and the pictures are only what `labels` and the
    distances refer to. Returned is the iterate of least cost.

    Where y is a softmax, the first term is at most 1, so at lambda .5 anything farther than sqrt(2) from x_target costs more
    than giving up: small lambdas (.005) are for confidence, larger ones for likeness. A random start matters, since at
    x_target itself the network is sure of another class, and the gradient of the first term all but zero.

    Defaults: all ours.

    Args:
      apply_fn: the target.
      distance_weight: lambda; K of them give results [K, B, ...] in one program, all from the same starts.
      num_steps: gradient steps.
      step_size: of each; stable while step_size * lambda < 1.
      output: "softmax" or "sigmoid".
      bounds: whether each step is cut to [0, 1]; if not, only the returned image is.
      brightness: starts are uniform draws of [0, brightness].

    Raises:
      ValueError: a negative or infinite lambda, steps that are not positive, a brightness outside of [0, 1], another output.
    """
    weights = np.asarray(distance_weight, np.float64)
    if weights.ndim > 1 or not weights.size or not ((weights >= 0) & np.isfinite(weights)).all():
        raise ValueError(f"distance_weight is {distance_weight}; choose one finite number >= 0, or a list of them")
    if num_steps < 1 or not 0 < step_size < float("inf"):
        raise ValueError(f"num_steps is {num_steps}, step_size {step_size}; both must be positive and finite")
    if output not in OUTPUTS:
        raise ValueError(f"output is {output!r}; choose one of {', '.join(OUTPUTS)}")
    if not 0 <= brightness <= 1:
        raise ValueError(f"brightness is {brightness}; choose it between 0 and 1")
    apply_fn = matched(apply_fn)

    def attack(distance_weight, key, variables, images, labels, targets=None) -> AttackResult:
        classes = runner_up(apply_fn(variables, images), labels) if targets is None else targets

        def cost(x):
            logits = apply_fn(variables, x)
            goal = jax.nn.one_hot(classes, logits.shape[-1], dtype=logits.dtype)
            answer = jnp.square(goal - OUTPUTS[output](logits)).sum(-1) / 2
            costs = answer + distance_weight * jnp.square(x - images).sum((1, 2, 3))
            return costs.sum(), costs

        def keep(x, costs, best, best_cost):
            return choose(costs < best_cost, (x, costs), (best, best_cost))

        def one(_, carry):
            x, *best = carry
            gradient, costs = jax.grad(cost, has_aux=True)(x)
            moved = x - step_size * gradient
            return jnp.clip(moved, 0.0, 1.0) if bounds else moved, *keep(x, costs, *best)

        start = jax.random.uniform(key, images.shape, images.dtype, maxval=brightness)
        nothing = jnp.full(labels.shape, jnp.inf, images.dtype)
        last, *best = jax.lax.fori_loop(0, num_steps, one, (start, start, nothing))
        best, _ = keep(last, cost(last)[1], *best)
        return attack_result(apply_fn, variables, images, jnp.clip(best, 0.0, 1.0), labels, targets, used=num_steps)

    return checked(apply_fn, swept(attack, distance_weight))
