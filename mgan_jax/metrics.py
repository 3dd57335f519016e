"""What is measured, as evaluation on the host in NumPy; the definitions of every number in tables and reports.

Flips are [M, N] booleans: does mutant m answer otherwise than the target itself does on the very image n. The label change
rate (LCR) of image n is the mean over mutants, that of a set the mean over both. Arrays of another shape or type raise
ValueError. SciPy and scikit-learn are imported where they are used: training, which needs no number, starts a second earlier.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mgan_jax.inputs import as_alike, as_scores, read_images


def wilson(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float] | None:
    """Wilson's interval of a proportion; None where total = 0."""
    if total == 0:
        return None
    from scipy.stats import binomtest

    interval = binomtest(int(successes), int(total)).proportion_ci(confidence, method="wilson")
    return float(interval.low), float(interval.high)


def share(successes: np.ndarray, among: np.ndarray) -> dict[str, Any]:
    """A proportion with its size: how many of the images in `among` are in `successes`, both [N] bool.

    Returns:
      {rate, ci95, n}: a share or None where n = 0, Wilson's interval or None, how many images it is of.
    """
    successes, among = as_alike(True, successes=successes, among=among)
    count, total = int((successes & among).sum()), int(among.sum())
    return {"rate": count / total if total else None, "ci95": wilson(count, total), "n": total}


def named(name: str, successes: np.ndarray, among: np.ndarray, count: str) -> dict[str, Any]:
    """`share` as fields of a row: the rate by this name, its interval by that with `_ci95`, the number of images as `count`."""
    found = share(successes, among)
    return {name: found["rate"], f"{name}_ci95": found["ci95"], count: found["n"]}


def transfer(source_success: np.ndarray, source_correct: np.ndarray, correct: np.ndarray, fooled: np.ndarray) -> dict[str, Any]:
    """How often images made against one network fool another classifier; all arguments [N] bool.

    Args:
      source_success: the attack fools the network it was made against.
      source_correct, correct: that network, and the other, classify the clean image correctly.
      fooled: the other misclassifies the adversarial image.

    Returns:
      As `share`, of the images that both classify correctly and on which the attack succeeds.
    """
    columns = as_alike(True, source_success=source_success, source_correct=source_correct, correct=correct)
    return share(fooled, np.logical_and.reduce(columns))


def destruction(correct: np.ndarray, adversarial_correct: np.ndarray, transformed_correct: np.ndarray) -> dict[str, Any]:
    """Destruction rate of adversarial images under a transformation T (Kurakin et al. 2017, arXiv:1607.02533, equation 1).

    d = sum C(X) (1 - C(X_adv)) C(T(X_adv)) / sum C(X) (1 - C(X_adv)), with C = 1 where an image is classified correctly.

    Args:
      correct: [N] bool, C(X); to leave out images that T itself makes unreadable, C(X) C(T(X)).
      adversarial_correct: [N] bool, C(X_adv).
      transformed_correct: [N] bool, C(T(X_adv)).

    Returns:
      As `share`, of the images whose clean form is classified correctly and whose adversarial form is not.
    """
    correct, adversarial_correct = as_alike(True, correct=correct, adversarial_correct=adversarial_correct)
    return share(transformed_correct, correct & ~adversarial_correct)


def standard_error(share: float, total: int) -> float | None:
    """Standard error of a proportion, sqrt(p (1 - p) / n); None where n = 0."""
    return float(np.sqrt(share * (1 - share) / total)) if total else None


