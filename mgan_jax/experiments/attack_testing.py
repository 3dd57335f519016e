"""Mutation testing of the attacks of a comparison, each for itself, so that rows come and go without one another."""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np

from mgan_jax import mutation, population
from mgan_jax.experiments import testing
from mgan_jax.experiments.aims import aims, section
from mgan_jax.experiments.attacking import Attacked
from mgan_jax.experiments.populations import Streams, Tested, draw, inputs_of
from mgan_jax.experiments.stages import stage
from mgan_jax.experiments.training import Run
from mgan_jax.types import Classifier, Split, Variables


def attack_rows(run: Run, classifier: Classifier, variables: Variables, test: Split, made: dict[str, Attacked]) -> dict:
    """{attack: what its row says of it without mutants}, as `testing.attack_row`."""
    clean = testing.subject(classifier.apply, variables, test.images)
    subjects = {name: testing.subject(classifier.apply, variables, one.images) for name, one in made.items()}
    targets = {name: aims(run, section(run.config, name), name, test.labels) for name in made}
    row = lambda name: testing.attack_row(test.labels, clean, subjects[name], run.dataset.num_classes, targets[name])  # noqa: E731
    return {name: row(name) for name in made}


def tested_rows(
    run: Run,
    classifier: Classifier,
    variables: Variables,
    test: Split,
    made: dict[str, Attacked],
    update: Callable[..., None],
    used: Streams,
) -> tuple[list[dict], Streams]:
    """Rows of every attack under the evaluation mutants of each operator and protocol of the config.

    Mutants that MGAN is trained on are left out whether or not MGAN is among the rows: they are the same for every attack.

    Args:
      run, classifier, variables: the seed and the target.
      test: the images, clean.
      made: {attack: what it made of them}.
      update: is told how many rows are done.
      used: mutants that are used already.

    Returns:
      The rows; `used` with their mutants.
    """
    clean = testing.subject(classifier.apply, variables, test.images)
    protocols = [testing.Protocol(name, p.rate, p.min_accuracy_ratio) for name, p in run.config.protocols.items()]
    rows = []
    for protocol in protocols:
        for operator in run.config.testing.operators:
            tested, used = draw(run, classifier, variables, operator, protocol, used)

            @cache
            def clean_votes(tested: Tested = tested) -> Any:
                return population.votes(classifier, tested.found, clean.images, **run.how)

            for name, one in made.items():

                def make(
                    run: Run,
                    variables: Variables,
                    made: np.ndarray,
                    tested: Tested = tested,
                    votes: Callable = clean_votes,
                    **_,
                ) -> tuple[dict, dict]:
                    return {}, {"row": tested_row(run, classifier, variables, test, clean, made, tested, votes())}

                inputs = {**inputs_of(tested, variables), **test._asdict(), "made": one.images}
                stored = stage(run, f"testing_{operator}_{protocol.name}_{name}", make, inputs, ("mutation",))
                rows.append({"attack": name, **stored.numbers["row"]})
                update(len(rows))
    return rows, used


def tested_row(
    run: Run,
    classifier: Classifier,
    variables: Variables,
    test: Split,
    clean: testing.Subject,
    made: np.ndarray,
    tested: Tested,
    clean_votes: Any,
) -> dict[str, Any]:
    """What one population sees of one attack's images."""
    subject = testing.subject(classifier.apply, variables, made)
    votes = population.votes(classifier, tested.found, subject.images, **run.how)
    arguments = run.config.mutation.get(mutation.OPERATORS[tested.operator], {})
    return {
        "operator": tested.operator,
        "protocol": tested.protocol.name,
        "rate": tested.protocol.rate,
        "min_accuracy_ratio": tested.protocol.min_accuracy_ratio,
        **testing.mutant_fields(tested.found),
        "kappa": tested.kappa,
        **{name: arguments[name] for name in ("per_layer", "include_output") if name in arguments},
        **testing.testing_row(test.labels, clean, subject, clean_votes, votes, tested.kappa, run.seed),
    }
