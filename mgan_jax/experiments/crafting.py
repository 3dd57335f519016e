"""Adversarial images of an experiment: each attack trained or run once, its images kept."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from mgan_jax import engine
from mgan_jax.build import build
from mgan_jax.experiments.data import test_images, validation_images
from mgan_jax.experiments.stages import made_from, narrowed, stage
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run, build_generative_attack, build_mutation, build_target, train_generator
from mgan_jax.losses import margin
from mgan_jax.training import gan, loop
from mgan_jax.types import Array, Attack, Classifier, Dataset, GenerativeAttack, LearnedAttack, Variables

WEIGHT_OPERATORS = ("GF", "WS", "NEB", "NAI", "NS")
BATCH = 500


def training_operators(trained_on: str) -> tuple[str, ...]:
    """Abbreviations behind "all", one operator's, or "without GF": the five weight and neuron operators but that one.

    Raises:
      ValueError: an operator that is none of the five.
    """
    if trained_on == "all":
        return WEIGHT_OPERATORS
    if trained_on in WEIGHT_OPERATORS:
        return (trained_on,)
    if not trained_on.startswith("without "):
        raise ValueError(
            f"trained_on is {trained_on!r}; choose all, one of {', '.join(WEIGHT_OPERATORS)}, or 'without' one of them: LD, LA "
            "and AFR have so few mutants that all are kept for evaluation"
        )
    left_out = trained_on.removeprefix("without ")
    if left_out not in WEIGHT_OPERATORS:
        raise ValueError(f"trained_on is {trained_on!r}; leave out one of {', '.join(WEIGHT_OPERATORS)}")
    return tuple(operator for operator in WEIGHT_OPERATORS if operator != left_out)


def stage_name(name: str, trained_on: str | None) -> str:
    """Name of the stage that trains an attack, "mgan" or "mgan_without_GF"."""
    return name if trained_on in (None, "all") else f"{name}_{trained_on.replace(' ', '_')}"


def undetected_name(weight: float) -> str:
    """Name of the stage that trains MGAN with detectors in its loss, and of its row."""
    return f"mgan_undetected_{weight:g}"


def batched(craft: Callable, images: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """`craft(start, images, *others)` on batches of one shape, joined; the last batch is filled up and cut."""
    size, result = min(BATCH, len(images)), []
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size) % len(images)
        made = craft(start, images[rows], *(array[rows] for array in others))
        result.append(np.asarray(made)[: len(images) - start])
    return np.concatenate(result)


_perturb = jax.jit(lambda perturb, state, images, scale: perturb(state, images, scale), static_argnums=0)


def perturbed(attack: GenerativeAttack, state: dict, images: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Images [N, H, W, C] with the generator's perturbation, times `scale`."""
    generator = {"generator": state["generator"]}
    return batched(lambda start, batch: _perturb(attack.perturb, generator, batch, scale), images)


