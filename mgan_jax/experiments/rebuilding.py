"""Training images as defenses change them that learn from changed ones, for pictures."""

from collections.abc import Mapping

import jax
import numpy as np

from mgan_jax.defenses.robust_features import robust_images
from mgan_jax.experiments.attacking import build_attack
from mgan_jax.experiments.defending import NONE, Defended, teacher
from mgan_jax.experiments.streams import stream_key
from mgan_jax.types import Split


def rebuilt(name: str, fitted: Mapping[str, Defended]) -> dict[str, np.ndarray]:
    """{what: images [num_classes, H, W, C]} of one training image a class; nothing of a defense that learns from others.

    Made as those that it learned from, but for what is drawn: a robust feature's start is the image of the class before, and a
    non-robust feature's goal the class after.

    Args:
      name: of the defense.
      fitted: all of the experiment, with the one that its section says it is `of`.
    """
    run = fitted[name].run
    settings, dataset = run.config.defenses.get(name, {}), run.dataset
    method = settings.get("method", name)
    if method not in ("robust_features", "non_robust_features"):
        return {}
    places = np.array([np.flatnonzero(dataset.train.labels == label)[0] for label in np.unique(dataset.train.labels)])
    some = Split(*(array[places] for array in dataset.train))
    base = fitted[settings["of"]] if "of" in settings else fitted[NONE]
    if method == "robust_features":
        steps = {key: value for key, value in settings.get("arguments", {}).items() if key in ("num_steps", "step_size")}
        starts = np.roll(some.images, 1, axis=0)
        made = jax.jit(robust_images(base.network.features, **steps))(base.variables, starts, some.images)
        return {"training image": some.images, "start": starts, "rebuilt": np.asarray(made)}
    row = settings["learned_from"][0]
    attack = build_attack(teacher(run.config, row), row, base.network, dataset)
    goals = (some.labels + 1) % dataset.num_classes
    made = jax.jit(attack)(stream_key(run.seed, "rebuilt", name), base.variables, some.images, some.labels, goals)
    return {"training image": some.images, "towards the next class": np.asarray(made.adversarial)}
