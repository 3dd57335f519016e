"""The small strided network of fast adversarial training (Wong et al. 2020, arXiv:2001.03994)."""

from collections.abc import Sequence

from mgan_jax.models.classifier import classifier
from mgan_jax.models.layers import Conv, Dense, Gated, flatten
from mgan_jax.types import Classifier


def strided_cnn(
    image_shape: tuple[int, int, int], num_classes: int, widths: Sequence[int] = (16, 32), hidden: int = 100
) -> Classifier:
    """Convolutions 4x4 of stride 2 with ReLU, one dense layer, logits; no pooling, so that a step costs little.

    Args:
      image_shape: (H, W, C).
      num_classes: of the logits.
      widths: channels, one a convolution; as published 16 and 32.
      hidden: neurons of the dense layer.
    """
    convolutions = {f"conv{i}": Gated(Conv(width, 4, stride=2)) for i, width in enumerate(widths, 1)}
    return classifier(
        {**convolutions, "flatten": flatten, "dense1": Gated(Dense(hidden)), "output": Dense(num_classes)}, image_shape
    )
