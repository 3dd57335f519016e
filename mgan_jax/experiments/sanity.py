"""What must hold of any honest comparison of attacks; a line that does not hold points at a bug or at masked gradients."""

from collections.abc import Iterable, Sequence
from typing import Any

import jax
import numpy as np
import optax

from mgan_jax import engine
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.square import square
from mgan_jax.experiments import crafting
from mgan_jax.metrics import standard_error
from mgan_jax.report.results import joined_sanity
from mgan_jax.types import Classifier, Split, Variables

SINGLE_STEP = ("fgsm",)
ITERATED = ("bim", "pgd", "apgd", "autoattack")
"""White-box methods that a bound cannot leave behind: what unlimited ones and black-box ones are held against."""
MAX_ZERO_GRADIENTS = 0.05
PROBED_IMAGES, PROBED_EPSILONS, PROBED_STEPS = 100, (0.0, 0.1, 0.3, 1.0), (10, 40)
PROBED_QUERIES = 200


def line(claim: str, value: Any, holds: bool | None) -> dict[str, Any]:
    """A row of the sanity table; `holds` None: nothing to compare."""
    return {"claim": claim, "value": value, "holds": None if holds is None else bool(holds)}


def not_weaker(stronger: float, weaker: float, count: int) -> bool:
    """Whether a share is at least another, up to two standard errors of the difference."""
    error = np.hypot(standard_error(stronger, count), standard_error(weaker, count))
    return stronger >= weaker - 2 * error


def not_fewer(many: np.ndarray, few: np.ndarray) -> bool:
    """Whether at least as many of the same images [N] are true, up to two standard errors of the paired difference."""
    difference = many.astype(float) - few
    return difference.mean() >= -2 * difference.std() / np.sqrt(len(difference))


def zero_gradients(classifier: Classifier, variables: Variables, test: Split) -> float:
    """Share of images at which the gradient of the cross-entropy is exactly zero everywhere."""

    @jax.jit
    def zeros(images, labels):
        loss = lambda x: optax.softmax_cross_entropy_with_integer_labels(classifier.apply(variables, x), labels).sum()  # noqa: E731
        return (jax.grad(loss)(images) == 0).all((1, 2, 3))

    found = crafting.batched(lambda start, *batch: zeros(*batch), test.images, test.labels)
    return float(found.mean())


def look_like_logits(logits: np.ndarray) -> bool:
    """Whether outputs [N, num_classes] are no probabilities: some negative, or rows that do not sum to one."""
    return bool((logits < 0).any() or (np.abs(logits.sum(-1) - 1) > 1e-3).any())


def curve_lines(curve: list[dict], steps: list[dict]) -> list[dict]:
    """Lines about success against epsilon and against the number of steps."""
    found = []
    # A class of its own is harder to reach than any other, and may be out of reach even without a bound.
    curve = [row for row in curve if not row.get("targeted")]
    for name in dict.fromkeys(row["attack"] for row in curve):
        own = {row["epsilon"]: row["success_rate"] for row in curve if row["attack"] == name}
        if 0.0 in own:
            found.append(line(f"{name}: success at epsilon 0 is 0", own[0.0], own[0.0] == 0))
        if 1.0 in own and name in ITERATED:
            found.append(line(f"{name}: success at epsilon 1 is 100 %", own[1.0], own[1.0] == 1))
    for single in SINGLE_STEP:
        base = {row["epsilon"]: row for row in curve if row["attack"] == single}
        for name in dict.fromkeys(row["attack"] for row in curve if row["attack"] not in SINGLE_STEP):
            pairs = [(row, base[row["epsilon"]]) for row in curve if row["attack"] == name and row["epsilon"] in base]
            if pairs:
                holds = all(not_weaker(a["success_rate"], b["success_rate"], a["num_images"]) for a, b in pairs)
                least = min(a["success_rate"] - b["success_rate"] for a, b in pairs)
                found.append(line(f"{name} is nowhere weaker than {single}", least, holds))
    if len(steps) > 1:
        pairs = list(zip(steps[1:], steps, strict=False))
        holds = all(not_weaker(a["success_rate"], b["success_rate"], a["num_images"]) for a, b in pairs)
        counts = ", ".join(str(row["num_steps"]) for row in steps)
        least = min(a["success_rate"] - b["success_rate"] for a, b in pairs)
        found.append(line(f"{steps[0]['attack']}: more steps ({counts}) are not weaker", least, holds))
    return found


