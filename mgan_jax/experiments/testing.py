"""Model mutation testing of adversarial images: the rows of the tables, as the evaluation protocol defines them."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np

from mgan_jax import engine, metrics
from mgan_jax.detectors.sprt import Verdict, sequential_test, threshold
from mgan_jax.population import Population
from mgan_jax.success import fooled, tried
from mgan_jax.types import ApplyFn, Variables

RESAMPLES = 500


class Subject(NamedTuple):
    """Images under test and what the target says of them, all of the same N clean images in the same order.

    Attributes:
      images: [N, H, W, C].
      decisions: [N] the target's labels on them.
      margins: [N] by how much the logit of that label exceeds the next, the target's confidence; None: not taken.
    """

    images: np.ndarray
    decisions: np.ndarray
    margins: np.ndarray | None = None


def subject(apply_fn: ApplyFn, variables: Variables, images: np.ndarray) -> Subject:
    """Images with the target's decisions and margins."""
    logits = engine.logits(apply_fn, variables, images)
    second, first = np.sort(logits, axis=-1)[:, -2:].T
    return Subject(images, np.asarray(engine.decide(logits)), first - second)


class Protocol(NamedTuple):
    """How mutants are drawn: 'unfiltered' at rate .1, or 'qualified' at rate .05 with 0.9 of the target's accuracy."""

    name: str
    rate: float
    min_accuracy_ratio: float


def attack_row(
    labels: np.ndarray, clean: Subject, adversarial: Subject, num_classes: int, targets: np.ndarray | None = None
) -> dict:
    """What a row says of an attack by itself: rates over all and over clean-correct images, distances, labels.

    Args:
      labels: [N] true classes.
      clean, adversarial: the normal images and the same images attacked.
      num_classes: length of the histogram of labels.
      targets: [N] what a targeted attack aims at, see `success`; None: it is untargeted.
    """
    correct, whole = clean.decisions == labels, np.ones(len(labels), bool)
    flipped = fooled(labels, correct, adversarial.decisions)
    reached = fooled(labels, correct, adversarial.decisions, targets)
    change = np.abs(adversarial.images - clean.images)
    flat = change.reshape(len(change), -1)
    histogram = np.bincount(adversarial.decisions[flipped], minlength=num_classes)
    return {
        **metrics.named("misclassification", adversarial.decisions != labels, whole, "num_images"),
        "targeted": targets is not None,
        **metrics.named("success_rate", reached, tried(labels, correct, targets), "num_clean_correct"),
        "num_adversarial": int(flipped.sum()),
        "linf": float(flat.max(-1).mean()),
        "l2": float(np.sqrt(np.square(flat).sum(-1)).mean()),
        "l0": float((change > 0).any(-1).reshape(len(change), -1).sum(-1).mean()),
        "mean_margin": None if adversarial.margins is None else float(adversarial.margins.mean()),
        "label_histogram": histogram.tolist(),
        "label_entropy": metrics.entropy(histogram),
    }


def auroc_of(rates: list[np.ndarray]) -> float:
    """AUROC of [adversarial, normal] label change rates, NaN where it does not exist."""
    value = metrics.auroc(*rates)
    return np.nan if value is None else value


