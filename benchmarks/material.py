"""What is measured on: images, networks trained for a short while on them, and their mutants."""

import functools
from typing import NamedTuple

import jax
import numpy as np
from scipy import ndimage

from mgan_jax import mutation, population
from mgan_jax.build import factory
from mgan_jax.datasets.digits import digits
from mgan_jax.datasets.idx import idx
from mgan_jax.mutation.mixture import mixture
from mgan_jax.training import loop
from mgan_jax.training import target as target_training
from mgan_jax.types import Classifier, Mutation, Split, Variables

IMAGE_SHAPE = (28, 28, 1)
NUM_CLASSES = 10
MIXED = "mixed"
MIN_ACCURACY_RATIO = {"small": 0.0, "paper": 0.9, "large": 0.9}
"""Share of the target's accuracy a mutant keeps; at small the target has hardly learned, and all are kept."""
STEPS = {"small": 80, "paper": 600, "large": 1200}
"""Training steps of a target by size; carlini_wagner_cnn, forty times the work, gets an eighth."""


class Target(NamedTuple):
    """A trained network, its name and its variables, and the data beside its training."""

    name: str
    classifier: Classifier
    variables: Variables
    validation: Split
    test: Split


def enlarged(examples: Split, number: int, seed: int) -> Split:
    """Digits of 8 x 8 pixels, drawn `number` times, enlarged to 20 x 20 and put near the middle of 28 x 28 x 1."""
    rng = np.random.default_rng(seed)
    large = np.clip(ndimage.zoom(examples.images[..., 0], (1, 2.5, 2.5), order=1), 0, 1).astype(np.float32)
    chosen, places = rng.integers(0, len(large), number), rng.integers(2, 7, (number, 2))
    images = np.zeros((number, *IMAGE_SHAPE), np.float32)
    for image, row, (top, left) in zip(images, chosen, places, strict=True):
        image[top : top + 20, left : left + 20, 0] = large[row]
    return Split(images, examples.labels[chosen])


@functools.cache
def data(size: str, data_dir: str | None) -> tuple[Split, Split, Split]:
    """Train, validation and test images [N, 28, 28, 1]: enlarged digits, or the IDX files of a folder.

    Args:
      size: small has 2,000 test images, others 10,000.
      data_dir: the folder, or None.

    Raises:
      ValueError: the files hold images of another shape.
    """
    if data_dir is None:
        number = 2000 if size == "small" else 10000
        source = digits(0)
        return enlarged(source.train, number, 1), enlarged(source.validation, 500, 2), enlarged(source.test, number, 3)
    found = idx(data_dir, 0)
    if found.image_shape != IMAGE_SHAPE or found.num_classes != NUM_CLASSES:
        raise ValueError(f"{data_dir} holds {found.num_classes} classes of {found.image_shape}; the benchmarks need 28 x 28 x 1")
    return found.train, Split(*(array[:500] for array in found.validation)), found.test


@functools.cache
def target(name: str, size: str, data_dir: str | None) -> Target:
    """A network of `mgan_jax.models` trained for some steps of 100 images, which gives mutants something to disagree on."""
    train, validation, test = data(size, data_dir)
    classifier = factory("models", name)(IMAGE_SHAPE, NUM_CLASSES)
    steps = STEPS[size] // (8 if name == "carlini_wagner_cnn" else 1)
    transform = target_training.optimizer(2e-3, steps)
    state = target_training.init_state(jax.random.key(0), classifier, transform)
    chunk = loop.make_chunk(target_training.make_train_step(classifier, transform), train)
    progress = loop.Progress(state, 0, {})
    done = loop.run(chunk, progress, jax.random.key(1), 0, len(train.images), 100, steps, max(1, steps // 2))
    return Target(name, classifier, done.state.params, validation, test)


def operator(abbreviation: str, variables: Variables, rate: float = 0.05) -> Mutation:
    """The operator of an abbreviation; "mixed": all that the network with these variables has layers for, equally likely."""
    if abbreviation != MIXED:
        return factory("mutation", mutation.OPERATORS[abbreviation])(rate=rate)
    return mixture([operator(name, variables, rate) for name in applicable(variables)])


def applicable(variables: Variables) -> tuple[str, ...]:
    """Abbreviations of the operators that a network has layers for: LD and LA need residual ones."""
    found = []
    for abbreviation in mutation.OPERATORS:
        try:
            jax.eval_shape(operator(abbreviation, variables), jax.random.key(0), variables)
        except ValueError:
            continue
        found.append(abbreviation)
    return tuple(found)


@functools.cache
def mutants(name: str, size: str, data_dir: str | None, abbreviation: str, num_mutants: int) -> Variables:
    """Mutants [M, ...] of rate .05 of a target; of one operator, those that qualify, mixed, all that are drawn.

    Raises:
      ValueError: too few qualify.
    """
    found = target(name, size, data_dir)
    mutate, key = operator(abbreviation, found.variables), jax.random.key(2)
    if abbreviation == MIXED:
        return population.sample(mutate, key, found.variables, num_mutants)
    images, labels = found.validation
    ratio = MIN_ACCURACY_RATIO[size]
    drawn = population.qualified(found.classifier.apply, mutate, key, found.variables, images, labels, num_mutants, ratio)
    if drawn.num_mutants < num_mutants:
        raise ValueError(
            f"only {drawn.num_mutants} of {drawn.tried} {abbreviation} mutants of {name} qualify; {num_mutants} asked"
        )
    return drawn.variables
