"""The mutants of an experiment: one population an operator, protocol and stream, no mutant in two streams."""

from typing import Any, NamedTuple

import numpy as np

from mgan_jax import population
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.testing import Protocol, kappa_of
from mgan_jax.experiments.training import Run, build_mutation
from mgan_jax.types import Classifier, Variables

LAYER_OPERATORS = ("LD", "LA", "AFR")


class Tested(NamedTuple):
    """The evaluation mutants of one operator under one protocol.

    Attributes:
      operator: its abbreviation.
      protocol: how they were drawn.
      found: the population.
      kappa: SPRT's threshold, from validation mutants on validation images; None where there are none.
    """

    operator: str
    protocol: Protocol
    found: population.Population
    kappa: float | None


def draw(run: Run, classifier: Classifier, variables: Variables, operator: str, protocol: Protocol) -> Tested:
    """Validation mutants first, for SPRT's threshold, then evaluation mutants, none of which is among the former.

    The layer operators have so few distinct mutants that all of them are kept for evaluation; they are left out of
    training, and have no threshold.

    Args:
      run: the seed; `config.testing` says how many mutants and images.
      classifier, variables: the target.
      operator: abbreviation.
      protocol: rate and filter.
    """
    testing: Any = run.config.testing
    mutate = build_mutation(run.config, operator, protocol.rate)
    images, labels = (array[: testing.num_validation_images] for array in run.dataset.validation)

    def found(stream: str, num_mutants: int, exclude: tuple[str, ...]) -> population.Population:
        key = stream_key(run.seed, "mutants", stream, operator, protocol.name)
        return population.qualified(
            classifier.apply, mutate, key, variables, images, labels, num_mutants, protocol.min_accuracy_ratio, exclude
        )

    kappa, exclude = None, ()
    if operator not in LAYER_OPERATORS:
        validation = found("validation", testing.num_validation_mutants, ())
        exclude = validation.digests
        if validation.num_mutants:
            decisions = population.predictions(classifier.apply, variables, images)
            votes = population.votes(classifier.apply, validation.variables, images)
            kappa = kappa_of(votes, decisions, decisions == np.asarray(labels))
    return Tested(operator, protocol, found("test", testing.num_mutants, exclude), kappa)


def votes(classifier: Classifier, tested: Tested, images: np.ndarray) -> np.ndarray:
    """Labels [M, N] of the mutants; [0, N] where there are none."""
    if tested.found.num_mutants == 0:
        return np.zeros((0, len(images)), np.int32)
    return population.votes(classifier.apply, tested.found.variables, images)
