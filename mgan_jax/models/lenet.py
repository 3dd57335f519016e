"""LeNet-5 with ReLU and max pooling (LeCun et al. 1998)."""

from mgan_jax.models.classifier import classifier
from mgan_jax.models.layers import Conv, Dense, Gated, flatten, max_pool
from mgan_jax.types import Classifier


def lenet(image_shape: tuple[int, int, int], num_classes: int) -> Classifier:
    """Conv 6 (5x5), pool, conv 16 (5x5), pool, dense 120, 84, logits: 61,706 parameters for 28 x 28 x 1 and 10 classes.

    The second convolution is unpadded, as published, where the image leaves room for it (from 16 pixels on).
    """
    padding = "VALID" if min(image_shape[:2]) >= 16 else "SAME"
    return classifier(
        {
            "conv1": Gated(Conv(6, 5)),
            "pool1": max_pool,
            "conv2": Gated(Conv(16, 5, padding=padding)),
            "pool2": max_pool,
            "flatten": flatten,
            "dense1": Gated(Dense(120)),
            "dense2": Gated(Dense(84)),
            "output": Dense(num_classes),
        },
        image_shape,
    )
