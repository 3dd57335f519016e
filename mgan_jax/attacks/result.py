"""What every attack does last: look at the images it returns."""

import chex
import jax.numpy as jnp

from mgan_jax.types import ApplyFn, Array, AttackResult, Variables


def attack_result(
    apply_fn: ApplyFn,
    variables: Variables,
    images: Array,
    adversarial: Array,
    labels: Array,
    targets: Array | None = None,
) -> AttackResult:
    """Recomputes success and distances from the returned images.

    Args:
      apply_fn, variables: the target.
      images: [B, H, W, C] clean.
      adversarial: [B, H, W, C].
      labels: [B] true classes.
      targets: [B] aims of a targeted attack; an image that is of its target's class is no success.
    """
    chex.assert_equal_shape([images, adversarial])
    clean_correct = apply_fn(variables, images).argmax(-1) == labels
    logits = apply_fn(variables, adversarial)
    decisions = logits.argmax(-1)
    fooled = decisions != labels if targets is None else (decisions == targets) & (labels != targets)
    change = jnp.abs(adversarial - images)
    flat = change.reshape(change.shape[0], -1)
    return AttackResult(
        adversarial=adversarial,
        success=fooled & clean_correct,
        clean_correct=clean_correct,
        logits=logits,
        l0=(change > 0).any(-1).reshape(change.shape[0], -1).sum(-1),
        l2=jnp.sqrt(jnp.square(flat).sum(-1)),
        linf=flat.max(-1),
    )
