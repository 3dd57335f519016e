"""Model mutation testing by sequential probability ratio test (Wang et al. 2019, arXiv:1812.05793, algorithm 3)."""

from collections.abc import Collection
from typing import NamedTuple

import jax
import numpy as np
from jax.scipy.stats import norm

from mgan_jax import engine
from mgan_jax.detectors.entry import checked
from mgan_jax.detectors.label_change_rate import label_change_rate
from mgan_jax.types import ApplyFn, Array, Classifier, Detector, Mutation, Variables


class Verdict(NamedTuple):
    """What the test says of each of N images.

    Attributes:
      adversarial, normal: [N] bool; neither is set where the mutants did not suffice.
      used: [N] int32, mutants until the decision, or all of them.
      log_ratio: [N] the log ratio at the decision, or after all mutants.
    """

    adversarial: np.ndarray
    normal: np.ndarray
    used: np.ndarray
    log_ratio: np.ndarray


def threshold(normal_flips: np.ndarray, mu: float = 1.0, confidence: float = 0.99) -> float:
    """kappa_h = mu * (normal LCR + half width of its confidence interval), equation 5; both of [M, N] flips.

    The interval is that of the mean over images of their label change rates, as published.
    """
    rates = np.asarray(normal_flips, np.float64).mean(0)
    half_width = float(norm.ppf((1 + confidence) / 2)) * rates.std(ddof=1) / np.sqrt(len(rates))
    return float(mu * (rates.mean() + half_width))


def sequential_test(
    flips: np.ndarray, kappa: float, alpha: float = 0.05, beta: float = 0.05, delta_ratio: float = 0.1
) -> Verdict:
    """Tests p >= p1 = kappa + delta against p <= p0 = kappa - delta on all images at once, after every mutant.

    After n mutants of which z flip, log ratio = z log(p1 / p0) + (n - z) log((1 - p1) / (1 - p0)); adversarial from
    log((1 - beta) / alpha) on, normal down to log(beta / (1 - alpha)), whichever comes first.

    Args:
      flips: [M, N] bool, mutants in the order in which they are used.
      kappa: the label change rate on the border.
      alpha, beta: bounds of the two errors.
      delta_ratio: delta / kappa, half the region of indifference.

    Raises:
      ValueError: kappa with p1 or p0 outside (0, 1), or alpha, beta, delta_ratio outside (0, 1).
    """
    check(kappa, alpha, beta, delta_ratio)
    return _decide(flips, kappa, alpha, beta, delta_ratio)


def check(kappa: float, alpha: float, beta: float, delta_ratio: float) -> None:
    """Whether a test of these numbers exists.

    Raises:
      ValueError: as `sequential_test`.
    """
    for name, value in (("alpha", alpha), ("beta", beta), ("delta_ratio", delta_ratio)):
        if not 0 < value < 1:
            raise ValueError(f"{name} is {value}; choose it between 0 and 1")
    p1, p0 = kappa * (1 + delta_ratio), kappa * (1 - delta_ratio)
    if not 0 < p0 < p1 < 1:
        raise ValueError(f"kappa is {kappa}: the rates {p0} and {p1} it tests must lie between 0 and 1")


def _decide(
    flips: np.ndarray, kappa: float, alpha: float, beta: float, delta_ratio: float, flipped: np.ndarray | int = 0, used: int = 0
) -> Verdict:
    """The test continued by [M, N] flips after `used` mutants of which `flipped` [N] changed the label."""
    p1, p0 = kappa * (1 + delta_ratio), kappa * (1 - delta_ratio)
    z = flipped + np.cumsum(np.asarray(flips, bool), axis=0)
    n = used + np.arange(1, len(z) + 1)[:, None]
    log_ratios = z * np.log(p1 / p0) + (n - z) * np.log((1 - p1) / (1 - p0))
    above, below = log_ratios >= np.log((1 - beta) / alpha), log_ratios <= np.log(beta / (1 - alpha))
    decided = above | below
    last = np.where(decided.any(0), decided.argmax(0), len(z) - 1)
    at = lambda values: np.take_along_axis(values, last[None], axis=0)[0]  # noqa: E731
    return Verdict(at(above), at(below), used + last.astype(np.int32) + 1, at(log_ratios))


