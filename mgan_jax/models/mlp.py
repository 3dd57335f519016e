"""Multilayer perceptron."""

from collections.abc import Sequence

import jax

from mgan_jax.models.classifier import classifier
from mgan_jax.models.layers import Dense, Gated, flatten
from mgan_jax.types import Array, Classifier, Variables


def mlp(
    image_shape: tuple[int, int, int], num_classes: int, widths: Sequence[int] = (128,), initial_scale: float = 1.0
) -> Classifier:
    """Dense layers with ReLU, then logits; two layers of the same width in a row are not residual.

    Args:
      image_shape: (H, W, C).
      num_classes: of the logits.
      widths: of the hidden layers.
      initial_scale: by which the first layer's initial weights are multiplied. At about 10 they stay nearly as random as they
        were drawn: the network learns nearly as well, and small steps along the sign of its gradient ruin it.

    Raises:
      ValueError: initial_scale is not positive.
    """
    if not initial_scale > 0:
        raise ValueError(f"initial_scale is {initial_scale}; choose it > 0")
    hidden = {f"dense{i}": Gated(Dense(width)) for i, width in enumerate(widths, 1)}
    made = classifier({"flatten": flatten, **hidden, "output": Dense(num_classes)}, image_shape)

    def init(key: Array) -> Variables:
        variables, first = made.init(key), next(iter(hidden), "output")
        scaled = jax.tree.map(lambda leaf: initial_scale * leaf, variables["params"][first])
        return {**variables, "params": {**variables["params"], first: scaled}}

    return made if initial_scale == 1 else made._replace(init=init)