def paired_difference(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Share of true ones of the first less that of the second, of the same things, with a 95 % interval.

    The interval is Agresti and Min's (2005, Statistics in Medicine 24): half an observation is added to each of the four pairs of
    answers, so that it has a width where no two answers differ.

    Args:
      first, second: [N] bool.

    Returns:
      `difference`, `difference_ci95`, None where N = 0, and `num_images` N.
    """
    first, second = as_alike(True, first=first, second=second)
    if not len(first):
        return {"difference": None, "difference_ci95": None, "num_images": 0}
    gained, lost, total = (first & ~second).sum() + 0.5, (second & ~first).sum() + 0.5, len(first) + 2
    middle = (gained - lost) / total
    half = 1.96 * math.sqrt((gained + lost) / total - middle**2) / math.sqrt(total)
    return {
        "difference": float(first.mean() - second.mean()),
        "difference_ci95": (float(middle - half), float(middle + half)),
        "num_images": len(first),
    }


def auroc(positive: np.ndarray, negative: np.ndarray) -> float | None:
    """P(positive > negative) + P(positive = negative) / 2, the area under the ROC curve (Mann and Whitney 1947).

    Args:
      positive: [P] scores of adversarial images, larger = more suspicious; NaN, no answer, is the most suspicious.
      negative: [N] scores of normal images.

    Returns:
      A share, or None where one set is empty.
    """
    from scipy.stats import rankdata

    positive, negative = as_scores(*as_alike(positive=positive)), as_scores(*as_alike(negative=negative))
    p, n = len(positive), len(negative)
    if p == 0 or n == 0:
        return None
    ranks = rankdata(np.concatenate([positive, negative]))
    return float((ranks[:p].sum() - p * (p + 1) / 2) / (p * n))


def true_positive_rate(positive: np.ndarray, negative: np.ndarray, false_positive_rate: float = 0.05) -> float | None:
    """Share of positives detected at this share of false positives, on the ROC curve; None for an empty set.

    Scores with few levels leave gaps between thresholds, where the curve is its straight line: ties at the threshold are
    called at random. Negate both for the other direction, suspiciously low scores.
    """
    from scipy.stats import rankdata
    from sklearn.metrics import roc_curve

    positive, negative = as_scores(*as_alike(positive=positive)), as_scores(*as_alike(negative=negative))
    if len(positive) == 0 or len(negative) == 0:
        return None
    truth = np.r_[np.ones(len(positive)), np.zeros(len(negative))]
    false_positives, true_positives, _ = roc_curve(truth, rankdata(np.r_[positive, negative]))
    return float(np.interp(false_positive_rate, false_positives, true_positives))


def two_way_bootstrap(flips: list[np.ndarray], statistic, num_samples: int, confidence: float, seed: int):
    """Percentile interval of a statistic of mean flips, resampling mutants and images (Owen 2007).

    Args:
      flips: matrices [M, N] of the same mutants on sets of the same N images (paired: a normal and an adversarial form).
      statistic: function of a list of [N] label change rates, one a matrix.
      num_samples: resamplings.
      confidence: of the interval.
      seed: of the resampling.

    Returns:
      (low, high), or None where there is no mutant or no image, or the statistic is never finite.
    """
    flips = as_alike(rank=2, **{f"flips[{i}]": matrix for i, matrix in enumerate(flips)})
    num_mutants, num_images = flips[0].shape
    if num_mutants == 0 or num_images == 0:
        return None
    rng = np.random.default_rng(seed)
    matrices = [matrix.astype(np.float32) for matrix in flips]
    values = []
    for _ in range(num_samples):
        weights = (rng.multinomial(num_mutants, np.full(num_mutants, 1 / num_mutants)) / num_mutants).astype(np.float32)
        images = rng.integers(0, num_images, num_images)
        values.append(statistic([(weights @ matrix)[images] for matrix in matrices]))
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if len(values) == 0:
        return None
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


def class_matched(normal_rates: np.ndarray, predicted: np.ndarray, adversarial_labels: np.ndarray) -> float | None:
    """Normal LCR of clean images predicted as the classes that the adversarial images are given.

    Mutants that collapse answer one class; sending every image there lowers LCR without consistency, which this removes.

    Args:
      normal_rates: [N] label change rates of clean images.
      predicted: [N] the target's decisions on them.
      adversarial_labels: [A] the target's decisions on the adversarial images.

    Returns:
      The mean over adversarial images of the mean normal rate of their class; classes that no clean image is predicted as
      are left out. None where nothing is left.
    """
    normal_rates, predicted = as_alike(normal_rates=normal_rates, predicted=predicted)
    (adversarial_labels,) = as_alike(adversarial_labels=adversarial_labels)
    classes = [c for c in np.unique(adversarial_labels) if (predicted == c).any()]
    counts = np.array([(adversarial_labels == c).sum() for c in classes])
    if counts.sum() == 0:
        return None
    rates = np.array([normal_rates[predicted == c].mean() for c in classes])
    return float((counts * rates).sum() / counts.sum())


def entropy(histogram: np.ndarray) -> float | None:
    """Entropy of a histogram in bits; None of an empty one."""
    (histogram,) = as_alike(histogram=histogram)
    if not histogram.sum():
        return None
    shares = histogram[histogram > 0] / histogram.sum()
    return float(-(shares * np.log2(shares)).sum() + 0.0)


def fooling_rate(
    clean: np.ndarray,
    perturbed: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[int] | None = None,
    target_label: int | None = None,
) -> dict[str, Any]:
    """Share of images with k(x + v) != k(x), whose label a universal perturbation changes (Moosavi-Dezfooli et al. 2017).

    Args:
      clean: [N] the target's decisions on the clean images.
      perturbed: [N] its decisions on the perturbed ones.
      labels: [N] true classes.
      classes: those that are to be fooled; None: all.
      target_label: where given, only changes into this class count, over the images that it was not given to before.

    Returns:
      `fooling`, its share of `num_images` of these classes; `collateral`, the share of changed labels among `num_others`, the
      images of other classes; both as `named`.
    """
    clean, perturbed, labels = as_alike(clean=clean, perturbed=perturbed, labels=labels)
    chosen = np.ones(len(labels), bool) if classes is None else np.isin(labels, classes)
    others, changed = ~chosen, clean != perturbed
    fooled = changed if target_label is None else perturbed == target_label
    chosen = chosen if target_label is None else chosen & (clean != target_label)
    return {**named("fooling", fooled, chosen, "num_images"), **named("collateral", changed, others, "num_others")}


def ssim(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Structural similarity of pairs of images (Wang et al. 2004, equation 13), 1 for the same image.

    The mean over all windows that lie in the image of
    (2 mu_x mu_y + C_1) (2 sigma_xy + C_2) / ((mu_x^2 + mu_y^2 + C_1) (sigma_x^2 + sigma_y^2 + C_2)), C_1 = .01^2 and
    C_2 = .03^2; a window is 11 x 11 pixels weighted by a Gaussian of 1.5 pixels, or the largest odd square that the image has
    room for. Channels are averaged.

    Args:
      images, others: [N, H, W, C] in [0, 1].

    Returns:
      [N], each in [-1, 1].
    """
    from scipy.ndimage import correlate1d

    images, others = (np.asarray(read_images(x), np.float64) for x in (images, others))
    images, others = as_alike(rank=4, images=images, others=others)
    radius = min(5, (min(images.shape[1:3]) - 1) // 2)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / 1.5) ** 2)
    weights /= weights.sum()

    def local(x: np.ndarray) -> np.ndarray:
        for axis in (1, 2):
            x = correlate1d(x, weights, axis)
        inside = slice(radius, -radius or None)
        return x[:, inside, inside]

    mean, other_mean = local(images), local(others)
    variances = local(images**2) - mean**2 + local(others**2) - other_mean**2
    covariance = local(images * others) - mean * other_mean
    luminance = (2 * mean * other_mean + 1e-4) / (mean**2 + other_mean**2 + 1e-4)
    return (luminance * (2 * covariance + 9e-4) / (variances + 9e-4)).mean((1, 2, 3))


def kept_order(clean_logits: np.ndarray, adversarial_logits: np.ndarray) -> dict[str, float | int | None]:
    """How much of the classes' order survives an attack beside the first place (Baluja & Fischer 2017, section 3).

    Only images whose decision changed count. The class they are given now is left out of both orders; the attack that does
    nothing more puts it first and leaves the order of the others.

    Args:
      clean_logits, adversarial_logits: [N, num_classes], logits or probabilities.

    Returns:
      {"num": images whose decision changed, "second": share of them whose clean decision is now in second place, "third": whose
      next class of the clean order is in third place, "kendall": mean over them of Kendall's tau-a of the two orders}; None
      without changed images, and "third" and "kendall" where two classes leave no order.
    """
    clean, adversarial = as_alike(rank=2, clean_logits=clean_logits, adversarial_logits=adversarial_logits)
    given = adversarial.argmax(1)
    changed = given != clean.argmax(1)
    number, classes = int(changed.sum()), clean.shape[1]
    if not number:
        return {"num": 0, "second": None, "third": None, "kendall": None}
    others = np.arange(classes) != given[changed, None]
    clean, adversarial = (x[changed][others].reshape(number, classes - 1) for x in (clean, adversarial))
    orders = [np.argsort(-x, axis=1, kind="stable") for x in (clean, adversarial)]
    kept = [float((orders[0][:, place] == orders[1][:, place]).mean()) for place in range(min(2, classes - 1))]
    if classes < 3:
        return {"num": number, "second": kept[0], "third": None, "kendall": None}
    first, second = np.triu_indices(classes - 1, 1)
    agreement = np.sign(clean[:, first] - clean[:, second]) * np.sign(adversarial[:, first] - adversarial[:, second])
    return {"num": number, "second": kept[0], "third": kept[1], "kendall": float(agreement.mean())}
