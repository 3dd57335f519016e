"""What defenses share that change the image before the target sees it."""

from collections.abc import Callable

from mgan_jax.defenses.entry import checked
from mgan_jax.squeezers import straight_through
from mgan_jax.types import ApplyFn, Array, Defense, Variables


def purifying(
    apply_fn: ApplyFn,
    fit: Callable[..., Variables],
    purify: Callable[[Variables, Array], Array],
    differentiable: bool = False,
    reads_labels: bool = False,
) -> Defense:
    """A `Defense` that classifies purified images.

    Args:
      apply_fn: the target.
      fit: of the defense.
      purify: `purify({'target': ..., 'defense': ...}, images [B, H, W, C]) -> [B, H, W, C]` in [0, 1].
      differentiable: whether attacks get the derivative of `purify`; else that of the identity, of which purification is meant to
        be an approximation (BPDA, Athalye et al. 2018, arXiv:1802.00420, section 4.1.1).
      reads_labels: whether `fit` does anything with labels, which are then to be the target's classes.
    """

    def purified(variables: Variables, images: Array) -> Array:
        return purify(variables, images).astype(images.dtype)

    def apply(variables: Variables, images: Array) -> Array:
        changed = purified(variables, images)
        return apply_fn(variables["target"], changed if differentiable else straight_through(images, changed))

    return checked(Defense(fit, apply, purified), apply_fn if reads_labels else None)
