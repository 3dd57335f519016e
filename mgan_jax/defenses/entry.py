"""What every defense does first: look at its arrays, and answer a batch without images."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mgan_jax.inputs import as_labels, as_variables, of_no_images, read_images
from mgan_jax.types import ApplyFn, Array, Classifier, Defense, Variables


def checked(defense: Defense, network: ApplyFn | Classifier | None = None) -> Defense:
    """The defense, on arrays as `inputs.as_images` and `as_labels` give them; no images give no logits, and fit nothing.

    `apply` looks at shapes and types alone, as a network that an attack may ask outside [0, 1].

    Args:
      defense: on JAX arrays.
      network: whose classes labels are, where `fit` looks at labels.
    """

    def fit(key: Array, variables: Variables, images: Any, labels: Any) -> Any:
        variables, images = as_variables(variables), read_images(images)
        labels = np.asarray(as_labels(labels, images, network, variables))
        if not len(images):
            raise ValueError(f"images are of the shape {images.shape}; a defense is fitted to images, so give at least one")
        return defense.fit(key, variables, images, labels)

    def apply(variables: Variables, images: Any) -> Array:
        return answered(defense.apply, variables, read_images(images, values=False))

    def purify(variables: Variables, images: Any) -> Array:
        return answered(defense.purify, variables, read_images(images))

    def answered(function: Any, variables: Variables, images: Array) -> Array:
        variables, images = as_variables(variables), jnp.asarray(images)
        return function(variables, images) if len(images) else of_no_images(lambda x: function(variables, x), images)

    return defense._replace(fit=fit, apply=apply, purify=None if defense.purify is None else purify)
