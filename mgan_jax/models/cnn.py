"""The default target: a LeNet with a residual convolution and a residual dense layer."""

from mgan_jax.models.classifier import classifier
from mgan_jax.models.layers import Conv, Dense, Gated, flatten, max_pool
from mgan_jax.types import Classifier


def cnn(image_shape: tuple[int, int, int], num_classes: int) -> Classifier:
    """Conv 6 (5x5), pool, conv 16 (5x5), residual conv 16 (3x3), pool, dense 120, residual dense 120, logits.

    The two residual layers, x + relu(f(x)), can be removed (LD) or repeated (LA) and leave a network that works; in a
    plain LeNet either leaves 2 to 17 % accuracy. The second convolution is unpadded from 16 pixels on.
    """
    padding = "VALID" if min(image_shape[:2]) >= 16 else "SAME"
    return classifier(
        {
            "conv1": Gated(Conv(6, 5)),
            "pool1": max_pool,
            "conv2": Gated(Conv(16, 5, padding=padding)),
            "conv3": Gated(Conv(16, 3), residual=True),
            "pool2": max_pool,
            "flatten": flatten,
            "dense1": Gated(Dense(120)),
            "dense2": Gated(Dense(120), residual=True),
            "output": Dense(num_classes),
        },
        image_shape,
    )