def limit_lines(limits: list[dict]) -> list[dict]:
    """Lines about attacks that may change nothing, and iterated ones that may change everything; rows as `sweeps.limit_rows`."""
    found = []
    for row in limits:
        epsilon, share = row["epsilon"], row["success_rate"]
        if epsilon == 0 or row["method"] in ITERATED:
            claim = f"{row['attack']}: success at epsilon {epsilon:g} is {'100 %' if epsilon else 0}"
            found.append(line(claim, share, share == (1 if epsilon else 0)))
    return found


def bound_lines(rows: list[dict]) -> list[dict]:
    """Lines that compare attacks of one norm and epsilon: iterated with single-step ones, and black-box with iterated ones."""
    found = []
    bounds = dict.fromkeys((row["norm"], row["epsilon"]) for row in rows if row.get("epsilon") is not None)
    for norm, epsilon in bounds:
        own = [row for row in rows if (row["norm"], row["epsilon"]) == (norm, epsilon) and not row["targeted"]]
        own = [row for row in own if row["success_rate"] is not None]
        white = [row for row in own if row["knowledge"] == "white box"]
        single, iterated = ([row for row in white if row["method"] in kind] for kind in (SINGLE_STEP, ITERATED))
        for one in iterated if single else ():
            best = max(row["success_rate"] for row in single)
            claim = f"{one['attack']} is not weaker than a single step ({norm} {epsilon:g})"
            holds = not_weaker(one["success_rate"], best, one["num_images"])
            found.append(line(claim, one["success_rate"] - best, holds))
        black = [row for row in own if row["knowledge"] != "white box"]
        if iterated and black:
            best, other = (max(row["success_rate"] for row in group) for group in (iterated, black))
            claim = f"black box is not stronger than white box ({norm} {epsilon:g})"
            found.append(line(claim, best - other, not_weaker(best, other, own[0]["num_images"])))
    return found


def generator_lines(rows: list[dict]) -> list[dict]:
    """Whether PGD, of which generators are given the epsilon, is not weaker than they are; nothing where either is missing."""
    untargeted = [row for row in rows if not row.get("targeted") and row.get("success_rate") is not None]
    generators = [row["success_rate"] for row in untargeted if row["attack"] in ("advgan", "mgan")]
    unlimited = [row for row in untargeted if row["attack"] == "pgd"]
    if not unlimited or not generators:
        return []
    best, own, count = max(generators), unlimited[0]["success_rate"], unlimited[0]["num_clean_correct"]
    return [line("a generator is not stronger than pgd", own - best, not_weaker(own, best, count))]


def network_lines(networks: Sequence[tuple[Classifier, Variables]], test: Split) -> list[dict]:
    """Lines about what attacks are made against: the worst of several networks."""
    zero = max(zero_gradients(classifier, variables, test) for classifier, variables in networks)
    logits = all(look_like_logits(engine.logits(classifier.apply, variables, test.images)) for classifier, variables in networks)
    return [
        line("outputs are logits, no probabilities", None, logits),
        line(f"gradients that are zero: at most {MAX_ZERO_GRADIENTS:.0%}", zero, zero <= MAX_ZERO_GRADIENTS),
    ]


