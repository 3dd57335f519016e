"""Softmax regression."""

from mgan_jax.models.classifier import classifier
from mgan_jax.models.layers import Dense, flatten
from mgan_jax.types import Classifier


def linear(image_shape: tuple[int, int, int], num_classes: int) -> Classifier:
    """One dense layer from pixels to logits: the model on which attacks have closed forms."""
    return classifier({"flatten": flatten, "output": Dense(num_classes)}, image_shape)
