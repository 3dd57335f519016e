"""The stable format of results.json.

    {config, seed | seeds, versions, device, seconds, notes, target: {name, test_accuracy, num_images}, rows: [...], epsilon_rows,
     threat_rows}

`seconds` is the wall time over all seeds, sanity and all: of configs/mgan.py that of all starts that ended, elsewhere that of the
last start, which reads what is there. `notes` are sentences about the run as a whole. Names are sorted, so that two files compare
line by line. A row holds, where they apply (rates are shares in [0, 1]; null: there is no such number):

    attack                 "clean", "advgan", "mgan", "advgan_margin", "pgd", "pgd_mutants", ...
    trained_on             operators a generator was trained on: "all", or an abbreviation
    variant                what else tells two rows of one attack apart, where anything does
    seed                   of the whole pipeline
    epsilon, norm          the bound on the perturbation, pixels in [0, 1], and its norm: "linf"
    targeted               whether the attack aims at a label of its choice
    num_images             test images, a count; misclassification (with misclassification_ci95, Wilson) is over all of them
    num_clean_correct      of them classified correctly when clean, a count (targeted: and of another class than the aim);
                           success_rate, with its interval, is over these (`mgan_jax.success`)
    num_adversarial        correctly classified and flipped, a count: the adversarial set, on which all rates below are taken
    linf, l2, l0           mean distances over num_images, pixels in [0, 1]; l0 counts changed pixels, channels together
    mean_margin            by how much the target's first logit exceeds its second, over num_images: its confidence
    label_histogram        images of the adversarial set that the target gives each label, counts [num_classes]
    label_entropy          of that histogram, bits
    judge_original_class   share of the adversarial set that 3 nearest neighbours among the training images read as before
                           (with judge_original_class_ci95)
    operator               of the mutants: "GF", "WS", "NEB", "NAI", "NS", "LD", "LA", "AFR"
    protocol               "unfiltered" or "qualified"
    rate                   mutation rate, a share of the neurons or weights
    per_layer, include_output        whether the rate is a share of each layer, and whether the output layer's neurons count
    min_accuracy_ratio     the filter: a mutant's validation accuracy is at least this share of the target's; 0 keeps all
    num_mutants, distinct  mutants used, all of them distinct; tried: drawn for them; qualified: of those, passing the filter
    lcr, lcr_ci99          label change rate against the target's own label on the same image, two-way bootstrap over mutants
                           and images
    normal_lcr, normal_lcr_ci99      the same images, clean; of configs/mutation_testing.py num_normal other images
    class_matched_normal_lcr         clean images predicted as the adversarial labels; class_matched_ratio: lcr over this
    lcr_ratio, lcr_ratio_ci95        lcr / normal_lcr; 1 is undetectable
    lcr_minus_mgan, lcr_minus_mgan_ci95    LCR less that of MGAN (the operator's own, or all's), on the images that both flip,
                           same mutants; above 0 MGAN is the more stable
    auroc, auroc_ci95      of an image's label change rate as a score of being adversarial; .5 is chance
    auroc_two_sided        max(auroc, 1 - auroc)
    tpr_at_5fpr, tpr_at_5fpr_low     share detected at 5 % false positives by suspiciously high and by suspiciously low rates
    kappa                  the normal label change rate that the sequential test (SPRT) is given, from validation data
    sprt_detection_rate, sprt_false_positive_rate    shares of adversarial and of clean images that it calls adversarial
    sprt_excess            the former less the latter
    sprt_undecided         share of adversarial images on which it decides nothing
    sprt_mutants_used      mutants it asks about an adversarial image, mean count; the three shares have Wilson intervals

`threat_rows` has the same fields under a loosened threat model, and `threat`: "rate 0.01", "target another seed", "detector
soft_label_change_rate, per class", ... `epsilon_rows` has attack, trained_on, epsilon, misclassification, success_rate, lcr,
normal_lcr with their intervals, and the numbers of images and mutants. Every rate over images has its interval beside it.

A comparison of attacks (`configs/attacks.py`) has in a row also

    method, knowledge      the attack, and what it sees of the target: "white box", "scores" or "labels"
    num_images             those it is to fool, all classified correctly: not of the class it aims at, where `targeted`, and of
                           some classes alone, where `some_classes`; success_rate is over these
    success_rounded        success_rate of the images rounded to 8 bits
    median_l0, ... median_linf, mean_l2, ssim    over its successes
    used                   gradients an image, of black-box attacks queries, means; used_50, used_90: queries after which so many
                           per cent of the images are flipped; fit_queries: labels asked for while learning
    seconds_per_1000, compile_seconds, fit_seconds    times
    fooling, collateral    of a universal perturbation: labels changed among num_fooling and num_collateral images
    order_*                of a transformation network: what survives of the classes' order, of order_num flipped images

and beside the rows `worst_cases`, `curve_rows` (robust_accuracy is test accuracy times withstand_rate), `step_rows`,
`confidence_rows` and `sanity`. Transfer, fooling, visualize, defenses and detectors say in their experiments' docstrings what
their rows hold.

Over several seeds (`seeds`) each measure is the mean, with `<measure>_std` beside it, the sample standard deviation, and
`<measure>_range`, the least and the largest; a measure that some seeds do not have is the mean over the others, whose count is
`<measure>_n`. Counts become means too; a measure of several numbers by name, as `others`, has their deviations in
`<measure>_std`. A finding, as `reached`, is true where it is for every seed. Intervals are left out, histograms are summed. Lines
of `sanity` and `checklists` hold where they do for every seed; what belongs to a picture, as `fooling` of configs/visualize.py,
is the first seed's.
"""

