"""The stable format of results.json.

    {config, seed | seeds, versions, device, seconds, target: {name, test_accuracy, num_images}, rows: [...], epsilon_rows}

A row has, where they apply (rates are shares in [0, 1]; null: there is no such number):

    attack                 "clean", "advgan", "mgan", "advgan_margin", "pgd", "pgd_mutants", ...
    trained_on             operators a generator was trained on: "all", or an abbreviation
    seed, epsilon, norm, targeted
    num_images             test images; misclassification (with _ci95) is over all of them
    num_clean_correct      of them classified correctly when clean; success_rate is over these
    num_adversarial        correctly classified and flipped: the adversarial set, on which all rates below are taken
    linf, l2, l0           mean distances over num_images, pixels in [0, 1]; l0 counts changed pixels
    label_histogram, label_entropy   the target's labels of the adversarial set; entropy in bits
    judge_original_class   share of the adversarial set that 3 nearest neighbours among the training images read as before
    operator, protocol, rate, min_accuracy_ratio   how mutants were drawn
    num_mutants, distinct, tried, qualified        mutants kept, all of them distinct; drawn; passing the filter
    lcr, lcr_ci99          label change rate, two-way bootstrap over mutants and images
    normal_lcr             the same images, clean; class_matched_normal_lcr: clean images predicted as the adversarial labels
    lcr_ratio, lcr_ratio_ci95        lcr / normal_lcr
    auroc, auroc_ci95, auroc_two_sided             of the label change rate as a score; max(a, 1 - a)
    tpr_at_5fpr, tpr_at_5fpr_low     detection at 5 % false positives of suspiciously high and low rates
    kappa, sprt_detection_rate, sprt_false_positive_rate, sprt_undecided, sprt_mutants_used

Over several seeds each measure is the mean, with `<measure>_std` beside it; intervals are left out.
"""

import importlib.metadata
import json
import math
import os
import platform
import statistics
from pathlib import Path
from typing import Any

import numpy as np

IDENTITY = ("attack", "trained_on", "operator", "protocol", "rate", "min_accuracy_ratio", "epsilon", "norm", "targeted")


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
    """Writes results in whole or not at all."""
    unfinished = Path(path).with_name(f"{Path(path).name}.unfinished")
    unfinished.write_text(json.dumps(plain(results), indent=1, allow_nan=False) + "\n")
    os.replace(unfinished, path)


def read_results(path: Path) -> dict:
    """Results written by `write_results`.

    Raises:
      ValueError: the file is no such thing.
    """
    try:
        results = json.loads(Path(path).read_text())
    except ValueError as error:
        raise ValueError(f"{path} is no results file: {error}") from None
    if not isinstance(results, dict) or "rows" not in results:
        raise ValueError(f"{path} is no results file: it has no rows")
    return results


def joined_rows(rows: list[dict]) -> dict:
    """One row of means of rows of the same identity; a measure that some lack is averaged over the others."""
    joined = {}
    for name in rows[0]:
        values = [row[name] for row in rows if row.get(name) is not None]
        if name in IDENTITY:
            joined[name] = rows[0][name]
        elif "_ci" in name or name == "seed":
            continue
        elif name == "label_histogram":
            joined[name] = np.sum(values, axis=0).tolist() if values else None
        elif not values:
            joined[name] = None
        elif isinstance(values[0], (int, float)):
            joined[name] = statistics.fmean(values)
            if len(values) > 1:
                joined[f"{name}_std"] = statistics.stdev(values)
    return joined


def mean_and_spread(results: list[dict]) -> dict:
    """Joins the results of several seeds: rows of the same identity become their mean and sample standard deviation."""

    def groups(name: str) -> list[dict]:
        found = {}
        for one in results:
            for row in one.get(name, ()):
                found.setdefault(tuple(row.get(field) for field in IDENTITY), []).append(row)
        return [joined_rows(rows) for rows in found.values()]

    accuracies = [one["target"]["test_accuracy"] for one in results]
    first = {key: value for key, value in results[0].items() if key != "seed"}
    return {
        **first,
        "seeds": [one["seed"] for one in results],
        "seconds": sum(one["seconds"] for one in results),
        "target": {
            **results[0]["target"],
            "test_accuracy": statistics.fmean(accuracies),
            "test_accuracy_std": statistics.stdev(accuracies) if len(accuracies) > 1 else 0.0,
        },
        "rows": groups("rows"),
        "epsilon_rows": groups("epsilon_rows"),
    }
