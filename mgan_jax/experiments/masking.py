"""Whether a defense withstands, or only hides its gradients (Athalye et al. 2018, arXiv:1802.00420, section 3)."""

from itertools import pairwise
from typing import Any

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from mgan_jax import engine, metrics
from mgan_jax.attacks.ball import project
from mgan_jax.experiments import aims, sanity, sweeps
from mgan_jax.experiments.attacking import build_attack, in_batches
from mgan_jax.experiments.attacks import bound
from mgan_jax.experiments.defending import Defended
from mgan_jax.experiments.stages import Run, rows, stage
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.sweeps import changed
from mgan_jax.success import tried
from mgan_jax.types import Classifier, Dataset, Split, Variables

COMPARED = ("black_box", "single_step")
"""Fields of `config.masking` that name an attack whose line says nothing where they are empty."""


def settings_of(config: Any, name: str, field: str) -> Any:
    """A value of `config.masking`, or the defense's own where its section has one."""
    return config.defenses.get(name, {}).get("masking", {}).get(field, config.masking[field])


def without_skipped(config: Any) -> Any:
    """A copy of the config whose masking sections name no attack to compare with that `config.skip` names."""
    skipped, config = config.get("skip", ()), ConfigDict(config).unlock()
    for section in (config, *(of for of in config.defenses.values() if "masking" in of)):
        left_out = {line: "" for line in COMPARED if section.masking.get(line) in skipped}
        section.masking = ConfigDict({**section.masking.to_dict(), **left_out})
    return config


def check(config: Any, classifier: Classifier, dataset: Dataset) -> None:
    """Looks at the attacks that are named, and builds that of the curves.

    Raises:
      ValueError: one is not there or of another ball, that of the curves takes no number of steps, there are no steps or
        epsilons, steps do not grow, or the checklist's epsilon is none of the curve's.
    """
    named = [settings_of(config, defense, line) for defense in ("", *config.defenses) for line in COMPARED]
    for name in (config.masking.attack, *filter(None, named)):
        if name not in config.attacks:
            raise ValueError(f"config.masking names {name!r}, which is none of the attacks {', '.join(config.attacks)}")
        if bound(config.attacks[name], name) != ("linf", config.masking.epsilon):
            raise ValueError(
                f"config.masking names {name}, which is not of L-inf {config.masking.epsilon}, as all of it has to be"
            )
    for name in ("", *config.defenses):
        for field in ("steps", "epsilons"):
            if not settings_of(config, name, field):
                raise ValueError(f"config.masking.{field} of {name or 'the target'} is empty; choose at least one")
        whose = f"of {name or 'the target'}"
        if config.masking.epsilon not in (epsilons := settings_of(config, name, "epsilons")):
            raise ValueError(
                f"config.masking.epsilon is {config.masking.epsilon}, none of the epsilons {whose}, {tuple(epsilons)}, so "
                "that the most steps would be missing at it; name it among them"
            )
        sweeps.check_growing(f"config.masking.steps {whose}", settings_of(config, name, "steps"))
    arguments = {"epsilon": config.masking.epsilon, "num_steps": 1, "step_size": None}
    build_attack(changed(config.attacks[config.masking.attack], **arguments), config.masking.attack, classifier, dataset)


def curve_rows(one: Defended, name: str, test: Split) -> list[dict]:
    """Robust accuracy under `config.masking.attack` against epsilon and, at `config.masking.epsilon`, against its steps.

    The last epsilon, 1, is no bound at all. Unlike other rows of the configuration a step is 2.5 epsilon / steps long.

    Returns:
      Rows with epsilon, num_steps, robust_accuracy as in `attacks.result`, success_rate, num_images, and `loss`, the mean
      cross-entropy of the images that are returned, in nats, with its standard error `loss_error`.
    """
    attack = one.run.config.masking.attack

    def make(run: Run, steps: list, epsilons: list, variables: Variables, images: np.ndarray, labels: np.ndarray) -> list[dict]:
        masking, settings, test, found = run.config.masking, run.config.attacks[attack], Split(images, labels), []
        pairs = [(epsilon, steps[-1]) for epsilon in epsilons] + [(masking.epsilon, count) for count in steps[:-1]]
        for epsilon, count in pairs:
            arguments = {"epsilon": float(epsilon), "num_steps": int(count), "step_size": None}
            built = build_attack(changed(settings, **arguments), attack, one.network, run.dataset)
            key = stream_key(run.seed, "curve", attack)
            targets = aims.given(run, settings, attack, labels)
            result, _, _ = in_batches(built, key, variables, test, targets, settings.get("batch_size", 250))
            correct, won = result.clean_correct, result.success
            losses = np.asarray(optax.softmax_cross_entropy_with_integer_labels(result.logits, labels))
            found.append({
                "attack": attack, "epsilon": float(epsilon), "num_steps": int(count), "targeted": targets is not None,
                **metrics.named("robust_accuracy", result.withstood, np.ones_like(won), "num_images"),
                **metrics.named("success_rate", won, tried(labels, correct, targets), "num_clean_correct"),
                "loss": float(losses.mean()), "loss_error": float(losses.std() / np.sqrt(len(losses))),
            })  # fmt: skip
        return found

    numbers = {field: list(settings_of(one.run.config, name, field)) for field in ("steps", "epsilons")}
    inputs = {**numbers, "variables": one.variables, "images": test.images, "labels": test.labels}
    return rows(one.run, "masking_curve", make, inputs, (f"attacks.{attack}", "masking.attack", "masking.epsilon"))


