"""Rows of time to a result: seconds of training until one MGAN on MNIST fools its target as stably as normal images are read."""

import runpy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.command_line import Settings
from benchmarks.timing import Row, alone
from mgan_jax import engine, population
from mgan_jax.experiments.crafting import WEIGHT_OPERATORS
from mgan_jax.experiments.data import load_data
from mgan_jax.experiments.training import build_generative_attack, build_mutation, build_target
from mgan_jax.mutation.mixture import mixture
from mgan_jax.training import gan, loop, target
from mgan_jax.types import Dataset, Variables

SUCCESS, RATIO = 0.95, 1.2
"""What is to be reached on validation images: share of the correctly classified that are fooled; LCR over normal LCR, at most."""
NUM_IMAGES, NUM_MUTANTS, CHUNKS = 500, 50, 2
"""Validation images and mutants, of the five operators mixed, unfiltered, and chunks of training between two looks."""
CONFIG = Path(__file__).parent.parent / "configs" / "mgan.py"


def train_target(config: Any, dataset: Dataset) -> tuple[Any, Variables]:
    """The classifier and its variables, trained as the configuration says."""
    settings, number = config.target, len(dataset.train.images)
    classifier = build_target(settings, dataset)
    steps = loop.num_steps(settings.epochs, number, settings.batch_size, settings.chunk_size)
    transform = target.optimizer(settings.learning_rate, steps, settings.weight_decay)
    state = target.init_state(jax.random.key(0), classifier, transform)
    chunk = loop.make_chunk(target.make_train_step(classifier, transform, settings.max_shift), dataset.train)
    progress = loop.Progress(state, 0, {})
    done = loop.run(chunk, progress, jax.random.key(1), 0, number, settings.batch_size, steps, settings.chunk_size)
    return classifier, done.state.params


def reached(apply_fn: Callable, variables: Variables, mutants: Variables, dataset: Dataset) -> Callable[..., tuple[float, float]]:
    """`look(adversarial)` -> (success, LCR over normal LCR) on the first validation images; where none is fooled, (0, inf)."""
    images, labels = (array[:NUM_IMAGES] for array in dataset.validation)
    clean = engine.predictions(apply_fn, variables, images)
    normal = engine.votes(apply_fn, mutants, images) != clean

    def look(adversarial: np.ndarray) -> tuple[float, float]:
        decisions = engine.predictions(apply_fn, variables, adversarial)
        fooled = (clean == labels) & (decisions != labels)
        if not fooled.any():
            return 0.0, np.inf
        flips = (engine.votes(apply_fn, mutants, adversarial) != decisions)[:, fooled].mean()
        return float(fooled.sum() / (clean == labels).sum()), float(flips / max(normal[:, fooled].mean(), 1e-9))

    return look


def rows(settings: Settings) -> Iterator[Row]:
    """Two rows, where a folder of MNIST is given: the target's whole training, and MGAN's until it is there."""
    name = "time to result: MNIST"
    if settings.data_dir is None or not settings.wanted(name):
        return
    config = runpy.run_path(str(CONFIG))["get_config"]("mnist")
    dataset = load_data(config.dataset, settings.data_dir, 0)
    start = time.perf_counter()
    classifier, variables = train_target(config, dataset)
    yield alone(f"{name}, target's {config.target.epochs} epochs", [time.perf_counter() - start], None)
    yield train_mgan(f"{name}, MGAN to {SUCCESS:.0%} success and LCR ratio {RATIO}", config, dataset, classifier, variables)


def train_mgan(name: str, config: Any, dataset: Dataset, classifier: Any, variables: Variables) -> Row:
    """MGAN's row: compilation counts, looking does not; no seconds where it never gets there."""
    made = config.attacks.mgan
    rate = config.protocols.unfiltered.rate
    mutate = mixture([build_mutation(config, operator, rate) for operator in WEIGHT_OPERATORS])
    mutants = population.sample(mutate, jax.random.key(2), variables, NUM_MUTANTS)
    look = reached(classifier.apply, variables, mutants, dataset)
    attack = build_generative_attack(config, "mgan", classifier.apply, WEIGHT_OPERATORS)
    perturb = jax.jit(attack.perturb)
    number, size = len(dataset.train.images), made.chunk_size
    total = loop.num_steps(made.epochs, number, made.batch_size, size)
    shown = jnp.asarray(dataset.validation.images[:NUM_IMAGES])

    start = time.perf_counter()
    transform = gan.optimizer(made.learning_rate, total)
    state = gan.init_state(jax.random.key(3), attack, dataset.image_shape, transform)
    chunk = loop.make_chunk(gan.make_train_step(attack, variables, transform), dataset.train)
    progress, seconds, success, ratio = loop.Progress(state, 0, {}), 0.0, 0.0, np.inf
    while progress.step < total:
        until = min(total, progress.step + CHUNKS * size)
        progress = loop.run(chunk, progress, jax.random.key(4), 0, number, made.batch_size, until, size)
        jax.block_until_ready(progress.state)
        seconds += time.perf_counter() - start
        success, ratio = look(np.asarray(perturb(progress.state.params, shown)))
        if success >= SUCCESS and ratio <= RATIO:
            return alone(name, [seconds], None, note=f"after {progress.step} steps: {success:.1%}, ratio {ratio:.2f}")
        start = time.perf_counter()
    return Row(name, "", None, note=f"not reached in {total} steps, {seconds:.0f} s: {success:.1%}, ratio {ratio:.2f}")