@jax.jit
def _chosen(mutants: Variables, rows: Array) -> Variables:
    """The mutants of these rows, by one program: leaf by leaf took a fifth of the whole test."""
    return jax.tree.map(lambda leaf: leaf[rows], mutants)


def stopping_test(
    network: ApplyFn | Classifier,
    variables: Variables,
    mutants: Variables,
    images: Array,
    kappa: float,
    alpha: float = 0.05,
    beta: float = 0.05,
    delta_ratio: float = 0.1,
    block: int = 32,
    batch_size: int = 50,
    **how,
) -> Verdict:
    """`sequential_test` that evaluates no more mutants than it needs: an image that is decided leaves.

    Args:
      network: as in `engine.outputs`.
      variables: the network's own.
      mutants: tree with a leading axis M, in the order in which they are used.
      images: [N, H, W, C].
      kappa, alpha, beta, delta_ratio: as in `sequential_test`.
      block: mutants between two looks at who is decided; the verdict does not depend on it.
      batch_size: images at once; those that are left are filled up to whole batches, of which small ones waste less and leave
        one for each core.
      **how: of `engine.outputs`.

    Raises:
      ValueError: as `sequential_test`.
    """
    check(kappa, alpha, beta, delta_ratio)
    number, size = len(jax.tree.leaves(mutants)[0]), min(batch_size, len(images))
    decisions, flipped = engine.predictions(network, variables, images), np.zeros(len(images), int)
    verdict = Verdict(*(np.zeros(len(images), dtype) for dtype in (bool, bool, np.int32, float)))
    active = np.arange(len(images))
    for start in range(0, number, block):
        if not len(active):
            break
        part = _chosen(mutants, np.arange(start, start + block) % number)
        # Whole batches of equal size, so that one program serves however few images are left.
        rows = np.resize(active, -(-len(active) // size) * size)
        votes = engine.votes(network, part, images[rows], variables, batch_size=size, **how)
        flips = votes[: number - start, : len(active)] != decisions[active]
        found = _decide(flips, kappa, alpha, beta, delta_ratio, flipped[active], start)
        for whole, values in zip(verdict, found, strict=True):
            whole[active] = values
        flipped[active] += flips.sum(0)
        active = active[~(found.adversarial | found.normal)]
    return verdict


def sprt(
    network: ApplyFn | Classifier,
    mutate: Mutation,
    num_mutants: int = 500,
    min_accuracy_ratio: float = 0.9,
    mu: float = 1.0,
    alpha: float = 0.05,
    beta: float = 0.05,
    delta_ratio: float = 0.1,
    method: str = "auto",
    exclude: Collection[str] = (),
) -> Detector:
    """The sequential test as a detector: `score` is the log ratio at the decision; it runs on the host, not under `jax.jit`.

    Args:
      network, mutate, num_mutants, min_accuracy_ratio, method, exclude: as in `label_change_rate`.
      mu: factor of the threshold, see `threshold`.
      alpha, beta, delta_ratio: as in `sequential_test`.

    Returns:
      A `Detector`; the state is `{'mutants': tree, 'kappa': []}`. An image is called adversarial where the score is at
      least log((1 - beta) / alpha), infinite for what the network reads as no class; `used` counts mutants up to the decision.
    """
    sampler = label_change_rate(network, mutate, num_mutants, min_accuracy_ratio, method, exclude)

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict:
        mutants = sampler.fit(key, variables, images, labels)
        votes = engine.votes(network, mutants, images, variables, method=method)
        decisions = engine.predictions(network, variables, images)
        kappa = threshold((votes != decisions)[:, decisions == np.asarray(labels)], mu)
        check(kappa, alpha, beta, delta_ratio)
        return {"mutants": mutants, "kappa": kappa}

    def verdict(variables: Variables, state: dict, images: Array) -> Verdict:
        numbers = float(state["kappa"]), alpha, beta, delta_ratio
        return stopping_test(network, variables, state["mutants"], images, *numbers, method=method)

    def score(variables: Variables, state: dict, images: Array) -> np.ndarray:
        decisions = engine.predictions(network, variables, images)
        return np.where(decisions == engine.NO_CLASS, np.inf, verdict(variables, state, images).log_ratio)

    detector = Detector(fit, score, lambda *given: verdict(*given).used)
    return checked(detector, network, answers_none=True)
