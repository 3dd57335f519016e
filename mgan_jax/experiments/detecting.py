"""Detectors of an experiment: built as the config says, fitted once, their thresholds calibrated on clean validation images."""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import numpy as np
from ml_collections import ConfigDict

from mgan_jax import population
from mgan_jax.detectors.combined import clean_ranks, combined, rank, threshold
from mgan_jax.experiments import populations
from mgan_jax.experiments.attacking import build_attack
from mgan_jax.experiments.crafting import that_learns_nothing
from mgan_jax.experiments.defending import build_method, fitted
from mgan_jax.experiments.populations import Streams
from mgan_jax.experiments.stages import made_from, narrowed, stage
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run, build_mutation, trainer
from mgan_jax.types import Array, Classifier, Dataset, Detector, Train, Variables

ON_HOST = ("label_change_rate", "sprt")
"""Methods that count mutants' votes on the host: they cannot be jitted, and no attack can follow their gradient."""
JOINT = "joint"
WITHOUT = "_without_"


Said = dict[str, np.ndarray]
"""What a detector says of N images: `scores` [N], and `used` [N], mutants that it asked, where those depend on the image."""


class Fitted(NamedTuple):
    """A detector that is ready.

    Attributes:
      detector: what was fitted.
      state: its state.
      score: `score(images [N, H, W, C]) -> [N]` on the host.
      used: the same of the mutants that it asked, where they depend on the image; else None.
      clean: its scores of the images that it is calibrated on.
      threshold: an image whose score exceeds it is called adversarial.
      differentiable: whether an attack can follow its score.
      seconds: of fitting.
      run: its run, as `own_run` gives it.
    """

    detector: Detector
    state: Any
    score: Callable[[np.ndarray], np.ndarray]
    used: Callable[[np.ndarray], np.ndarray] | None
    clean: np.ndarray
    threshold: float
    differentiable: bool
    seconds: float
    run: Run


def sections(config: Any, names: list[str]) -> dict[str, Any]:
    """The sections of the detectors that are built: one that learns from attacks stands there once more without each of them."""
    found = {}
    for name in names:
        settings = config.detectors[name]
        found[name] = settings
        learned = settings.get("learned_from", ())
        for left_out in learned if len(learned) > 1 else ():
            fewer = ConfigDict(settings.to_dict()).unlock()
            fewer.method = settings.get("method", name)
            fewer.learned_from = tuple(attack for attack in settings.learned_from if attack != left_out)
            found[f"{name}{WITHOUT}{left_out}"] = fewer
    return found


def column(name: str, sections_of: dict[str, Any]) -> tuple[str, bool]:
    """The detector that a section is a form of, and whether it is one from which an attack was left out."""
    base, separator, _ = name.partition(WITHOUT)
    return (base, True) if separator and base in sections_of else (name, False)


def build_detector(
    config: Any,
    settings: Any,
    name: str,
    classifier: Classifier,
    dataset: Dataset,
    train: Train | None = None,
    exclude: Collection[str] = (),
) -> Detector:
    """The detector of a section.

    Args:
      config: the whole configuration.
      settings: as in `defending.build_method`; `operator` and `rate`, where it evaluates mutants; `learned_from`, names of rows
        of `config.attacks`, where it learns from attacks.
      name: of the section.
      classifier: the target.
      dataset: whose shapes models take.
      train: runs its trainings; None: only to see whether it can be built.
      exclude: digests of mutants that it must not evaluate.

    Raises:
      ValueError: as factories do, or an attack that there is not.
    """
    more = {}
    if "operator" in settings:
        mutate = build_mutation(config, settings.operator, settings.rate)
        more |= {"mutate": mutate, "network": classifier, "exclude": exclude}
    unknown = [attack for attack in settings.get("learned_from", ()) if attack not in config.attacks]
    if unknown:
        raise ValueError(f"config.detectors.{name} learns from {unknown[0]!r}; choose from {', '.join(config.attacks)}")
    if "learned_from" in settings:
        rows = {row: build_attack(config.attacks[row], row, classifier, dataset) for row in settings.learned_from}
        where = f"config.detectors.{name}.learned_from names"
        more["attacks"] = [that_learns_nothing(attack, f"{where} {row}") for row, attack in rows.items()]
    return build_method("detectors", settings, name, classifier, dataset, train, **more)[0]


