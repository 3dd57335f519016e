"""Any detector with a threshold of its own for every class that the network predicts."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from mgan_jax import engine
from mgan_jax.detectors.entry import checked
from mgan_jax.types import ApplyFn, Array, Detector, Variables


def class_ranks(scores: Array, decisions: Array, clean_scores: Array, clean_decisions: Array) -> Array:
    """Mid-rank of each score among the clean scores of its own predicted class, ties halved; .5 where there are none.

    Args:
      scores, decisions: [B] of the images tested, and what the network predicts them as.
      clean_scores, clean_decisions: [N] of clean images.

    Returns:
      [B] in [0, 1].
    """
    own, tested, clean = decisions[:, None] == clean_decisions[None], scores[:, None], clean_scores[None]
    count = lambda mask: mask.sum(-1, dtype=tested.dtype)  # noqa: E731
    below = count(own & (clean < tested)) + 0.5 * count(own & (clean == tested))
    return jnp.where(own.any(-1), below / jnp.maximum(count(own), 1), 0.5)


def class_conditional(apply_fn: ApplyFn, detector: Detector, two_sided: bool = False, batch_size: int = 500) -> Detector:
    """Replaces a score by its rank among those of clean images that the network predicts as the same class.

    An attack that sends its images to the classes with the highest normal scores hides behind one threshold for all; here
    the same share of false positives is allowed in each class. Ranks are among the images that the detector was fitted to, so it
    has to score these as it does others: not one that remembers them, as a kernel density does.

    Args:
      apply_fn: the network.
      detector: whose score is ranked.
      two_sided: whether scores lower than normal are suspicious too: the rank's distance from the middle, doubled.
      batch_size: images at once in `fit`.

    Returns:
      A `Detector`; `score` gives [B] in [0, 1], the mid-rank among clean images of the predicted class, ties halved, and .5
      (0 if two-sided) for a class that no clean image is predicted as; infinite without an answer. The state holds the
      detector's, the clean scores [N] and the clean decisions [N].
    """

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict[str, Any]:
        state = detector.fit(key, variables, images, labels)
        batches = [images[start : start + batch_size] for start in range(0, len(images), batch_size)]
        scores = jnp.concatenate([detector.score(variables, state, batch) for batch in batches])
        decisions = engine.predictions(apply_fn, variables, np.asarray(images), batch_size)
        return {"detector": state, "scores": scores, "decisions": decisions}

    def score(variables: Variables, state: dict[str, Any], images: Array) -> Array:
        decisions = engine.decide(apply_fn(variables, images)) if len(images) else jnp.zeros(0, jnp.int32)
        scores = detector.score(variables, state["detector"], images)
        rank = class_ranks(scores, decisions, state["scores"], state["decisions"])
        unanswered = (decisions == engine.NO_CLASS) | jnp.isposinf(scores)
        return jnp.where(unanswered, jnp.inf, jnp.abs(2 * rank - 1) if two_sided else rank)

    return checked(Detector(fit, score), apply_fn, answers_none=True)
