"""Rows of the sequential test: with M mutants at hand, ours stops where it may; the PyTorch loop evaluates all of them first."""

from collections.abc import Iterator

import jax
import numpy as np

from benchmarks import material, roofline
from benchmarks.command_line import Settings
from benchmarks.timing import Row, alternate, compared, timed
from benchmarks.votes import differing
from mgan_jax import engine
from mgan_jax.attacks.pgd import pgd
from mgan_jax.detectors.sprt import sprt

NETWORK, OPERATOR = "lenet", "NAI"
ALPHA, BETA, DELTA = 0.05, 0.05, 0.1
NUM_MUTANTS = {"small": 40, "paper": 500, "large": 500}
NUM_IMAGES = {"small": 60, "paper": 1000, "large": 1000}
BUDGETS = {
    "small": (0.1, 0.3),
    "paper": (0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3),
    "large": (0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.3),
}
"""Bounds of the attack, L-inf, tried in turn."""
BATCH = 250


def adversarial_images(target: material.Target, number: int, budgets: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Successful attacks at the smallest of the budgets that suffices, as attacks of small distortion find them.

    PGD of ten steps; Wang et al. 2019 test FGSM, JSMA, DeepFool, Carlini & Wagner and black-box samples, most of which stop soon
    behind the decision's border.

    Args:
      target: the network.
      number: how many images are wanted.
      budgets: rising bounds on the perturbation, L-inf.

    Returns:
      (adversarial images, other images that are clean and classified correctly), both [number, H, W, C].

    Raises:
      ValueError: there are too few of either.
    """
    images, labels = target.test
    apply_fn, variables = target.classifier.apply, target.variables
    correct = np.flatnonzero(engine.predictions(apply_fn, variables, images) == labels)
    tried, clean = np.split(correct, [number + number // 4])
    found, missing = images.copy(), np.zeros(len(images), bool)
    missing[tried] = True
    for i, epsilon in enumerate(budgets):
        attack = jax.jit(pgd(apply_fn, epsilon, num_steps=10, step_size=epsilon / 4))
        rows = np.flatnonzero(missing)
        for start in range(0, len(rows), BATCH):
            part = np.resize(rows[start : start + BATCH], BATCH)  # Filled up, so that one program serves all.
            result = attack(jax.random.key(i), variables, images[part], labels[part])
            success = np.asarray(result.success)
            found[part[success]] = np.asarray(result.adversarial)[success]
            missing[part[success]] = False
    flipped, clean = tried[~missing[tried]][:number], clean[:number]
    if len(flipped) < number or len(clean) < number:
        raise ValueError(f"{len(flipped)} attacks succeed and {len(clean)} clean images are left; {number} of each are needed")
    return found[flipped], images[clean]


def verdicts(flips: np.ndarray, kappa: float) -> tuple[np.ndarray, np.ndarray]:
    """The sequential test in NumPy: what `detectors.sprt` decides, by a loop over mutants.

    Args:
      flips: [M, N] bool.
      kappa: the label change rate on the border.

    Returns:
      ([N] bool, called adversarial; [N] int, mutants used).
    """
    p1, p0 = kappa * (1 + DELTA), kappa * (1 - DELTA)
    gains = np.log((1 - p1) / (1 - p0)), np.log(p1 / p0)
    ratio, used = np.zeros(flips.shape[1]), np.zeros(flips.shape[1], int)
    running = np.ones(flips.shape[1], bool)
    for row in flips:
        ratio[running] += np.where(row, gains[1], gains[0])[running]
        used[running] += 1
        running &= (ratio < np.log((1 - BETA) / ALPHA)) & (ratio > np.log(BETA / (1 - ALPHA)))
    return ratio >= np.log((1 - BETA) / ALPHA), used


def rows(settings: Settings) -> Iterator[Row]:
    """Two rows: all images attacked, and half of them clean.

    Raises:
      votes.AnswersDiffer: the two tests call other images adversarial.
    """
    number, total = NUM_MUTANTS[settings.size], NUM_IMAGES[settings.size]
    names = {share: f"SPRT: {NETWORK}, {number} {OPERATOR} x {total:,}, {share}" for share in ("attacked", "half clean")}
    if not any(map(settings.wanted, names.values())):
        return
    target = material.target(NETWORK, settings.size, settings.data_dir)
    mutate = material.operator(OPERATOR, target.variables)
    ratio = material.MIN_ACCURACY_RATIO[settings.size]
    detector = sprt(target.classifier, mutate, number, ratio, alpha=ALPHA, beta=BETA, delta_ratio=DELTA)
    state = detector.fit(jax.random.key(4), target.variables, *target.validation)
    if (held := len(jax.tree.leaves(state["mutants"])[0])) < number:
        raise ValueError(f"{held} mutants qualify, {number} are needed")
    attacked, clean = adversarial_images(target, total, BUDGETS[settings.size])
    half = np.concatenate([attacked[: total - total // 2], clean[: total // 2]])
    for share, images in (("attacked", attacked), ("half clean", half)):
        if settings.wanted(names[share]):
            yield compare(names[share], target, detector, state, images, settings)


def compare(name: str, target: material.Target, detector, state: dict, images: np.ndarray, settings: Settings) -> Row:
    """One row; the peer's verdicts come from all votes, by `verdicts`."""
    from benchmarks import torch_mutants

    converted = torch_mutants.converted(NETWORK, images.shape[1:], target.variables, state["mutants"])
    rest = jax.tree.map(lambda leaf: np.asarray(leaf)[None], target.variables)
    votes, note = torch_mutants.tuned_loop(converted, images)
    decide, _ = torch_mutants.tuned_loop(torch_mutants.converted(NETWORK, images.shape[1:], target.variables, rest), images)
    on_device, kappa = jax.device_put(images), float(state["kappa"])
    ours = lambda: detector.score(target.variables, state, on_device) >= np.log((1 - BETA) / ALPHA) - 1e-4  # noqa: E731
    theirs = lambda: verdicts(votes() != decide()[0], kappa)  # noqa: E731
    own, (called, used) = timed(ours)[1], timed(theirs)[1]
    share = differing(name, own, called, settings.tolerance)
    seconds = alternate({"ours": ours, "theirs": theirs}, settings.rounds)
    flops = roofline.forward_flops(target.classifier, target.variables, images.shape[1:]) * (used.sum() + len(images))
    least = roofline.least_seconds(settings.peaks, flops, images.nbytes)
    told = f"{note}; kappa {kappa:.3g}, {called.mean():.0%} called adversarial, {used.mean():.0f} mutants needed on average"
    return compared(name, "PyTorch loop, all", seconds["ours"], seconds["theirs"], least, differing=share, note=told)
