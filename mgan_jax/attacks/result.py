"""What every attack does last, look at the images it returns, and on the way, keep the better of two iterates."""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from mgan_jax.engine import decide
from mgan_jax.losses import finite_rows, margin_to_fool, settled
from mgan_jax.success import fooled, withstands
from mgan_jax.types import ApplyFn, Array, AttackResult, Variables


def choose(better: Array, new: Any, old: Any) -> Any:
    """Trees of arrays [B, ...]: image by image `new` where `better` [B], else `old`."""
    return jax.tree.map(lambda n, o: jnp.where(better.reshape(-1, *(1,) * (n.ndim - 1)), n, o), new, old)


def rounded(images: Array) -> Array:
    """Images in [0, 1] as they are saved, with 8 bits a value."""
    return jnp.round(images * 255) / 255


def learned_targets(targets: Array | None, target_label: int | None, labels: Array) -> Array | None:
    """The targets of an attack that has learned to reach one class, or none: every image's is that class.

    Args:
      targets: what the attack is given, [B] or None.
      target_label: the class it was learned for; None: any but the true one.
      labels: [B].

    Raises:
      ValueError: targets for what was learned without.
    """
    if targets is not None and target_label is None:
        raise ValueError("this attack was learned untargeted; choose a target_label when building it to aim at a class")
    return jnp.full_like(labels, target_label) if targets is None and target_label is not None else targets


def attack_result(
    apply_fn: ApplyFn,
    variables: Variables,
    images: Array,
    adversarial: Array,
    labels: Array,
    targets: Array | None = None,
    used: Array | int = 0,
) -> AttackResult:
    """Recomputes success and distances from the returned images. Success needs a lead beyond rounding (`margin_to_fool`).

    Args:
      apply_fn, variables: the target.
      images: [B, H, W, C] clean.
      adversarial: [B, H, W, C].
      labels: [B] true classes.
      targets: [B] aims of a targeted attack; an image that is of its target's class is no success.
      used: [B] gradients or queries an image, or one number for all.
    """
    chex.assert_equal_shape([images, adversarial])
    answer = lambda x: settled(apply_fn(variables, x), images.dtype)  # noqa: E731
    clean_logits = answer(images)
    clean_correct = decide(clean_logits) == labels

    def fools(logits: Array) -> Array:
        return fooled(labels, clean_correct, decide(logits), targets) & (margin_to_fool(logits, labels, targets) < 0)

    ended_finite = finite_rows(adversarial)
    adversarial = choose(ended_finite, adversarial.astype(images.dtype), images)
    logits = answer(adversarial)
    change = jnp.abs(adversarial - images)
    flat = change.reshape(change.shape[0], -1)
    return AttackResult(
        adversarial=adversarial,
        success=fools(logits),
        success_rounded=fools(answer(rounded(adversarial))),
        withstood=withstands(labels, clean_correct, decide(logits), targets),
        clean_correct=clean_correct,
        logits=logits,
        l0=(change > 0).any(-1).sum((1, 2), dtype=jnp.int32),
        l1=flat.sum(-1),
        l2=jnp.sqrt(jnp.square(flat).sum(-1)),
        linf=flat.max(-1),
        used=jnp.broadcast_to(jnp.asarray(used, jnp.int32), labels.shape),
        finite=ended_finite & finite_rows(clean_logits) & finite_rows(logits),
    )


def success_rate(result: AttackResult) -> Array:
    """Share of the correctly classified images [B] on which the attack succeeds; NaN where there is none; [K] of a sweep."""
    return jnp.asarray(result.success).sum(-1) / jnp.asarray(result.clean_correct).sum(-1)


def robust_accuracy(result: AttackResult) -> Array:
    """Share of all images [B] that are classified correctly, clean and after the attack; NaN of none; [K] of a sweep.

    Of a targeted attack these are the images that do not get their target, but are read as some class (`success.withstands`).
    """
    return jnp.asarray(result.withstood).mean(-1)
