"""A classifier of standardized images (LeCun et al. 1998, Efficient BackProp, section 4.3)."""

import jax.numpy as jnp
import numpy as np

from mgan_jax.types import Array, Classifier, Variables

STAGE = "standardize"


def standardized(classifier: Classifier, images: np.ndarray, min_deviation: float) -> Classifier:
    """The classifier of (x - mean) / max(deviation, min_deviation), each pixel by its own over `images`.

    Pixels that hardly vary, as at the border, are then as loud as the rest: a small change of all of them at once ruins the
    network.

    Args:
      classifier: of the standardized images.
      images: [N, H, W, C], those that it will be trained on.
      min_deviation: the least standard deviation that a pixel is divided by, in units of [0, 1].

    Returns:
      A `Classifier` with mean and deviation, [H, W, C], in `variables['statistics']`, and one stage more, the first.

    Raises:
      ValueError: min_deviation is not positive.
    """
    if not min_deviation > 0:
        raise ValueError(f"standardize is {min_deviation}; choose a least standard deviation > 0")
    mean, deviation = np.mean(images, 0), np.maximum(np.std(images, 0), min_deviation)

    def init(key: Array) -> Variables:
        found = {"mean": jnp.asarray(mean), "deviation": jnp.asarray(deviation)}
        return {**classifier.init(key), "statistics": {STAGE: found}}

    def standardize(variables: Variables, images: Array) -> Array:
        found = variables["statistics"][STAGE]
        return (images - found["mean"][None]) / found["deviation"][None]

    return classifier._replace(
        init=init,
        apply=lambda variables, images: classifier.apply(variables, standardize(variables, images)),
        features=lambda variables, images: classifier.features(variables, standardize(variables, images)),
        stages=((STAGE, standardize), *classifier.stages),
    )
