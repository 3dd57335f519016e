"""Mutation testing of all attacks of a run: the rows of its tables."""

from typing import Any

import numpy as np

from mgan_jax import metrics, mutation, population
from mgan_jax.experiments import populations, testing
from mgan_jax.experiments.aims import aims, section
from mgan_jax.experiments.stages import stage
from mgan_jax.experiments.training import Run
from mgan_jax.success import fooled
from mgan_jax.types import Split, Variables


def measure(
    run: Run,
    classifier: Any,
    variables: Variables,
    test: Split,
    made: dict[tuple[str, str | None], np.ndarray],
    judged: bool = True,
    used: populations.Streams = populations.NOTHING_USED,
) -> tuple[list[dict], dict[str, dict[str, np.ndarray]], populations.Streams]:
    """All rows: one a (attack, operator, protocol), and one an attack for what needs no mutants.

    Args:
      run, classifier, variables: the seed and the target.
      test: clean images and their labels.
      made: {(attack, trained_on): adversarial images}.
      judged: whether nearest neighbours among the training images are asked what they see.
      used: mutants that are used already, which no row is about.

    Returns:
      (rows, label change rates as `report.material.Material.lcr`, `used` with the rows' mutants).
    """
    from sklearn.neighbors import KNeighborsClassifier

    clean = testing.subject(classifier.apply, variables, test.images)
    subjects = {key: testing.subject(classifier.apply, variables, images) for key, images in made.items()}
    train = run.dataset.train
    judge = KNeighborsClassifier(3).fit(train.images.reshape(len(train.images), -1), train.labels) if judged else None

    common = {"seed": run.seed, "epsilon": run.config.epsilon, "norm": "linf"}
    attacks = {}
    for (name, trained_on), subject in subjects.items():
        targets = aims(run, section(run.config, name), name, test.labels)
        row = testing.attack_row(test.labels, clean, subject, run.dataset.num_classes, targets)
        flipped = fooled(test.labels, clean.decisions == test.labels, subject.decisions)
        if judge is not None:
            same = np.zeros(len(flipped), bool)
            if flipped.any():
                same[flipped] = judge.predict(subject.images[flipped].reshape(flipped.sum(), -1)) == test.labels[flipped]
            row |= metrics.named("judge_original_class", same, flipped, "num_adversarial")
        attacks[name, trained_on] = {"attack": name, "trained_on": trained_on, **common, **row}
    clean_row = testing.attack_row(test.labels, clean, clean, run.dataset.num_classes)
    rows = [
        {
            "attack": "clean",
            "seed": run.seed,
            **{k: clean_row[k] for k in ("num_images", "misclassification", "misclassification_ci95")},
        }
    ]
    rows += list(attacks.values())

    protocols = [testing.Protocol(name, p.rate, p.min_accuracy_ratio) for name, p in run.config.protocols.items()]
    protocols.sort(key=lambda protocol: protocol.min_accuracy_ratio)
    pairs = [(operator, protocol) for protocol in protocols for operator in run.config.testing.operators]
    update = run.start("mutation testing", len(pairs), "populations")
    rates = {}
    for done, (operator, protocol) in enumerate(pairs, 1):
        tested, used = populations.draw(run, classifier, variables, operator, protocol, used)
        make = lambda run, tested=tested, **_: test_population(run, classifier, test, clean, subjects, tested)  # noqa: E731
        inputs = {
            **populations.inputs_of(tested, variables),
            **test._asdict(),
            "made": {" ".join(map(str, key)): made[key] for key in made},
        }
        stored = stage(run, f"testing_{operator}_{protocol.name}", make, inputs, ("mutation",))
        arguments = run.config.mutation.get(mutation.OPERATORS[operator], {})
        neurons = {name: arguments[name] for name in ("per_layer", "include_output") if name in arguments}
        rows += [{**attacks[tuple(row["key"])], **neurons, **row["row"]} for row in stored.numbers["rows"]]
        rates[f"{operator} {protocol.name} {protocol.rate:g}"] = stored.arrays
        update(done)
    return rows, rates, used


def test_population(run, classifier, test, clean, subjects, tested):
    """Rows and label change rates of all attacks under the mutants of one operator and protocol."""
    operator, protocol = tested.operator, tested.protocol
    clean_votes = population.votes(classifier, tested.found, clean.images, **run.how)
    facts = {
        "operator": operator,
        "protocol": protocol.name,
        "rate": protocol.rate,
        "min_accuracy_ratio": protocol.min_accuracy_ratio,
        **testing.mutant_fields(tested.found),
        "kappa": tested.kappa,
    }
    rows, arrays, flips = [], {}, {}
    correct = clean.decisions == test.labels
    normal = clean_votes != clean.decisions
    if tested.found.num_mutants:
        arrays["normal"] = normal.mean(0)[correct].astype(np.float32)
    for key, subject in subjects.items():
        votes = population.votes(classifier, tested.found, subject.images, **run.how)
        row = testing.testing_row(test.labels, clean, subject, clean_votes, votes, tested.kappa, run.seed)
        rows.append({"key": list(key), "row": {**facts, **row}})
        flipped = fooled(test.labels, correct, subject.decisions)
        flips[key] = (votes != subject.decisions, flipped)
        if tested.found.num_mutants:
            label = key[0] if key[1] in (None, "all") else f"{key[0]} {key[1]}"
            both = [flips[key][0].mean(0)[flipped], normal.mean(0)[flipped]]
            arrays[label] = np.asarray(both, np.float32)
    mgan = next((key for key in (("mgan", operator), ("mgan", "all")) if key in flips), None)
    for row in rows if mgan else ():
        key = tuple(row["key"])
        if key[0] != "mgan":
            row["row"] |= testing.beside_mgan(flips[mgan], flips[key], run.seed)
    return arrays, {"rows": rows}