def testing_row(
    labels: np.ndarray,
    clean: Subject,
    adversarial: Subject,
    clean_votes: np.ndarray,
    adversarial_votes: np.ndarray,
    kappa: float | None,
    seed: int,
) -> dict:
    """What a row says of one attack under one population of mutants.

    Args:
      labels: [N] true classes.
      clean, adversarial: the normal images and the same images attacked.
      clean_votes, adversarial_votes: [M, N] the mutants' labels on both.
      kappa: SPRT's threshold from validation data; None where no validation mutants exist.
      seed: of the bootstrap.

    Returns:
      Fields of `report.results`; rates are None where the adversarial set or the population is empty.
    """
    chosen = fooled(labels, clean.decisions == labels, adversarial.decisions)
    num_mutants = len(clean_votes)
    fields = ("lcr", "lcr_ci99", "normal_lcr", "normal_lcr_ci99", "lcr_ratio", "lcr_ratio_ci95", "class_matched_normal_lcr",
              "class_matched_ratio", "auroc", "auroc_ci95", "auroc_two_sided", "tpr_at_5fpr", "tpr_at_5fpr_low",
              *sprt_fields(None, None))  # fmt: skip
    row = {"num_adversarial": int(chosen.sum()), **dict.fromkeys(fields)}
    if num_mutants == 0 or not chosen.any():
        return row
    all_normal = clean_votes != clean.decisions
    normal, flips = all_normal[:, chosen], (adversarial_votes != adversarial.decisions)[:, chosen]
    normal_rates, rates = normal.mean(0), flips.mean(0)
    bootstrap = partial(metrics.two_way_bootstrap, num_samples=RESAMPLES, seed=seed)
    area = metrics.auroc(rates, normal_rates)
    row |= {
        "lcr": float(rates.mean()),
        "lcr_ci99": bootstrap([flips], lambda r: r[0].mean(), confidence=0.99),
        "normal_lcr": float(normal_rates.mean()),
        "normal_lcr_ci99": bootstrap([normal], lambda r: r[0].mean(), confidence=0.99),
        "class_matched_normal_lcr": metrics.class_matched(all_normal.mean(0), clean.decisions, adversarial.decisions[chosen]),
        "auroc": area,
        "auroc_two_sided": max(area, 1 - area),
        "auroc_ci95": bootstrap([flips, normal], auroc_of, confidence=0.95),
        "tpr_at_5fpr": metrics.true_positive_rate(rates, normal_rates),
        "tpr_at_5fpr_low": metrics.true_positive_rate(-rates, -normal_rates),
    }
    if normal.any():
        ratio = lambda r: r[0].mean() / r[1].mean() if r[1].any() else np.nan  # noqa: E731
        row["lcr_ratio"] = row["lcr"] / row["normal_lcr"]
        row["lcr_ratio_ci95"] = bootstrap([flips, normal], ratio, confidence=0.95)
    if row["class_matched_normal_lcr"]:
        row["class_matched_ratio"] = row["lcr"] / row["class_matched_normal_lcr"]
    if kappa is not None and 0 < kappa * 1.1 < 1:
        row |= sprt_fields(sequential_test(flips, kappa), sequential_test(normal, kappa))
    return row


def sprt_fields(found: Verdict | None, alarms: Verdict | None) -> dict[str, Any]:
    """What a row says of the sequential test on adversarial and on normal images; all None where there was no test."""
    shares = {"sprt_detection_rate": None, "sprt_false_positive_rate": None, "sprt_undecided": None}
    if found is not None and alarms is not None:
        undecided = ~(found.adversarial | found.normal)
        shares = dict(zip(shares, (found.adversarial, alarms.adversarial, undecided), strict=True))
    row: dict[str, Any] = {"sprt_mutants_used": None if found is None else float(found.used.mean())}
    for name, of in shares.items():
        share = {"rate": None, "ci95": None} if of is None else metrics.share(of, np.ones_like(of))
        row |= {name: share["rate"], f"{name}_ci95": share["ci95"]}
    both = row["sprt_detection_rate"], row["sprt_false_positive_rate"]
    return {**row, "sprt_excess": None if None in both else both[0] - both[1]}


def target_fields(name: str, decisions: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    """What results say of a target of this name, which answers clean images with these decisions [N]."""
    return {"name": name, **metrics.named("test_accuracy", decisions == labels, np.ones(len(labels), bool), "num_images")}


def mutant_fields(found: Population) -> dict[str, int]:
    """What a row says of its mutants."""
    return {"num_mutants": found.num_mutants, "tried": found.tried, "qualified": found.qualified, "distinct": found.num_mutants}


def beside_mgan(mgan: tuple[np.ndarray, np.ndarray], other: tuple[np.ndarray, np.ndarray], seed: int) -> dict:
    """LCR of an attack minus MGAN's, on the images that both flip, with the paired two-way bootstrap's interval.

    Args:
      mgan, other: ([M, N] whether a mutant's label changes, [N] whether the image is in the attack's adversarial set), both
        under the same mutants and of the same clean images.
      seed: of the bootstrap.
    """
    both = mgan[1] & other[1]
    if not both.any() or not len(mgan[0]):
        return {"lcr_minus_mgan": None, "lcr_minus_mgan_ci95": None}
    pair = [other[0][:, both], mgan[0][:, both]]
    interval = metrics.two_way_bootstrap(pair, lambda r: r[0].mean() - r[1].mean(), RESAMPLES, 0.95, seed)
    return {"lcr_minus_mgan": float(pair[0].mean() - pair[1].mean()), "lcr_minus_mgan_ci95": interval}


def kappa_of(votes: np.ndarray, decisions: np.ndarray, correct: np.ndarray) -> float | None:
    """SPRT's threshold from [M, N] votes of validation mutants on two or more correctly classified validation images, or None."""
    if len(votes) == 0 or correct.sum() < 2:
        return None
    return threshold((votes != decisions)[:, correct])