def kept_under_noise(one: Defended, test: Split) -> np.ndarray:
    """Which images [N] are read correctly clean and under every one of several draws of +-epsilon noise, L-inf."""

    def make(run: Run, variables: Variables, images: np.ndarray, labels: np.ndarray) -> tuple[dict, dict]:
        masking = run.config.masking
        kept = engine.predictions(one.network.apply, variables, images) == labels
        for draw in range(masking.draws):
            key = jax.random.fold_in(stream_key(run.seed, "noise"), draw)
            noise = masking.epsilon * jax.random.rademacher(key, images.shape, np.float32)
            noisy = np.asarray(project(images + noise, images, masking.epsilon, "linf"))
            kept &= engine.predictions(one.network.apply, variables, noisy) == labels
        return {"kept": kept}, {}

    inputs = {"variables": one.variables, "images": test.images, "labels": test.labels}
    return stage(one.run, "masking_kept_under_noise", make, inputs, ("masking.epsilon", "masking.draws")).arrays["kept"]


def checklist(one: Defended, name: str, test: Split, kept: dict[tuple[str, bool], np.ndarray], curve: list[dict]) -> list[dict]:
    """The checklist of a defense: lines `{claim, value, holds}`, values are differences of robust accuracy; None: not run.

    Attacks on the same images are compared image by image, whose difference has a smaller error than two shares have.

    Args:
      one, name: the defended target.
      test: the images of all its adaptive rows.
      kept: {(attack, whether it knows the defense): [N] whether an image is read correctly, clean and attacked}.
      curve: as `curve_rows` gives it.
    """
    masking, count = one.run.config.masking, len(test.labels)
    black_box, single_step = (settings_of(one.run.config, name, line) for line in COMPARED)
    if (masking.attack, True) not in kept:
        return []
    own = kept[masking.attack, True]

    def weaker(claim: str, other: np.ndarray) -> dict[str, Any]:
        """Whether another attack leaves at least what the adaptive one leaves."""
        return sanity.line(claim, float(other.mean() - own.mean()), sanity.not_fewer(other, own))

    lines = [weaker(f"random noise is not stronger than {masking.attack}", kept_under_noise(one, test))]
    others = (
        ("images made against the undefended target are not stronger", (masking.attack, False)),
        (f"black-box search ({black_box or 'none'}) is not stronger", (black_box, True)),
        (f"a single step ({single_step or 'none'}) is not stronger", (single_step, True)),
    )
    lines += [weaker(claim, kept[other]) if other in kept else sanity.line(claim, None, None) for claim, other in others]
    left = next((row["robust_accuracy"] for row in curve if row["epsilon"] == 1.0), None)
    lines.append(sanity.line("without a bound nothing withstands", left, None if left is None else left == 0))
    by_steps = sorted((row for row in curve if row["epsilon"] == masking.epsilon), key=lambda row: row["num_steps"])
    if len(by_steps) > 1:
        pairs = list(pairwise(by_steps))
        holds = all(sanity.not_weaker(a["robust_accuracy"], b["robust_accuracy"], count) for a, b in pairs)
        least = min(a["robust_accuracy"] - b["robust_accuracy"] for a, b in pairs)
        counts = ", ".join(str(row["num_steps"]) for row in by_steps)
        lines.append(sanity.line(f"more steps ({counts}) are not weaker", least, holds))
        grows = all(b["loss"] >= a["loss"] - 2 * np.hypot(a["loss_error"], b["loss_error"]) for a, b in pairs)
        least = min(b["loss"] - a["loss"] for a, b in pairs)
        lines.append(sanity.line(f"the loss does not fall with steps ({counts})", least, grows))
    zero = sanity.zero_gradients(one.network, one.variables, test)
    lines.append(
        sanity.line(f"gradients that are zero: at most {sanity.MAX_ZERO_GRADIENTS:.0%}", zero, zero <= sanity.MAX_ZERO_GRADIENTS)
    )
    return lines
