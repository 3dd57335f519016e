"""Adversarial images of an experiment: each attack trained or run once, its images kept."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import workdir
from mgan_jax.build import build
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run, build_generative_attack, build_mutation, train_generator
from mgan_jax.losses import margin
from mgan_jax.types import Attack, Classifier, GenerativeAttack, Variables

WEIGHT_OPERATORS = ("GF", "WS", "NEB", "NAI", "NS")
BATCH = 500


def batched(attack: Attack | Callable, key, variables: Variables, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The adversarial images of an attack, [N, H, W, C], computed in batches of one shape."""
    compiled = jax.jit(lambda key, images, labels: attack(key, variables, images, labels).adversarial)
    size, result = min(BATCH, len(images)), []
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size) % len(images)
        made = compiled(jax.random.fold_in(key, start), images[rows], labels[rows])
        result.append(np.asarray(made)[: len(images) - start])
    return np.concatenate(result)


def generative(
    run: Run, classifier: Classifier, variables: Variables, name: str, method: str, operators=(), **changes
) -> tuple[GenerativeAttack, dict, dict]:
    """Trains AdvGAN or MGAN as `config.attacks[method]` says; the attack, its state and its history."""
    attack = build_generative_attack(run.config, method, classifier.apply, operators, **changes)
    settings = run.config.attacks[name if name in run.config.attacks else method]
    state, history = train_generator(run, name, attack, variables, settings)
    return attack, state, history


def mean_margin(
    run: Run, classifier: Classifier, variables: Variables, attack: GenerativeAttack, state: dict
) -> float:
    """Mean logit margin of the target's decisions on an attack's validation images: its confidence."""
    images = run.dataset.validation.images[: run.config.testing.num_validation_images]
    logits = classifier.apply(variables, attack.perturb(state, images))
    return float(margin(logits, logits.argmax(-1)).mean())


def iterative(run: Run, classifier: Classifier, name: str) -> Attack:
    """An attack that learns nothing, as `config.attacks[name]` says; `pgd_mutants` gets MGAN's training operators."""
    arguments = dict(run.config.attacks[name].arguments)
    if name == "pgd_mutants":
        arguments["mutations"] = [
            build_mutation(run.config, operator, protocol.rate)
            for protocol in run.config.protocols.values()
            for operator in WEIGHT_OPERATORS
        ]
    return build("attacks", name, apply_fn=classifier.apply, epsilon=run.config.epsilon, **arguments)


def crafted(run: Run, name: str, craft: Callable[[], np.ndarray]) -> np.ndarray:
    """Adversarial images of a finished stage, or those that `craft` makes, which are then kept."""
    stage = f"attack_{name}"
    done = workdir.load_stage(run.path, stage)
    if done is None:
        workdir.finish_stage(run.path, stage, {"adversarial": craft()}, {})
        done = workdir.load_stage(run.path, stage)
    return done.arrays["adversarial"]


def all_attacks(
    run: Run, classifier: Classifier, variables: Variables, images: np.ndarray, labels: np.ndarray
) -> tuple[dict[tuple[str, str | None], np.ndarray], dict[tuple[str, str | None], tuple], dict[str, dict]]:
    """Runs every attack the config names on the test images.

    Returns:
      ({(attack, trained_on): adversarial images}, {(attack, trained_on): (method, state)} of the generators,
      {stage: history}).
    """
    made, generators, histories = {}, {}, {}

    def add_generator(name, trained_on, method, operators=(), **changes):
        stage = name if trained_on in (None, "all") else f"{name}_{trained_on}"
        attack, state, history = generative(run, classifier, variables, stage, method, operators, **changes)
        histories[stage] = history
        generators[name, trained_on] = (method, state)
        craft = lambda: batched(  # noqa: E731
            jax.tree_util.Partial(attack.attack, state), stream_key(run.seed, "attack", stage), variables, images, labels
        )
        made[name, trained_on] = crafted(run, stage, craft)
        return attack, state

    reference = None
    for name, settings in run.config.attacks.items():
        if name == "advgan":
            add_generator(name, None, "advgan")
        elif name == "mgan":
            for trained_on in settings.trained_on:
                operators = WEIGHT_OPERATORS if trained_on == "all" else (trained_on,)
                learned = add_generator(name, trained_on, "mgan", operators)
                reference = reference or learned
    for name in run.config.attacks:
        if name in ("advgan", "mgan"):
            continue
        if name == "advgan_margin":
            if reference is None:
                raise ValueError("the attack advgan_margin takes its margin from mgan; name mgan among the attacks too")
            add_generator(name, None, "advgan", mean_margin=mean_margin(run, classifier, variables, *reference))
            continue
        attack = iterative(run, classifier, name)
        key = stream_key(run.seed, "attack", name)
        made[name, None] = crafted(
            run, name, lambda attack=attack, key=key: batched(attack, key, variables, images, jnp.asarray(labels))
        )
    return made, generators, histories
