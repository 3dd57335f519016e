"""What every attack does before it attacks: look at its batch, answer one without images, and choose the dtype it computes in."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mgan_jax.attacks.result import choose
from mgan_jax.inputs import as_batch, as_variables
from mgan_jax.losses import finite_rows, settled
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Variables


def matched(apply_fn: ApplyFn) -> ApplyFn:
    """The classifier, whose logits are of the images' dtype: what an attack loops over and returns is of one dtype then.

    A lead within the rounding of its own, maybe coarser, dtype decides nothing there either (`losses.settled`).
    """
    return lambda variables, images: settled(apply_fn(variables, images), images.dtype)


def cast(network: ApplyFn) -> ApplyFn:
    """Any network, whose outputs are of the dtype of what it is given."""
    return lambda variables, x: network(variables, x).astype(x.dtype)


def representable(number: float, dtype: jnp.dtype) -> float:
    """A positive number, or a quarter of the largest that a dtype holds where that is less: of float16 16,376."""
    return min(number, float(jnp.finfo(dtype).max) / 4)


finite_gradient = jax.custom_vjp(lambda images: images)
"""The images [B, H, W, C] themselves; on the way back the gradient of one that is not finite becomes 0."""
finite_gradient.defvjp(
    lambda images: (images, None), lambda _, gradient: (choose(finite_rows(gradient), gradient, jnp.zeros_like(gradient)),)
)


def sheltered(apply_fn: ApplyFn) -> ApplyFn:
    """`matched`, for what one learns from many images: one whose logits or gradient are not finite teaches nothing.

    Such logits are 0, and such a gradient is 0 for its image alone.
    """

    def apply(variables: Variables, images: Array) -> Array:
        logits = matched(apply_fn)(variables, finite_gradient(images))
        return choose(finite_rows(logits), logits, jnp.zeros_like(logits))

    return apply


def checked(apply_fn: ApplyFn, attack: Attack, bounded: bool = True) -> Attack:
    """The attack, on arrays as `inputs.as_batch` gives them; of no images an empty result, with the shapes and dtypes of others.

    It does its work while Python runs: compiled, an attack is what it was.

    Args:
      apply_fn: the target.
      attack: on JAX arrays, targets None or by position.
      bounded: whether images must lie in [0, 1].
    """

    def run(key: Array, variables: Variables, images: Any, labels: Any, targets: Any = None) -> AttackResult:
        variables, images, labels, targets = as_batch(apply_fn, variables, images, labels, targets, bounded)
        if len(images):
            return attack(key, variables, images, labels, targets)
        one = [None if x is None else jax.ShapeDtypeStruct((1, *x.shape[1:]), x.dtype) for x in (images, labels, targets)]
        result = jax.eval_shape(attack, key, variables, *one)
        axis = result.success.ndim - 1
        return jax.tree.map(lambda leaf: jnp.zeros((*leaf.shape[:axis], 0, *leaf.shape[axis + 1 :]), leaf.dtype), result)

    return run


def checked_learned(apply_fn: ApplyFn, attack: Callable[..., AttackResult]) -> Callable[..., AttackResult]:
    """`checked`, of an attack whose first argument is what it has learned, `attack(state, key, ...)`."""

    def run(state: Any, key: Array, variables: Variables, images: Any, labels: Any, targets: Any = None) -> AttackResult:
        return checked(apply_fn, functools.partial(attack, as_variables(state)))(key, variables, images, labels, targets)

    return run


def checked_fit(apply_fn: ApplyFn, fit: Callable[..., Any]) -> Callable[..., Any]:
    """What an attack learns from arrays as `inputs.as_batch` gives them; its signature stays the same.

    Args:
      apply_fn: the network that is learned on, of the variables that `fit` is given.
      fit: `fit(key, variables, images, labels, ...) -> state`.

    Raises, when called:
      ValueError: there are no images.
    """

    def run(key: Array, variables: Variables, images: Any, labels: Any, *more: Any) -> Any:
        variables, images, labels, _ = as_batch(apply_fn, variables, images, labels)
        if not len(images):
            raise ValueError(f"images are of the shape {images.shape}; there is nothing to learn from, so give at least one")
        return fit(key, variables, images, labels, *more)

    return functools.wraps(fit)(run)
