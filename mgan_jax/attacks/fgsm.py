"""Fast gradient sign method (Goodfellow et al. 2015, arXiv:1412.6572)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from optax import softmax_cross_entropy_with_integer_labels

from mgan_jax.attacks.ball import check_ball, direction, swept
from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult


def fgsm(
    apply_fn: ApplyFn,
    epsilon: float | Sequence[float] = 0.3,
    norm: str = "linf",
    loss: Callable[[Array, Array], Array] = softmax_cross_entropy_with_integer_labels,
) -> Attack:
    """x + epsilon sign(grad J(x, y)), with targets x - epsilon sign(grad J(x, t)), clipped to [0, 1]; a single step.

    Defaults: epsilon is that of Madry et al. for MNIST; Goodfellow et al. take 0.25.

    Args:
      apply_fn: the target.
      epsilon: length of the step; K of them give results [K, B, ...].
      norm: "linf"; or "l2", where the step is epsilon grad J / ||grad J||_2.
      loss: `(logits, labels) -> [B]`, J.

    Raises:
      ValueError: epsilon out of range, or another norm.
    """
    check_ball(epsilon, norm)
    apply_fn = matched(apply_fn)

    def attack(epsilon, key, variables, images, labels, targets=None) -> AttackResult:
        del key
        goal, sign = (labels, 1.0) if targets is None else (targets, -1.0)
        gradient = jax.grad(lambda x: loss(apply_fn(variables, x), goal).sum())(images)
        adversarial = jnp.clip(images + epsilon * sign * direction(gradient, norm), 0.0, 1.0)
        return attack_result(apply_fn, variables, images, adversarial, labels, targets, used=1)

    return checked(apply_fn, swept(attack, epsilon))
