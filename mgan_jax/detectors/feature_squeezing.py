"""Feature squeezing (Xu, Evans and Qi 2018, arXiv:1704.01155): does the answer survive an image with fewer features?"""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mgan_jax.detectors.entry import checked
from mgan_jax.inputs import exact
from mgan_jax.squeezers import Squeeze, squeezer, straight_through
from mgan_jax.types import ApplyFn, Array, Detector, Variables

MNIST = ({"name": "bit_depth", "bits": 1}, {"name": "median", "size": 2})
"""The paper's best joint detector for MNIST."""


def feature_squeezing(
    apply_fn: ApplyFn, squeezers: Sequence[Mapping[str, Any] | Squeeze] = MNIST, differentiable: bool = False
) -> Detector:
    """max over squeezers s of ||softmax f(x) - softmax f(s(x))||_1 (section 5).

    Args:
      apply_fn: the network f.
      squeezers: each a squeezer, or what `squeezers.squeezer` makes one of: its name and arguments. The paper's for CIFAR-10 are
        bit depth 5, median 2 and non-local means 13-3-2; for ImageNet bit depth 5, median 2 and non-local means 11-3-4.
      differentiable: whether the score's derivative is that of the squeezers themselves, which of a bit depth without `slope` is
        0; else each squeezer passes the derivative on as if it were the identity. Either lets an attack on `score` be an
        adaptive one.

    Returns:
      A `Detector` without anything to fit, its state is empty; `score` gives [B] in [0, 2], and can be jitted and differentiated.

    Raises:
      ValueError: no squeezer, an unknown one, or numbers that one does not take.
    """
    if not squeezers:
        raise ValueError("squeezers is empty; choose at least one")
    changes = [squeeze if callable(squeeze) else squeezer(**squeeze) for squeeze in squeezers]

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict[str, Array]:
        del key, variables, images, labels
        return {}

    def score(variables: Variables, state: dict[str, Array], images: Array) -> Array:
        del state
        softmax = lambda x: jax.nn.softmax(exact(apply_fn(variables, x)))  # noqa: E731
        answer = softmax(images)

        def distance(change: Squeeze) -> Array:
            squeezed = change(images)
            seen = squeezed if differentiable else straight_through(images, squeezed)
            return jnp.abs(answer - softmax(seen)).sum(-1)

        return jnp.stack([distance(change) for change in changes]).max(0)

    return checked(Detector(fit, score))
