"""Feature squeezing as a defense: the target sees squeezed images only (Xu, Evans and Qi 2018, arXiv:1704.01155)."""

from collections.abc import Mapping
from typing import Any

from mgan_jax.defenses.purification import purifying
from mgan_jax.squeezers import Squeeze, squeezer
from mgan_jax.types import ApplyFn, Array, Defense, Variables

MEDIAN = {"name": "median", "size": 2}


def squeezing(apply_fn: ApplyFn, squeeze: Mapping[str, Any] | Squeeze = MEDIAN, differentiable: bool = False) -> Defense:
    """Squeezes images before the target sees them.

    Args:
      apply_fn: the target.
      squeeze: a squeezer, or what `squeezers.squeezer` makes one of: its name and arguments.
      differentiable: whether an attack gets the squeezer's own derivative, which of bit depths without a slope
        is 0; else the identity's, which of all of them is an approximation.

    Returns:
      A `Defense` without anything to fit: its state is empty.

    Raises:
      ValueError: an unknown squeezer, or numbers that it does not take.
    """
    change = squeeze if callable(squeeze) else squeezer(**squeeze)

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict[str, Array]:
        del key, variables, images, labels
        return {}

    return purifying(apply_fn, fit, lambda variables, images: change(images), differentiable)
