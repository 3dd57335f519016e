"""What every detector does first: look at its arrays, and answer a batch without images."""

from typing import Any

import numpy as np

from mgan_jax.inputs import as_images, as_labels, as_scores, as_variables, of_no_images, read_images
from mgan_jax.types import ApplyFn, Array, Classifier, Detector, Variables


def checked(detector: Detector, network: ApplyFn | Classifier | None = None, answers_none: bool = False) -> Detector:
    """The detector, on arrays as `inputs.as_images` and `as_labels` give them; no images have no scores, and fit nothing.

    A score that is NaN is infinite instead: a detector that cannot answer for an image calls it suspicious.

    Args:
      detector: on JAX arrays.
      network: whose classes labels are, where `fit` looks at labels.
      answers_none: whether it answers no images by itself, as one that cannot be traced has to.

    Returns:
      A `Detector` whose functions raise ValueError for arrays that they cannot read, and whose `fit` does for no images.
    """

    def fit(key: Array, variables: Variables, images: Any, labels: Any) -> Any:
        variables, images = as_variables(variables), read_images(images)
        labels = np.asarray(as_labels(labels, images, network, variables))
        if not len(images):
            raise ValueError(
                f"images are of the shape {images.shape}; there is nothing to fit a detector to, so give at least one"
            )
        return detector.fit(key, variables, images, labels)

    def of(function: Any) -> Any:
        def run(variables: Variables, state: Any, images: Any) -> Array:
            variables, state, images = as_variables(variables), as_variables(state), as_images(images)
            if len(images) or answers_none:
                return function(variables, state, images)
            return of_no_images(lambda x: function(variables, state, x), images)

        return run

    score = of(lambda *given: as_scores(detector.score(*given)))
    return Detector(fit, score, None if detector.used is None else of(detector.used))
