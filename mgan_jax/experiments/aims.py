"""What attacks of a configuration aim at: no class, the one that a row names, or one drawn for each image."""

from typing import Any

import jax
import numpy as np

from mgan_jax.experiments.stages import Run
from mgan_jax.experiments.streams import stream_key

SECTIONS = {"advgan_margin": "advgan"}
"""Sections of `config.attacks` that say what others of them aim at."""


def section(config: Any, name: str) -> Any:
    """What `config.attacks` says of the aim of an attack; nothing, where it does not name it."""
    return config.attacks.get(SECTIONS.get(name, "mgan" if name.startswith("mgan_undetected") else name), {})


def goal_of(settings: Any) -> int | None:
    """The one class that the attack of a section aims at, or None."""
    return settings.get("arguments", {}).get("target_label")


def is_targeted(settings: Any) -> bool:
    """Whether the attack of a section aims at a class."""
    return bool(settings.get("targeted", False)) or goal_of(settings) is not None


def random_targets(run: Run, labels: np.ndarray, name: str) -> np.ndarray:
    """For each image a class that is not its own, every one equally likely."""
    key = stream_key(run.seed, "targets", name)
    moved = jax.random.randint(key, (len(labels),), 1, run.dataset.num_classes)
    return ((labels + np.asarray(moved)) % run.dataset.num_classes).astype(np.int32)


def aims(run: Run, settings: Any, name: str, labels: np.ndarray) -> np.ndarray | None:
    """The class that an attack is to reach from each image [N]; None where any but the true one will do.

    Args:
      run: the seed.
      settings: its section, see `section`; `targeted`: a class is drawn for each image; `target_label` of its arguments.
      name: of its row.
      labels: [N] true classes.
    """
    if settings.get("targeted", False):
        return random_targets(run, labels, name)
    goal = goal_of(settings)
    return None if goal is None else np.full(len(labels), goal, np.int32)


def given(run: Run, settings: Any, name: str, labels: np.ndarray) -> np.ndarray | None:
    """The targets that an attack has to be given, one that has learned to reach a class none."""
    return aims(run, settings, name, labels) if settings.get("targeted", False) else None
