"""Several detectors as one, their scores made comparable on clean images."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.detectors.entry import checked
from mgan_jax.inputs import as_scores, exact
from mgan_jax.types import Array, Detector, Variables


def threshold(scores: Array, false_positive_rate: float = 0.05) -> float:
    """The least score that at most this share of clean images lies above; an image is called adversarial above it.

    Args:
      scores: [N] of clean images that nothing was fitted to, of any detector; NaN counts as infinite.
      false_positive_rate: share of them.

    Raises:
      ValueError: a share that is not between 0 and 1, no scores, or more infinite ones than may lie above.
    """
    if not 0 <= false_positive_rate < 1 or not len(scores):
        raise ValueError(f"false_positive_rate is {false_positive_rate} of {len(scores)} scores; choose a share from 0 to 1")
    # Floating point: 0.05 * 20 images are one image.
    above = int(false_positive_rate * len(scores) + 1e-9)
    found = float(np.sort(as_scores(np.asarray(scores)))[len(scores) - above - 1])
    if found == np.inf:
        raise ValueError(
            f"more than {above} of {len(scores)} clean scores are infinite, and no image lies above such a threshold; give clean "
            "images that the detector can answer for"
        )
    return found


def clean_ranks(scores: np.ndarray) -> dict[str, Array]:
    """Clean scores [N] as `rank` needs them: distinct `values` [U], their mid-ranks `ranks` [U], and `spread` [].

    Only finite ones are values; the ranks are among all.

    Raises:
      ValueError: none is finite.
    """
    scores = as_scores(np.asarray(scores, np.float32))
    values, counts = np.unique(scores[np.isfinite(scores)], return_counts=True)
    if not len(values):
        raise ValueError(f"none of {len(scores)} clean scores is finite; give clean images that the detector can answer for")
    ranks = (np.cumsum(counts) - counts / 2) / len(scores)
    spread = values[-1] - np.median(scores[np.isfinite(scores)])
    return {
        "values": jnp.asarray(values),
        "ranks": jnp.asarray(ranks, jnp.float32),
        "spread": jnp.float32(spread if spread > 0 else 1.0),
    }


def rank(clean: dict[str, Array], scores: Array) -> Array:
    """Share of clean scores below each score [B], interpolated; beyond the largest, its rank plus the excess over the spread."""
    scores = exact(as_scores(scores))
    within = jnp.interp(scores, clean["values"], clean["ranks"])
    return within + jnp.maximum(scores - clean["values"][-1], 0.0) / clean["spread"]


def ranks(detectors: Mapping[str, Detector]) -> Callable[[Variables, dict[str, Any], Array], Array]:
    """`ranks(variables, state, images) -> [D, B]`, each detector's rank of each image, by the state of their `combined`."""

    def of_each(variables: Variables, state: dict[str, Any], images: Array) -> Array:
        return jnp.stack(
            [
                rank(state[name]["clean"], detector.score(variables, state[name]["state"], images))
                for name, detector in detectors.items()
            ]
        )

    return of_each


def combined(detectors: Mapping[str, Detector], calibration: float = 0.5, batch_size: int = 500) -> Detector:
    """max over detectors of the rank of an image's score among those of clean images.

    So no detector's units count, and all are trusted alike: at a common threshold each alone has about the same false positives.
    Ranks are linear from one clean score to the next. They would end at 1, so that one clean outlier beside the others hid all
    attacks from a detector, and left an attack no gradient: beyond the largest clean score they go on, one more for each distance
    from the clean median to that score. False positives of the joint rule are what `threshold` of joint scores allows, taken of
    clean images that `fit` was not given.

    Args:
      detectors: {name: detector}.
      calibration: share of the images given to `fit` that ranks are taken among; the detectors are fitted to the others.
      batch_size: images at once in `fit`.

    Returns:
      A `Detector`; `score` gives [B] >= 0 and can be jitted and differentiated where those of all detectors can, else it works on
      the host. The state is {name: {"state": the detector's, "clean": as `clean_ranks`}}.

    Raises:
      ValueError: no detectors, or a share that is not between 0 and 1; at `fit`, one that leaves no images for a part.
    """
    if not detectors or not 0 < calibration < 1:
        raise ValueError(
            f"{len(detectors)} detectors, calibration {calibration}; choose at least one, and a share between 0 and 1"
        )
    detectors = dict(detectors)

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict[str, Any]:
        split_key, *keys = jax.random.split(key, 1 + len(detectors))
        images, labels = np.asarray(images), np.asarray(labels)
        order, number = np.asarray(jax.random.permutation(split_key, len(images))), round(calibration * len(images))
        if not 0 < number < len(images):
            raise ValueError(f"calibration is {calibration} of {len(images)} images, {number}; choose a share that leaves some")
        ranked, fitted = images[order[:number]], order[number:]

        def one(detector: Detector, key: Array) -> dict[str, Any]:
            state = detector.fit(key, variables, images[fitted], labels[fitted])
            parts = [detector.score(variables, state, ranked[i : i + batch_size]) for i in range(0, number, batch_size)]
            return {"state": state, "clean": clean_ranks(np.concatenate(parts))}

        return {name: one(detector, key) for (name, detector), key in zip(detectors.items(), keys, strict=True)}

    of_each = ranks(detectors)
    return checked(Detector(fit, lambda *given: of_each(*given).max(0)), answers_none=True)
