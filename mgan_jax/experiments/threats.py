"""The threat model loosened: mutants of other rates and of other networks, and detectors that adapt to MGAN."""

import copy
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from mgan_jax import engine, metrics, population
from mgan_jax.detectors.class_conditional import class_ranks
from mgan_jax.detectors.soft_label_change_rate import divergence
from mgan_jax.experiments import populations
from mgan_jax.experiments.crafting import WEIGHT_OPERATORS
from mgan_jax.experiments.data import validation_images
from mgan_jax.experiments.measuring import measure
from mgan_jax.experiments.stages import rows as stage_rows
from mgan_jax.experiments.testing import RESAMPLES, auroc_of, mutant_fields
from mgan_jax.experiments.training import Run, build_mutation, train_target
from mgan_jax.mutation.mixture import mixture
from mgan_jax.success import fooled
from mgan_jax.types import Classifier, Split, Variables

Made = dict[tuple[str, str | None], np.ndarray]


def varied(run: Run, name: str, folder: str = "threats", **changes: Any) -> Run:
    """The run with another configuration, tested by weight and neuron operators.

    Args:
      run: the seed.
      name: of the run's own folder, within `folder` within the seed's.
      folder: of all such runs.
      **changes: sections that replace the configuration's.
    """
    config = copy.deepcopy(run.config).unlock()
    for field, value in changes.items():
        config[field] = ConfigDict(value)
    config.testing.operators = [operator for operator in run.config.testing.operators if operator in WEIGHT_OPERATORS]
    return run._replace(config=config, path=run.path / folder / name)


def changed_rates(
    run: Run, classifier: Classifier, variables: Variables, test: Split, made: Made, used: populations.Streams
) -> tuple[list[dict], populations.Streams]:
    """Rows of unfiltered mutants of rates that the attacker did not train on, those of `config.threats.rates`."""
    found = []
    for rate in run.config.threats.rates:
        other = varied(run, f"rate {rate:g}", protocols={"unfiltered": {"rate": rate, "min_accuracy_ratio": 0.0}})
        rows, _, used = measure(other, classifier, variables, test, made, False, populations.Streams(used.every))
        found += [{"threat": f"rate {rate:g}", **row} for row in rows if row.get("operator")]
    return found, used


def changed_targets(run: Run, test: Split, made: Made, used: populations.Streams) -> tuple[list[dict], populations.Streams]:
    """Rows of the same images shown to other networks: of another seed, of another architecture.

    The detector defends a network that the attacker does not have: its decisions, its mutants. A row's misclassification is
    the share that transfers.
    """
    found = []
    for name, changes in run.config.threats.targets.items():
        other = varied(run, name, target={**run.config.target.to_dict(), **changes})._replace(seed=run.seed + 1)
        classifier, variables, _ = train_target(other)
        rows, _, used = measure(other, classifier, variables, test, made, False, populations.Streams(used.every))
        found += [{"threat": f"target {name}", **row, "seed": run.seed} for row in rows if row.get("operator")]
    return found, used


@partial(jax.jit, static_argnames="apply_fn")
def _changes(apply_fn, variables, mutants, images):
    logits = apply_fn(variables, images)
    flips = lambda mutant: engine.decide(mutant) != engine.decide(logits)  # noqa: E731
    return engine.evaluate(apply_fn, mutants, images, lambda mutant: (flips(mutant), divergence(logits, mutant)))


def changes(classifier: Classifier, variables: Variables, mutants: Variables, images: np.ndarray) -> dict[str, np.ndarray]:
    """What each mutant makes of each image, [M, N]: whether the label changes, and the divergence of the softmaxes."""
    parts, size = [], min(500, len(images))
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size) % len(images)
        both = _changes(classifier.apply, variables, mutants, images[rows])
        parts.append([np.asarray(part)[:, : len(images) - start] for part in both])
    flips, divergences = (np.concatenate(part, axis=1) for part in zip(*parts, strict=True))
    return {"label_change_rate": flips, "soft_label_change_rate": divergences}