def attacked(attack: Attack, key: Array, variables: Variables, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Adversarial images [N, H, W, C] of an attack that learns nothing; `key` is folded with each batch's start."""
    compiled = jax.jit(lambda key, images, labels: attack(key, variables, images, labels).adversarial)
    return batched(lambda start, *batch: compiled(jax.random.fold_in(key, start), *batch), images, labels)


def check_operator(config: Any, classifier: Classifier, operator: str, rate: float) -> None:
    """Whether an operator can mutate this network, found by its shapes alone.

    Raises:
      ValueError: it cannot, or there is no such operator.
    """
    mutate, key = build_mutation(config, operator, rate), jax.random.key(0)
    try:
        jax.eval_shape(mutate, key, jax.eval_shape(classifier.init, key))
    except ValueError as error:
        message = f"{operator} cannot mutate the target {config.target.name}: {error}; name others in config.testing.operators"
        raise ValueError(message) from None


def check_threats(config: Any, dataset: Dataset) -> None:
    """What `config.threats` names, where there is one.

    Raises:
      ValueError: an attack or protocol that there is not, or a mistake in a network.
    """
    threats = config.get("threats", {})
    for name in threats.get("attacks", ()):
        if name not in config.attacks:
            raise ValueError(f"config.threats.attacks names {name!r}; choose from {', '.join(config.attacks)}")
    if threats and "qualified" not in config.protocols:
        raise ValueError("config.threats takes the protocol 'qualified'; name it in config.protocols")
    for changes in threats.get("targets", {}).values():
        build_target(ConfigDict({**config.target.to_dict(), **changes.to_dict()}), dataset)


def check(config: Any, dataset: Dataset) -> None:
    """Builds everything a config names and runs nothing, so that a mistake is found before a folder is touched.

    Raises:
      ValueError: an unknown name, an argument out of range, or numbers that leave nothing to test.
    """
    testing = config.testing
    for name in ("num_mutants", "num_validation_mutants", "num_images", "num_validation_images"):
        if testing[name] is not None and testing[name] < 1:
            raise ValueError(f"config.testing.{name} is {testing[name]}; choose at least 1")
    classifier = build_target(config.target, dataset)
    engine.chosen_method(testing.method, classifier)
    for protocol in config.protocols.values():
        if not 0 <= protocol.min_accuracy_ratio <= 1:
            raise ValueError(f"min_accuracy_ratio is {protocol.min_accuracy_ratio}; choose a share between 0 and 1")
        for operator in testing.operators:
            check_operator(config, classifier, operator, protocol.rate)
    if not 0 < config.epsilon <= 1 or not all(0 <= share <= 1 for share in testing.get("epsilon_shares", ())):
        raise ValueError(f"epsilon is {config.epsilon}; choose it above 0 and up to 1, and testing.epsilon_shares from 0 to 1")
    test_images(dataset, testing.num_images)
    if "advgan_margin" in config.attacks and not {"mgan", "advgan"} <= set(config.attacks):
        raise ValueError(
            "advgan_margin is advgan with the margin of mgan; name both among the attacks too, or skip advgan_margin"
        )
    check_threats(config, dataset)
    trainings = [config.target]
    for name, settings in config.attacks.items():
        if name in ("advgan", "mgan"):
            label = settings.arguments.get("target_label")
            if label is not None and not 0 <= label < dataset.num_classes:
                raise ValueError(f"target_label is {label}; choose one of the {dataset.num_classes} classes, 0, 1, ...")
            trained_on_all = settings.get("trained_on", ("all",))
            if not trained_on_all:
                raise ValueError("config.attacks.mgan.trained_on is empty; name operators, or 'all', or skip mgan")
            for trained_on in trained_on_all:
                operators = training_operators(trained_on)
                build_generative_attack(config, name, classifier.apply, operators)
        elif name == "advgan_margin":
            build_generative_attack(config, "advgan", classifier.apply, **settings.get("arguments", {}))
        else:
            iterative(config, classifier, name)
        trainings += [settings] if "epochs" in settings else []
    for settings in trainings:
        loop.num_steps(settings.epochs, len(dataset.train.labels), settings.batch_size, settings.chunk_size)
        loop.batch_indices(0, len(dataset.train.labels), settings.batch_size, range(1))
        gan.optimizer(settings.learning_rate, 1)


def generator_sections(method: str, section: str) -> tuple[str, ...]:
    """Names of the sections that a generator is built and trained by.

    Args:
      method: "advgan" or "mgan".
      section: of `config.attacks`, that of its training.
    """
    mutants = ("mutation", "protocols") if method == "mgan" else ()
    return ("epsilon", "generator", "discriminator", *mutants, f"attacks.{method}", f"attacks.{section}")


def generative(
    run: Run, classifier: Classifier, variables: Variables, name: str, method: str, operators: Sequence[str] = (), **changes: Any
) -> tuple[GenerativeAttack, dict, dict]:
    """Trains AdvGAN or MGAN as `config.attacks[method]` says; the attack, its state and its history."""
    section = name if name in run.config.attacks else method
    sections = generator_sections(method, section)
    own = narrowed(run, sections)
    attack = build_generative_attack(own.config, method, classifier.apply, operators, **changes)
    origin = made_from(own, sections, {"variables": variables, "operators": list(operators), "changes": changes})
    state, history = train_generator(own, name, attack, variables, own.config.attacks[section], origin)
    return attack, state, history


def mean_margin(run: Run, attack: GenerativeAttack, classifier: Classifier, variables: Variables, state: dict) -> float:
    """Mean logit margin of the target's decisions on MGAN's validation images: its confidence."""

    def make(run: Run, variables: Variables, generator: Any, images: np.ndarray) -> tuple[dict, dict]:
        logits = engine.logits(classifier.apply, variables, perturbed(attack, {"generator": generator}, images))
        return {}, {"mean_margin": float(margin(logits, logits.argmax(-1)).mean())}

    images = validation_images(run).images
    inputs = {"variables": variables, "generator": state["generator"], "images": images}
    return stage(run, "mean_margin", make, inputs, generator_sections("mgan", "mgan")).numbers["mean_margin"]


def that_learns_nothing(attack: Attack | LearnedAttack, where: str) -> Attack:
    """The attack, which `where` names, and which is run as it is built.

    Raises:
      ValueError: it learns on images before it attacks others.
    """
    if isinstance(attack, LearnedAttack):
        raise ValueError(
            f"{where}, which learns on images before it attacks others; name it in configs/attacks.py, or choose another"
        )
    return attack


def iterative(config: Any, classifier: Classifier, name: str) -> Attack:
    """An attack that learns nothing, as `config.attacks[name]` says; `pgd_mutants` gets MGAN's training operators."""
    arguments = dict(config.attacks[name].get("arguments", {}))
    if "epsilon" in arguments:
        raise ValueError(f"config.attacks.{name}.arguments has an epsilon of its own; all attacks have config.epsilon")
    if name == "pgd_mutants":
        arguments["mutations"] = [
            build_mutation(config, operator, protocol.rate)
            for protocol in config.protocols.values()
            for operator in WEIGHT_OPERATORS
        ]
    built = build("attacks", name, apply_fn=classifier.apply, epsilon=config.epsilon, **arguments)
    return that_learns_nothing(built, f"config.attacks names {name}")


def image_stage(run: Run, name: str, make: Callable[..., np.ndarray], inputs: dict, sections: Sequence[str]) -> np.ndarray:
    """Adversarial images of a finished stage, or those that `make(run, **inputs)` gives, which are then kept."""
    turned = lambda own, **given: ({"adversarial": make(own, **given)}, {})  # noqa: E731
    return stage(run, f"images_{name}", turned, inputs, sections).arrays["adversarial"]


def generated(
    run: Run, name: str, attack: GenerativeAttack, state: dict, images: np.ndarray, sections: Sequence[str]
) -> np.ndarray:
    """What a trained generator makes of images; `sections` are those that it was built and trained by."""

    def make(run: Run, generator: Any, images: np.ndarray) -> np.ndarray:
        return perturbed(attack, {"generator": generator}, images)

    return image_stage(run, name, make, {"generator": state["generator"], "images": images}, sections)


def iterated(
    run: Run, name: str, classifier: Classifier, variables: Variables, images: np.ndarray, labels: np.ndarray
) -> np.ndarray:
    """What the row `name`, which learns nothing, makes of images."""

    def make(run: Run, variables: Variables, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        attack = iterative(run.config, classifier, name)
        return attacked(attack, stream_key(run.seed, "attack", name), variables, images, labels)

    sections = ("epsilon", f"attacks.{name}", *(("mutation", "protocols") if name == "pgd_mutants" else ()))
    return image_stage(run, name, make, {"variables": variables, "images": images, "labels": labels}, sections)


def all_attacks(
    run: Run, classifier: Classifier, variables: Variables, images: np.ndarray, labels: np.ndarray
) -> tuple[dict[tuple[str, str | None], np.ndarray], dict[tuple[str, str | None], tuple], dict[str, dict]]:
    """Runs every attack the config names on the test images.

    Returns:
      ({(attack, trained_on): adversarial images}, {(attack, trained_on): (attack, state)} of the generators,
      {stage: history}).
    """
    made, generators, histories = {}, {}, {}

    def add_generator(name, trained_on, method, operators=(), **changes):
        label = stage_name(name, trained_on)
        attack, state, history = generative(run, classifier, variables, label, method, operators, **changes)
        histories[label] = history
        generators[name, trained_on] = (attack, state)
        made[name, trained_on] = generated(run, label, attack, state, images, generator_sections(method, name))
        return attack, state

    reference = None
    for name, settings in run.config.attacks.items():
        if name == "advgan":
            add_generator(name, None, "advgan")
        elif name == "mgan":
            for trained_on in settings.trained_on:
                learned = add_generator(name, trained_on, "mgan", training_operators(trained_on))
                reference = reference or learned
    for name, settings in run.config.attacks.items():
        if name in ("advgan", "mgan"):
            continue
        if name == "advgan_margin":
            attack, state = reference
            reached = mean_margin(run, attack, classifier, variables, state)
            add_generator(name, None, "advgan", **settings.get("arguments", {}), mean_margin=reached)
            continue
        made[name, None] = iterated(run, name, classifier, variables, images, labels)
    return made, generators, histories