def probed(classifier: Classifier, variables: Variables, test: Split) -> list[dict]:
    """Lines about FGSM, PGD and Square on the first images that the network classifies correctly; none, where it has none."""
    correct = np.flatnonzero(engine.predictions(classifier.apply, variables, test.images) == test.labels)[:PROBED_IMAGES]
    if not len(correct):
        return []
    images, labels = test.images[correct], test.labels[correct]

    def success(make, seed, epsilon, **arguments):
        attack = jax.jit(make(classifier.apply, epsilon, **arguments))
        shares = np.asarray(attack(jax.random.key(seed), variables, images, labels).success).mean(-1)
        return [
            {"epsilon": float(one), "success_rate": float(share), "num_images": len(labels)}
            for one, share in zip(np.atleast_1d(epsilon), np.atleast_1d(shares), strict=True)
        ]

    few, many = (success(pgd, 0, PROBED_EPSILONS, num_steps=steps, step_size=None) for steps in PROBED_STEPS)
    single = success(fgsm, 0, PROBED_EPSILONS)
    curve = [{**row, "attack": name} for name, rows in (("fgsm", single), ("pgd", many)) for row in rows]
    steps = [
        {**next(row for row in rows if row["epsilon"] == PROBED_EPSILONS[1]), "attack": "pgd", "num_steps": count}
        for rows, count in zip((few, many), PROBED_STEPS, strict=True)
    ]
    black = success(square, 1, 0.3, num_queries=PROBED_QUERIES)[0]
    white = next(row for row in many if row["epsilon"] == 0.3)
    common = {"norm": "linf", "epsilon": 0.3, "targeted": False}
    rows = [
        {**white, **common, "method": "pgd", "knowledge": "white box"},
        {**black, **common, "method": "square", "knowledge": "scores"},
    ]
    return [*curve_lines(curve, steps), *bound_lines(rows)]


def probe_lines(networks: Sequence[tuple[Classifier, Variables]], test: Split) -> list[dict]:
    """What attacks of a report of their own must do, on 100 images; a line holds where it does for every network."""
    return joined_sanity([probed(classifier, variables, test) for classifier, variables in networks])


def image_lines(outside: int, broken: int) -> list[dict]:
    """Lines about images, from how many of their values are out of bounds and how many numbers are not finite."""
    return [
        line("pixels outside [0, 1]: none", outside, outside == 0),
        line("numbers that are not finite: none", broken, broken == 0),
    ]


def of_images(networks: Sequence[tuple[Classifier, Variables]], test: Split, made: Iterable[np.ndarray]) -> list[dict]:
    """The lines that every report has: about its networks, what short attacks do to them, and about all images that were made.

    Args:
      networks: classifiers and their variables.
      test: clean images.
      made: arrays of images in [0, 1].
    """
    outside = broken = 0
    for images in made:
        outside += int(((images < 0) | (images > 1)).sum())
        broken += int((~np.isfinite(images)).sum())
    return [*network_lines(networks, test), *image_lines(outside, broken), *probe_lines(networks, test)]


def violated(results: dict) -> list[str]:
    """What does not hold, for the terminal and the exit status."""
    return [one["claim"] for one in results.get("sanity", ()) if one["holds"] is False]


def checks(
    classifier: Classifier,
    variables: Variables,
    test: Split,
    rows: list[dict],
    curve: list[dict],
    steps: list[dict],
    limits: list[dict],
) -> list[dict]:
    """The lines of the sanity section: `{claim, value, holds}`.

    Args:
      classifier, variables: the target.
      test: the comparison's images.
      rows: one an attack, with attack, method, norm, epsilon, knowledge, targeted, success_rate, out_of_bounds, not_finite.
      curve, steps, limits: as `sweeps` gives them; what they leave unsaid, short attacks say.
    """
    networks = [(classifier, variables)]
    images = image_lines(*(sum(row[name] for row in rows) for name in ("out_of_bounds", "not_finite")))
    found = [*network_lines(networks, test), *images, *curve_lines(curve, steps), *limit_lines(limits), *bound_lines(rows)]
    said = {one["claim"] for one in found}
    return [*found, *(one for one in probe_lines(networks, test) if one["claim"] not in said)]