import importlib.metadata
import json
import math
import platform
import re
import statistics
from pathlib import Path
from typing import Any

import numpy as np

from mgan_jax.workdir import write

IDENTITY = ("rate", "min_accuracy_ratio", "epsilon", "num_steps", "strength", "class", "goal", "distance_weight")
"""Numbers that tell rows apart, beside everything that is text or a boolean."""
IDENTITY_OF = {"rows": ("confidence",), "confidence_rows": ("kappa",)}
"""Numbers that tell the rows of one list apart and are measures in another."""
FINDINGS = ("hardest", "reached")
"""Booleans that are measured."""


def plain(value: Any) -> Any:
    """JSON values of anything NumPy holds; what is not finite becomes None."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def environment() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    names = ("jax", "jaxlib", "flax", "optax", "numpy")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def write_results(path: Path, results: dict) -> None:
    """Writes results in whole or not at all: what is no JSON raises TypeError and leaves an old file as it was."""
    text = json.dumps(plain(results), indent=1, sort_keys=True, allow_nan=False)
    write(Path(path), f"{text}\n".encode())


def read_results(path: Path) -> dict:
    """Results written by `write_results`.

    Raises:
      ValueError: the file is no such thing.
    """
    try:
        results = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no results file: {error}") from None
    if not isinstance(results, dict) or "rows" not in results:
        raise ValueError(f"{path} is no results file: it has no rows")
    return results


def measured(name: str, values: list[float], count: int) -> dict[str, float]:
    """The mean of a measure, over several seeds its deviation and range, and of how many where some of `count` do not have it."""
    found = {name: statistics.fmean(values)}
    if len(values) > 1:
        found[f"{name}_std"] = statistics.stdev(map(float, values))
        found[f"{name}_range"] = [min(values), max(values)]
    if len(values) < count:
        found[f"{name}_n"] = len(values)
    return found


def joined_row(rows: list[dict], identity: tuple[str, ...], count: int) -> dict:
    """One row of means.

    Args:
      rows: of the same identity, of different seeds.
      identity: fields in which they agree.
      count: how many seeds there are.
    """
    joined = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if row.get(name) is not None]
        if name == "seed" or re.search(r"_ci\d+$", name):
            continue
        if name in identity or not values:
            joined[name] = values[0] if values else None
        elif name in FINDINGS:
            joined[name] = all(values)
        elif name == "label_histogram":
            joined[name] = np.sum(values, axis=0).tolist()
        elif isinstance(values[0], (int, float)):
            joined |= measured(name, values, count)
        elif is_list_of(dict, values[0]):
            joined[name] = joined_rows(name, values)
        elif isinstance(values[0], dict) and is_list_of((int, float, type(None)), list(values[0].values())):
            means, keys = joined_row(values, (), count), dict.fromkeys(key for value in values for key in value)
            joined[name] = {key: means.get(key) for key in keys}
            joined[f"{name}_std"] = {key: means.get(f"{key}_std") for key in keys}
        else:
            joined[name] = values[0]
    return joined


def is_list_of(kind: Any, value: Any) -> bool:
    """Whether a value is a list of at least one of a kind, and of nothing else."""
    return isinstance(value, list) and bool(value) and all(isinstance(item, kind) for item in value)


def joined_rows(name: str, seeds: list[list[dict]]) -> list[dict]:
    """The rows of several seeds, those of the same identity become one.

    Args:
      name: of the list, as in results.
      seeds: the list of each.
    """
    rows = [row for one in seeds for row in one]
    texts = {field for row in rows for field, value in row.items() if isinstance(value, (str, bool)) and field not in FINDINGS}
    identity, found = (*IDENTITY, *IDENTITY_OF.get(name, ()), *sorted(texts)), {}
    for row in rows:
        found.setdefault(tuple(row.get(field) for field in identity), []).append(row)
    return [joined_row(same, identity, len(seeds)) for same in found.values()]


def joined_sanity(seeds: list[list[dict]]) -> list[dict]:
    """Lines that hold where they hold for every seed; shown is the value of the first seed for which they do not."""
    by_claim: dict[str, list[dict]] = {}
    for line in (line for lines in seeds for line in lines):
        by_claim.setdefault(line["claim"], []).append(line)
    return [next((line for line in lines if line["holds"] is False), lines[0]) for lines in by_claim.values()]


def mean_and_spread(results: list[dict]) -> dict:
    """Joins the results of several seeds: rows of the same identity become their mean and sample standard deviation.

    Args:
      results: one a seed; what is neither a list of rows nor of lines that must hold is taken to be the same, and read from the
        first.

    Raises:
      ValueError: there are none.
    """
    if not results:
        raise ValueError("there are no results to join")
    results = [plain(one) for one in results]
    lists = dict.fromkeys(name for one in results for name, value in one.items() if is_list_of(dict, value))
    of = {name: [one.get(name, []) for one in results] for name in lists}
    joined = {key: value for key, value in results[0].items() if key != "seed"}
    joined |= {"seeds": [one["seed"] for one in results], "seconds": sum(one["seconds"] for one in results)}
    joined |= {name: joined_sanity(rows) if name == "sanity" else joined_rows(name, rows) for name, rows in of.items()}
    if "target" in joined:
        accuracies = [one["target"]["test_accuracy"] for one in results]
        joined["target"] = {**joined["target"], **measured("test_accuracy", accuracies, len(results))}
    if "checklists" in joined:
        names = dict.fromkeys(name for one in results for name in one["checklists"])
        lines = {name: [one["checklists"].get(name, []) for one in results] for name in names}
        joined["checklists"] = {name: joined_sanity(of) for name, of in lines.items()}
    return joined
