"""What defenses leave, side by side: the worst case of many attacks, and two defenses image by image."""

from typing import Any

import numpy as np

from mgan_jax import metrics

Kept = dict[tuple[str, bool], np.ndarray]
"""{(attack, whether it knows the defense): [N] whether an image is read correctly, clean and attacked}, of one defense."""


def check(config: Any, num_images: dict[str, int]) -> None:
    """Whether the pairs of `config.testing.compared` can be compared.

    Args:
      config: the whole configuration.
      num_images: {defense that is run: images that attacks on it are made of}.

    Raises:
      ValueError: a name that there is not, or two that are shown different numbers of images.
    """
    for first, second in config.testing.get("compared", ()):
        for name in (first, second):
            if name not in config.defenses:
                raise ValueError(f"config.testing.compared names {name!r}; choose from {', '.join(config.defenses)}")
        if first in num_images and second in num_images and num_images[first] != num_images[second]:
            raise ValueError(
                f"config.testing.compared names {first} and {second}, which are attacked on {num_images[first]} and "
                f"{num_images[second]} images; give both as many"
            )


def compared(config: Any, seed: int, kept: dict[str, Kept]) -> list[dict]:
    """Of each pair of `config.testing.compared` and attack that knows them: how many more images the first leaves.

    Each is attacked for itself, on the same images; the interval is that of the mean paired difference.
    """
    rows = []
    for first, second in config.testing.get("compared", ()):
        if first not in kept or second not in kept:
            continue
        for attack, aware in kept[first]:
            if aware and (attack, True) in kept[second]:
                rows.append({"defense": first, "other": second, "attack": attack, "seed": seed,
                             **metrics.paired_difference(kept[first][attack, True], kept[second][attack, True])})  # fmt: skip
    return rows


def worst_cases(rows: list[dict], kept: Kept) -> list[dict]:
    """For each norm and epsilon the share of images that every attack leaves, of those that know the defense and of all.

    An attacker who knows the defense can use images made without knowing it, too, and those of smaller epsilons.
    """
    bounded = [one for one in rows if one["epsilon"] is not None and not one["targeted"]]
    found = []
    for norm, epsilon in dict.fromkeys((one["norm"], one["epsilon"]) for one in bounded):
        within = [one for one in bounded if one["norm"] == norm and one["epsilon"] <= epsilon]
        keys = [(one["attack"], one["aware"]) for one in within]
        for aware in (False, True):
            chosen = [key for key in keys if aware or not key[1]]
            if chosen and (aware is False or any(key[1] for key in chosen)):
                left = np.all([kept[key] for key in chosen], axis=0)
                share = metrics.share(left, np.ones_like(left))
                found.append({"defense": rows[0]["defense"], "norm": norm, "epsilon": epsilon, "aware": aware,
                              "attacks": sorted({key[0] for key in chosen}), "robust_accuracy": share["rate"],
                              "robust_accuracy_ci95": share["ci95"], "num_images": share["n"]})  # fmt: skip
    return found
