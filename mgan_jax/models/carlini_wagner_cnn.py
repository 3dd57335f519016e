"""The MNIST network of Carlini & Wagner 2017 (arXiv:1608.04644), table I."""

from mgan_jax.models.classifier import classifier
from mgan_jax.models.layers import Conv, Dense, Gated, flatten, max_pool, max_pool_batch_first, swap_batch
from mgan_jax.types import Classifier


def carlini_wagner_cnn(image_shape: tuple[int, int, int], num_classes: int) -> Classifier:
    """Conv 32, 32, pool, conv 64, 64, pool (3x3 all), dense 200, 200, logits; unpadded from 16 pixels on.

    Its patches, 660 KB an image, outgrow a CPU's caches: votes take XLA's own convolution, whose derivatives are slow.
    """
    padding = "VALID" if min(image_shape[:2]) >= 16 else "SAME"
    dense = {"dense1": Gated(Dense(200)), "dense2": Gated(Dense(200)), "output": Dense(num_classes)}

    def layers(batch_first: bool) -> dict:
        conv = lambda features: Gated(Conv(features, 3, padding=padding, batch_first=batch_first))  # noqa: E731
        pool = max_pool_batch_first if batch_first else max_pool
        first = {"conv1": conv(32), "conv2": conv(32), "pool1": pool, "conv3": conv(64), "conv4": conv(64), "pool2": pool}
        if batch_first:
            first = {"images_first": swap_batch, **first, "images_last": swap_batch}
        return {**first, "flatten": flatten, **dense}

    return classifier(layers(False), image_shape, layers(True))