def own_run(run: Run, name: str, settings: Any) -> Run:
    """The run of a detector, or of a form of it: in a folder of its own, its stages are made from this section too."""
    config = ConfigDict(run.config).unlock()
    config.detectors = ConfigDict({**{other: config.detectors[other] for other in config.detectors}, name: settings})
    named = (("mutation",) if "operator" in settings else ()) + tuple(
        f"attacks.{row}" for row in settings.get("learned_from", ())
    )
    sections = (*run.sections, f"detectors.{name}", *named)
    return run._replace(path=run.path / "detectors" / name, config=config, sections=sections)


def clean_images(run: Run, settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """What a detector is fitted to: training images, or the first validation images where `fit_on` says so.

    Thresholds are taken on the last validation images, which are others.
    """
    split = run.dataset.validation if settings.get("fit_on", "train") == "validation" else run.dataset.train
    count = settings.get("fit_images", run.config.testing.num_fit_images)
    return tuple(array[:count] for array in split)


def calibration_images(run: Run) -> np.ndarray:
    """The last validation images, on which nothing is fitted: the first half ranks the joint rule, all give thresholds."""
    return run.dataset.validation.images[-run.config.testing.num_validation_images :]


def scorer(run: Run, score: Callable, state: Any, variables: Variables, on_host: bool) -> Callable[[np.ndarray], np.ndarray]:
    """A detector's `score(images)`, or `used`, in batches of one shape."""
    size = run.config.testing.batch_size
    score = score if on_host else jax.jit(score)

    def of(images: np.ndarray) -> np.ndarray:
        count, batch = len(images), min(size, len(images))
        found = []
        for start in range(0, count, batch):
            rows = np.arange(start, start + batch) % count
            found.append(np.asarray(score(variables, state, images[rows]))[: count - start])
        return np.concatenate(found)

    return of


def inputs_of(variables: Variables, given: tuple[np.ndarray, np.ndarray]) -> dict[str, Any]:
    """The arrays that a detector is fitted with."""
    return {"variables": variables, "images": given[0], "labels": given[1]}


def ready(
    own: Run, detector: Detector, variables: Variables, given: tuple[np.ndarray, np.ndarray], key: Array, on_host: bool
) -> Fitted:
    """A detector, fitted and calibrated, or read where that is done; called adversarial are 5 % of the calibration images.

    These are clean images as they come, those among them that the target misreads too.

    Args:
      own: its run, as `own_run` gives it.
      detector, variables: it, and the target's.
      given: images and labels that it is fitted to.
      key: consumed.
      on_host: whether it cannot be jitted.
    """
    state, seconds = fitted(own, detector.fit, inputs_of(variables, given), key)
    score = scorer(own, detector.score, state, variables, on_host)
    used = scorer(own, detector.used, state, variables, on_host) if detector.used else None
    make = lambda run, images, **_: ({"scores": score(images)}, {})  # noqa: E731
    inputs = {"variables": variables, "state": state, "images": calibration_images(own)}
    clean = stage(own, "calibration", make, inputs).arrays["scores"]
    return Fitted(detector, state, score, used, clean, threshold(clean), not on_host, seconds, own)


def mutants_of(own: Run, state: Any, used: Streams) -> Streams:
    """`used` with the mutants of a detector's state among the tested ones, which are checked to be none of them."""
    found = population.digests(state.get("mutants", state))
    populations.check_apart(own.path / "checkpoints" / "state", found, used.every)
    return used._replace(tested=used.tested | set(found))


def detectors(
    run: Run, names: list[str], classifier: Classifier, variables: Variables, used: Streams
) -> tuple[dict[str, Fitted], Streams]:
    """Every detector of the sections, fitted, and the joint rule of `config.joint`; those that are there are read.

    Args:
      run: the seed.
      names: of the detectors.
      classifier, variables: the target.
      used: mutants that are used already, which no detector evaluates.

    Returns:
      The detectors; `used` with their mutants.
    """
    found = {}
    chosen = sections(run.config, names)
    update = run.start("detectors", len(chosen), "detectors")
    for name, settings in chosen.items():
        own = own_run(run, name, settings)
        given, on_host = clean_images(run, settings), settings.get("method", name) in ON_HOST
        origin = made_from(own, (), inputs_of(variables, given))
        train = trainer(own, "detector", settings.training, origin) if "training" in settings else None
        detector = build_detector(narrowed(own, ()).config, settings, name, classifier, run.dataset, train, used.every)
        found[name] = ready(own, detector, variables, given, stream_key(run.seed, "detector", name), on_host)
        if "operator" in settings:
            used = mutants_of(own, found[name].state, used)
        if settings.get("threshold", None) is not None:
            found[name] = found[name]._replace(threshold=float(settings.threshold))
        update(len(found))
    members = {name: found[name] for name in run.config.joint if name in found}
    if members:
        found[JOINT] = joint(run, members)
    return found, used


def as_one(run: Run, members: dict[str, Fitted]) -> tuple[Detector, dict[str, Any]]:
    """Fitted detectors as `combined`, and its state: ranks are among the first half of the calibration images."""
    half = run.config.testing.num_validation_images // 2
    state = {name: {"state": one.state, "clean": clean_ranks(one.clean[:half])} for name, one in members.items()}
    return combined({name: one.detector for name, one in members.items()}), state


def joint_scores(state: dict[str, Any], scores: dict[str, np.ndarray]) -> np.ndarray:
    """What `combined` of this state scores [N], from the scores [N] of its members."""
    return np.max([rank(state[name]["clean"], of) for name, of in scores.items()], axis=0)


def scores(
    run: Run,
    fitted: dict[str, Fitted],
    variables: Variables,
    images: dict[str, np.ndarray],
    update: Callable[..., None] = lambda done: None,
) -> dict[str, dict[str, Said]]:
    """{detector: {part: what it says}}; what is there is read, each part for itself.

    Args:
      run: the seed.
      fitted: detectors, the joint rule after its members.
      variables: the target's.
      images: {"clean" or attack: [N, H, W, C]}.
      update: is told how many detectors are done.
    """
    found: dict[str, dict[str, Said]] = {}
    for name, one in fitted.items():
        found[name] = {}
        for part, of in images.items():
            if name == JOINT:
                members = {member: found[member][part]["scores"] for member in one.state}
                found[name][part] = {"scores": joint_scores(one.state, members)}
                continue
            inputs = {"variables": variables, "state": one.state, "images": of}
            found[name][part] = stage(one.run._replace(path=run.path), f"scores_{name}_{part}", says(one), inputs).arrays
        update(len(found))
    return found


def says(one: Fitted) -> Callable[..., tuple[dict, dict]]:
    """What makes a stage of what a detector says of images; its programs are compiled once, with its state and the target's."""
    score, used = one.score, one.used
    return lambda run, images, **_: ({"scores": score(images), **({"used": used(images)} if used else {})}, {})


def joint(run: Run, members: dict[str, Fitted]) -> Fitted:
    """The joint rule of fitted detectors: ranks from one half of the calibration images, the threshold from the other."""
    half = run.config.testing.num_validation_images // 2
    detector, state = as_one(run, members)
    clean = joint_scores(state, {name: one.clean[half:] for name, one in members.items()})
    score = lambda images: joint_scores(state, {name: one.score(images) for name, one in members.items()})  # noqa: E731
    differentiable = all(one.differentiable for one in members.values())
    return Fitted(detector, state, score, None, clean, threshold(clean), differentiable, 0.0, run)
