"""Kernel density of the last hidden layer (Feinman et al. 2017, arXiv:1703.00410)."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import engine
from mgan_jax.detectors.entry import checked
from mgan_jax.inputs import exact
from mgan_jax.types import ApplyFn, Array, Detector, Variables

CANDIDATES = tuple(float(width) for width in np.geomspace(0.1, 10, 21))


def square_distances(first: Array, second: Array) -> Array:
    """||a - b||^2 of all pairs of rows, [B, F] and [N, F] -> [B, N]; one matrix product in full float32."""
    products = jnp.matmul(first, second.T, precision=jax.lax.Precision.HIGHEST)
    squares = [jnp.square(rows).sum(-1) for rows in (first, second)]
    return jnp.maximum(squares[0][:, None] + squares[1][None] - 2 * products, 0.0)


def log_density(distances: Array, mask: Array, bandwidth: Array | float, dimension: int) -> Array:
    """log of the mean over points of N(x; point, bandwidth^2 I), [B].

    Args:
      distances: [B, N] squared ones from x to the points.
      mask: [B, N] bool, which points count.
      bandwidth: standard deviation of the kernel.
      dimension: F, of the space.
    """
    exponents = jnp.where(mask, -distances / (2 * bandwidth**2), -jnp.inf)
    normaliser = jnp.log(mask.sum(-1, dtype=distances.dtype)) + dimension * (jnp.log(bandwidth) + 0.5 * math.log(2 * math.pi))
    return jax.nn.logsumexp(exponents, axis=-1) - normaliser


def kernel_density(
    apply_fn: ApplyFn,
    features: ApplyFn,
    bandwidth: float | None = 1.20,
    candidates: Sequence[float] = CANDIDATES,
    held_out: float = 0.1,
    batch_size: int = 500,
) -> Detector:
    """-log K(x), K(x) = mean over images x' of class t of N(phi(x); phi(x'), sigma^2 I), t the class x is predicted as.

    Points are the images given to `fit` whose label is t.

    Args:
      apply_fn: the network.
      features: phi, `(variables, images) -> [B, F]`, its last hidden layer.
      bandwidth: sigma, 1.20 in the paper for MNIST; None: the one of `candidates` of the largest likelihood of held-out images.
      candidates: bandwidths to choose from.
      held_out: share of the images given to `fit` of which the likelihood is taken, all of them are points in the end.
      batch_size: images at once in `fit`.

    Returns:
      A `Detector`; `score` gives [B] in nats, and can be jitted and differentiated. The state holds `points`
      [num_classes, P, F], of each class filled up with zeros, `counts` [num_classes] and `bandwidth` [].

    Raises:
      ValueError: a bandwidth or candidate that is not positive and finite, a share that is not between 0 and 1; at `fit`, a class
        without an image.
    """
    widths = np.asarray(candidates if bandwidth is None else [bandwidth], np.float64)
    if widths.ndim != 1 or not widths.size or not ((widths > 0) & np.isfinite(widths)).all():
        raise ValueError(f"bandwidth is {bandwidth}, candidates {tuple(candidates)}; choose positive numbers")
    if not 0 < held_out < 1:
        raise ValueError(f"held_out is {held_out}; choose a share between 0 and 1")

    def grouped(values: np.ndarray, labels: np.ndarray, num_classes: int) -> dict[str, Array]:
        counts = np.bincount(labels, minlength=num_classes)
        if not counts.all():
            raise ValueError(f"class {counts.argmin()} has no image among the {len(labels)} points; fit on more images")
        points = np.zeros((num_classes, counts.max(), values.shape[1]), np.float32)
        for label, count in enumerate(counts):
            points[label, :count] = values[labels == label]
        return {"points": jnp.asarray(points), "counts": jnp.asarray(counts, jnp.int32)}

    def densities(state: dict[str, Array], bandwidths: Array, values: Array, labels: Array) -> Array:
        """Log densities [B] of features [B, F] in these classes [B], or of K bandwidths [K, B]."""
        num_classes, size, dimension = state["points"].shape
        every = square_distances(values, state["points"].reshape(-1, dimension)).reshape(-1, num_classes, size)
        own = jnp.take_along_axis(every, labels[:, None, None], axis=1)[:, 0]
        mask = jnp.arange(size)[None] < state["counts"][labels][:, None]
        return jax.vmap(lambda width: log_density(own, mask, width, dimension))(bandwidths)

    def likeliest(key: Array, values: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
        order = np.asarray(jax.random.permutation(key, len(values)))
        number = max(1, round(held_out * len(values)))
        tested, state = order[:number], grouped(values[order[number:]], labels[order[number:]], num_classes)
        evaluate, width = jax.jit(densities), jnp.asarray(widths, jnp.float32)
        parts = [tested[start : start + batch_size] for start in range(0, number, batch_size)]
        total = sum(np.asarray(evaluate(state, width, values[rows], labels[rows]), np.float64).sum(1) for rows in parts)
        return float(widths[np.argmax(total)])

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict[str, Array]:
        images, labels = np.asarray(images), np.asarray(labels)
        num_classes = jax.eval_shape(apply_fn, variables, images[:1]).shape[-1]
        values = engine.logits(features, variables, images, batch_size)
        chosen = likeliest(key, values, labels, num_classes) if bandwidth is None else bandwidth
        return {**grouped(values, labels, num_classes), "bandwidth": jnp.float32(chosen)}

    def score(variables: Variables, state: dict[str, Array], images: Array) -> Array:
        decisions = engine.decide(apply_fn(variables, images))
        among = jnp.maximum(decisions, 0)
        scores = -densities(state, state["bandwidth"][None], exact(features(variables, images)), among)[0]
        return jnp.where(decisions == engine.NO_CLASS, jnp.inf, scores)

    return checked(Detector(fit, score), apply_fn)