def adapting_detectors(
    run: Run,
    classifier: Classifier,
    variables: Variables,
    test: Split,
    made: Made,
    found: population.Population,
    images: np.ndarray,
) -> list[dict]:
    """Rows of detectors that answer to MGAN: mixed operators, softmaxes instead of labels, a threshold for each class.

    The population `found` mixes the weight and neuron operators under the qualified protocol. Each score is taken as it is, as
    its rank among the clean validation `images` of the predicted class, and as that rank's distance from the middle.
    """
    protocol = run.config.protocols.qualified
    if not found.num_mutants:
        return []
    decide = lambda x: engine.predictions(classifier.apply, variables, x)  # noqa: E731
    changed = lambda x: changes(classifier, variables, found.variables, x)  # noqa: E731
    validation_decisions, clean_decisions = decide(images), decide(test.images)
    validation, clean = changed(images), changed(test.images)
    facts = {
        "operator": "mixed",
        "protocol": "qualified",
        "rate": protocol.rate,
        "min_accuracy_ratio": protocol.min_accuracy_ratio,
        **mutant_fields(found),
    }
    rows = []
    for (name, trained_on), adversarial in made.items():
        decisions, attacked = decide(adversarial), changed(adversarial)
        chosen = fooled(test.labels, clean_decisions == test.labels, decisions)
        for detector, moved in attacked.items():
            pair = [moved[:, chosen], clean[detector][:, chosen]]
            reference = jnp.asarray(validation[detector].mean(0)), jnp.asarray(validation_decisions)
            ranks = [
                np.asarray(class_ranks(jnp.asarray(m.mean(0)), jnp.asarray(d[chosen]), *reference))
                for m, d in zip(pair, (decisions, clean_decisions), strict=True)
            ]
            forms = {
                "": [matrix.mean(0) for matrix in pair],
                ", per class": ranks,
                ", per class, two-sided": [np.abs(2 * rank - 1) for rank in ranks],
            }
            for form, scores in forms.items():
                interval = metrics.two_way_bootstrap(pair, auroc_of, RESAMPLES, 0.95, run.seed) if not form else None
                rows.append({
                    "threat": f"detector {detector}{form}", "attack": name, "trained_on": trained_on, "seed": run.seed,
                    **facts, "num_adversarial": int(chosen.sum()), "auroc": metrics.auroc(*scores), "auroc_ci95": interval,
                    "tpr_at_5fpr": metrics.true_positive_rate(*scores),
                    "tpr_at_5fpr_low": metrics.true_positive_rate(*(-score for score in scores)),
                })  # fmt: skip
    return rows


def threat_rows(
    run: Run, classifier: Classifier, variables: Variables, test: Split, made: Made, used: populations.Streams
) -> tuple[list[dict], populations.Streams]:
    """Rows of everything `config.threats` names, each with its `threat`; none where the config has no threats.

    Args:
      run, classifier, variables: the seed and the target.
      test: clean images and their labels.
      made: {(attack, trained_on): adversarial images}; those of `config.threats.attacks` are tested.
      used: mutants that are used already.

    Returns:
      The rows; `used` with their mutants.
    """
    if "threats" not in run.config:
        return [], used
    made = {key: images for key, images in made.items() if key[0] in run.config.threats.attacks and key[1] in (None, "all")}
    protocol = run.config.protocols.qualified
    mutate = mixture([build_mutation(run.config, operator, protocol.rate) for operator in WEIGHT_OPERATORS])
    number = run.config.testing.num_mutants
    found, used = populations.sampled(run, "adapting", classifier, variables, mutate, protocol.to_dict(), number, used)
    adapt = lambda run, validation, **_: adapting_detectors(run, classifier, variables, test, made, found, validation)  # noqa: E731
    inputs = {"variables": variables, **test._asdict(), "made": {" ".join(map(str, key)): made[key] for key in made},
              "validation": validation_images(run).images, "mutants": found.key_data, "tried": found.tried}  # fmt: skip
    adapting = stage_rows(run, "adapting", adapt, inputs, ("mutation", "protocols.qualified"))
    rates, used = changed_rates(run, classifier, variables, test, made, used)
    targets, used = changed_targets(run, test, made, used)
    return rates + targets + adapting, used
