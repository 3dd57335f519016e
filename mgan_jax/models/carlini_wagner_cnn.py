"""The MNIST network of Carlini & Wagner 2017 (arXiv:1608.04644), table I."""

from mgan_jax.models.classifier import classifier
from mgan_jax.models.layers import Conv, Dense, Gated, flatten, max_pool
from mgan_jax.types import Classifier


def carlini_wagner_cnn(image_shape: tuple[int, int, int], num_classes: int) -> Classifier:
    """Conv 32, 32, pool, conv 64, 64, pool (3x3 all), dense 200, 200, logits; unpadded from 16 pixels on."""
    padding = "VALID" if min(image_shape[:2]) >= 16 else "SAME"
    return classifier(
        {
            "conv1": Gated(Conv(32, 3, padding=padding)),
            "conv2": Gated(Conv(32, 3, padding=padding)),
            "pool1": max_pool,
            "conv3": Gated(Conv(64, 3, padding=padding)),
            "conv4": Gated(Conv(64, 3, padding=padding)),
            "pool2": max_pool,
            "flatten": flatten,
            "dense1": Gated(Dense(200)),
            "dense2": Gated(Dense(200)),
            "output": Dense(num_classes),
        },
        image_shape,
    )
