"""One attack of a comparison: built as the config says, fitted where it learns, run on the images, timed, kept."""

import inspect
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from mgan_jax import devices
from mgan_jax.attacks.substitute_model import learned_on
from mgan_jax.build import build, factory
from mgan_jax.experiments import aims, crafting
from mgan_jax.experiments.extras import extras
from mgan_jax.experiments.stages import stage
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Classifier, Dataset, LearnedAttack, Split, Variables

GENERATORS = ("advgan", "mgan")


class Attacked(NamedTuple):
    """What an attack made of N images, as it is kept.

    Attributes:
      images: [N, H, W, C].
      success, success_rounded: [N] bool, as in `AttackResult`.
      used: [N] gradients or queries.
      numbers: `seconds` of the attack and `compile_seconds`; `fit_seconds` of one that learns, else None; `out_of_bounds`,
        values, and `not_finite`, images, are counts; `extras`, as `experiments.extras` gives them.
    """

    images: np.ndarray
    success: np.ndarray
    success_rounded: np.ndarray
    used: np.ndarray
    numbers: dict[str, Any]


def build_model(settings: Any, dataset: Dataset, epsilon: float | None = None) -> Any:
    """The model that a section of a config names, with the facts that its factory asks for."""
    arguments = {name: value for name, value in settings.items() if name != "name"}
    facts = {"image_shape": dataset.image_shape, "num_classes": dataset.num_classes, "epsilon": epsilon}
    takes = inspect.signature(factory("models", settings["name"])).parameters
    return build("models", settings["name"], **{name: v for name, v in facts.items() if name in takes}, **arguments)


def inner_attack(name: str, arguments: dict[str, Any], apply_fn: ApplyFn, **more: Any) -> Attack:
    """An attack on another network than the target, as `build`; what an attack that needs one is given."""
    built = build("attacks", name, apply_fn=apply_fn, **arguments, **more)
    return crafting.that_learns_nothing(built, f"an attack inside another is {name}")


def plain(value: Any) -> Any:
    """A value of a config as a factory takes it: sections as dicts, lists as tuples."""
    if isinstance(value, ConfigDict):
        return value.to_dict()
    return tuple(value) if isinstance(value, (list, tuple)) else value


def attack_arguments(settings: Any, dataset: Dataset) -> dict[str, Any]:
    """The arguments of a row's attack, models and other attacks among them built.

    Args:
      settings: of the row, as in `build_attack`.
      dataset: whose shapes models take.

    Raises:
      ValueError: as factories do.
    """
    arguments = {key: plain(value) for key, value in settings.get("arguments", {}).items()}
    bound = arguments.get("epsilon")
    for argument, model in settings.get("networks", {}).items():
        arguments[argument] = build_model(model, dataset, bound)
    for argument, other in settings.get("optimizers", {}).items():
        more = {key: value for key, value in other.items() if key != "name"}
        try:
            arguments[argument] = getattr(optax, other["name"])(**more)
        except (AttributeError, TypeError) as error:
            raise ValueError(f"{argument} cannot be made: {error}; choose an optimizer of Optax and its arguments") from None
    for argument, other in settings.get("attacks", {}).items():
        more = {key: value for key, value in other.items() if key != "name"}
        arguments[argument] = partial(inner_attack, other["name"], more)
    return arguments


def substitute_arguments(settings: Any, dataset: Dataset) -> list[dict[str, Any]]:
    """Those of `substitute_model` for every network that a row's attack learns on in place of the target, built.

    Raises:
      ValueError: as factories do.
    """
    return [attack_arguments(one, dataset) for one in settings.get("substitutes", {}).values()]


def build_attack(settings: Any, name: str, classifier: Classifier, dataset: Dataset, **more: Any) -> Attack | LearnedAttack:
    """The attack of a row.

    Args:
      settings: `method`, where it is not the row's name; `arguments` of its factory; `networks`, arguments that are models;
        `optimizers`, arguments that are Optax's; `attacks`, arguments that are factories of attacks; each with arguments of its
        own; `substitutes`, sections with `arguments`, `networks` and `optimizers` of `substitute_model`, learns on these.
      name: of the row.
      classifier: the target.
      dataset: whose shapes models take.
      **more: further arguments that the factory may ask for by name.

    Raises:
      ValueError: as factories do; substitutes for an attack that has no judge.
    """
    method = settings.get("method", name)
    takes = inspect.signature(factory("attacks", method)).parameters
    given = {key: value for key, value in more.items() if key in takes}
    given |= attack_arguments(settings, dataset)
    substitutes = substitute_arguments(settings, dataset)
    if not substitutes:
        return build("attacks", method, apply_fn=classifier.apply, **given)
    networks = [build("attacks", "substitute_model", apply_fn=classifier.apply, **one) for one in substitutes]
    applied = [one["classifier"].apply for one in substitutes]
    return learned_on(classifier.apply, build("attacks", method, apply_fn=applied, judge=classifier.apply, **given), networks)


def compiled(function: Callable, *arguments: Any) -> tuple[Callable, float]:
    """The program for arguments of these shapes, and the seconds that it took to make."""
    began = time.monotonic()
    return jax.jit(function).lower(*arguments).compile(), time.monotonic() - began


