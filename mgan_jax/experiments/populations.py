"""The mutants of an experiment: one population an operator, protocol and stream, no mutant in two streams."""

import inspect
from collections.abc import Callable, Collection
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np

from mgan_jax import engine, population
from mgan_jax.attacks.mgan import drawn, mgan
from mgan_jax.experiments.crafting import stage_name, training_operators
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.testing import Protocol, kappa_of
from mgan_jax.experiments.training import Run, build_mutation
from mgan_jax.training import loop
from mgan_jax.types import Classifier, Mutation, Variables

LAYER_OPERATORS = ("LD", "LA", "AFR")
BATCH = 50

Trained = Callable[[str, Protocol, Mutation], Collection[str]]
"""`trained(operator, protocol, mutate)`: digests of mutants that attacks were trained on."""


def nothing(operator: str, protocol: Protocol, mutate: Mutation) -> tuple[str, ...]:
    """No attack was trained on any mutant."""
    return ()


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


def training_digests(run: Run, variables: Variables, operator: str, protocol: Protocol, mutate: Mutation) -> tuple[str, ...]:
    """Content of all mutants that MGANs of this run were trained on, drawn once more.

    Args:
      run: the seed.
      variables: the target's.
      operator, protocol: whose mutants.
      mutate: the operator at the protocol's rate; that of `draw`, so that both are one compiled program.
    """
    settings, found = run.config.attacks.get("mgan"), []
    if settings is None or not settings.arguments.get("beta", 1.0):
        return ()
    defaults = {name: parameter.default for name, parameter in inspect.signature(mgan).parameters.items()}
    num_mutants, redraw_every = (settings.arguments.get(name, defaults[name]) for name in ("num_mutants", "redraw_every"))
    total = loop.num_steps(settings.epochs, len(run.dataset.train.labels), settings.batch_size, settings.chunk_size)
    draws = np.arange(-(-total // redraw_every))
    for trained_on in settings.trained_on:
        pairs = [(name, other) for other in run.config.protocols for name in training_operators(trained_on)]
        if (operator, protocol.name) not in pairs:
            continue
        key = stream_key(run.seed, stage_name("mgan", trained_on), "steps")
        indices, keys = jax.vmap(partial(drawn, key, num_mutants=num_mutants, num_operators=len(pairs)))(draws)
        keys = keys[np.asarray(indices) == pairs.index((operator, protocol.name))]
        size = min(BATCH, run.config.testing.num_mutants)
        for start in range(0, len(keys), size):
            found += population.digests(population.made(mutate, keys[np.arange(start, start + size) % len(keys)], variables))
    return tuple(dict.fromkeys(found))


def draw(
    run: Run, classifier: Classifier, variables: Variables, operator: str, protocol: Protocol, trained: Trained = nothing
) -> Tested:
    """Validation mutants first, for SPRT's threshold, then evaluation mutants, none of which is among them or was trained on.

    The layer operators have so few distinct mutants that all of them are kept for evaluation; they are left out of
    training, and have no threshold.

    Args:
      run: the seed; `config.testing` says how many mutants and images.
      classifier, variables: the target.
      operator: abbreviation.
      protocol: rate and filter.
      trained: digests of mutants that attacks were trained on.
    """
    testing: Any = run.config.testing
    mutate = build_mutation(run.config, operator, protocol.rate)
    images, labels = (array[: testing.num_validation_images] for array in run.dataset.validation)

    def found(stream: str, num_mutants: int, exclude: Collection[str]) -> population.Population:
        key = stream_key(run.seed, "mutants", stream, operator, protocol.name)
        return population.qualified(
            classifier,
            mutate,
            key,
            variables,
            images,
            labels,
            num_mutants,
            protocol.min_accuracy_ratio,
            exclude,
            **run.how,
        )

    kappa, exclude = None, trained(operator, protocol, mutate)
    if operator not in LAYER_OPERATORS:
        validation = found("validation", testing.num_validation_mutants, exclude)
        exclude = (*exclude, *validation.digests)
        if validation.num_mutants:
            decisions = engine.predictions(classifier.apply, variables, images)
            votes = population.votes(classifier, validation, images, **run.how)
            kappa = kappa_of(votes, decisions, decisions == np.asarray(labels))
    return Tested(operator, protocol, found("test", testing.num_mutants, exclude), kappa)
