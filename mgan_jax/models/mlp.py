"""Multilayer perceptron."""

from collections.abc import Sequence

from mgan_jax.models.classifier import classifier
from mgan_jax.models.layers import Dense, Gated, flatten
from mgan_jax.types import Classifier


def mlp(image_shape: tuple[int, int, int], num_classes: int, widths: Sequence[int] = (128,)) -> Classifier:
    """Dense layers with ReLU, then logits; two layers of the same width in a row are not residual.

    Args:
      image_shape: (H, W, C).
      num_classes: of the logits.
      widths: of the hidden layers.
    """
    hidden = {f"dense{i}": Gated(Dense(width)) for i, width in enumerate(widths, 1)}
    return classifier({"flatten": flatten, **hidden, "output": Dense(num_classes)}, image_shape)