def in_batches(attack: Attack, key: Array, variables: Variables, test: Split, targets: np.ndarray | None, size: int) -> tuple:
    """The attack on all images in batches of one shape, the last filled up and cut; `key` is folded with each one's start.

    Several batches run at a time, see `devices.in_threads`.

    Returns:
      (result, its arrays NumPy and joined along the images; seconds; seconds of compilation).
    """
    count = len(test.labels)
    size = min(size, count)
    arrays = (test.images, test.labels) if targets is None else (test.images, test.labels, targets)
    batch = lambda start: [array[np.arange(start, start + size) % count] for array in arrays]  # noqa: E731
    program, compile_seconds = compiled(attack, key, variables, *batch(0))

    def run(start: int) -> AttackResult:
        result = program(jax.random.fold_in(key, start), variables, *batch(start))
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: count - start], result)

    began = time.monotonic()
    made = devices.in_threads(run, range(0, count, size))
    joined = jax.tree.map(lambda *parts: np.concatenate(parts), *made)
    return joined, time.monotonic() - began, compile_seconds


def given_samples(settings: Any, name: str, attack: Attack | LearnedAttack, dataset: Dataset) -> tuple[np.ndarray, ...]:
    """What `fit` is given beside images and labels: the training images [S, H, W, C] of the class `samples_of`, where named.

    Raises:
      ValueError: there is no such class, it has no images, or the attack learns from no samples.
    """
    chosen = settings.get("samples_of")
    if chosen is None:
        return ()
    where = f"config.attacks.{name}.samples_of"
    if not isinstance(attack, LearnedAttack) or "samples" not in inspect.signature(attack.fit).parameters:
        raise ValueError(f"{where} is {chosen!r}, but the attack learns from no samples; choose adversarial_patch_generator")
    if chosen not in dataset.class_names:
        raise ValueError(f"{where} is {chosen!r}; choose a class: {', '.join(dataset.class_names)}")
    samples = dataset.train.images[dataset.train.labels == dataset.class_names.index(chosen)]
    if not len(samples):
        raise ValueError(f"{where} is {chosen!r}, of which there are no training images; choose another class")
    return (samples,)


def fit(
    run: Run, learned: LearnedAttack, key: Array, variables: Variables, num_images: int, samples: tuple[np.ndarray, ...] = ()
) -> tuple[Any, float]:
    """What an attack learns from so many training images, and the seconds that it took, compilation apart.

    `samples` as `given_samples` gives them.
    """
    images, labels = (array[:num_images] for array in run.dataset.train)
    program, _ = compiled(learned.fit, key, variables, images, labels, *samples)
    began = time.monotonic()
    state = jax.block_until_ready(program(key, variables, images, labels, *samples))
    return state, time.monotonic() - began


def attacked(run: Run, name: str, classifier: Classifier, variables: Variables, test: Split, **more: Any) -> Attacked:
    """The row `name` of `config.attacks` on these images; a finished one is read.

    Args:
      run: the seed.
      name: of the row.
      classifier, variables: the target.
      test: the images.
      **more: as in `build_attack`.
    """
    make = lambda own, **inputs: run_attack(own, name, classifier, more, **inputs)  # noqa: E731
    inputs = {"variables": variables, "images": test.images, "labels": test.labels}
    method = run.config.attacks[name].get("method", name)
    sections = crafting.generator_sections(method, name) if method in GENERATORS else (f"attacks.{name}",)
    done = stage(run, f"attack_{name}", make, inputs, sections)
    return Attacked(**done.arrays, numbers=done.numbers)


def run_attack(
    run: Run,
    name: str,
    classifier: Classifier,
    more: dict[str, Any],
    variables: Variables,
    images: np.ndarray,
    labels: np.ndarray,
) -> tuple[dict, dict]:
    """Arrays and numbers of one attack, as `attacked` keeps them; `more` as in `build_attack`."""
    settings, test = run.config.attacks[name], Split(images, labels)
    key = stream_key(run.seed, "attack", name)
    method = settings.get("method", name)
    state, fit_seconds, targets = None, None, aims.given(run, settings, name, test.labels)
    if method in GENERATORS:
        operators = crafting.training_operators("all") if name == "mgan" else ()
        began = time.monotonic()
        made, state, _ = crafting.generative(run, classifier, variables, name, method, operators)
        attack, fit_seconds = jax.tree_util.Partial(made.attack, {"generator": state["generator"]}), time.monotonic() - began
    else:
        attack = build_attack(settings, name, classifier, run.dataset, **more)
        if isinstance(attack, LearnedAttack):
            samples = given_samples(settings, name, attack, run.dataset)
            state, fit_seconds = fit(run, attack, stream_key(run.seed, "fit", name), variables, settings.fit_images, samples)
            attack = jax.tree_util.Partial(attack.attack, state)
    result, seconds, compile_seconds = in_batches(attack, key, variables, test, targets, settings.get("batch_size", 250))
    arguments = attack_arguments(settings, run.dataset)
    arguments["substitutes"] = [one["classifier"] for one in substitute_arguments(settings, run.dataset)]
    return kept(result), {
        "seconds": seconds,
        "compile_seconds": compile_seconds,
        "fit_seconds": fit_seconds,
        "out_of_bounds": int(((result.adversarial < 0) | (result.adversarial > 1)).sum()),
        "extras": extras(method, arguments, state, classifier, variables, test, result),
        "not_finite": int((~result.finite).sum()),
    }


def kept(result: AttackResult) -> dict[str, np.ndarray]:
    """The arrays of a result that a stage keeps."""
    return {
        "images": result.adversarial,
        "success": result.success,
        "success_rounded": result.success_rounded,
        "used": result.used,
    }
