"""Success and label change rate against epsilon."""

from typing import Any

import numpy as np

from mgan_jax import engine, metrics, population
from mgan_jax.experiments import populations
from mgan_jax.experiments.aims import aims, section
from mgan_jax.experiments.crafting import WEIGHT_OPERATORS, generator_sections, perturbed
from mgan_jax.experiments.stages import rows as stage_rows
from mgan_jax.experiments.testing import RESAMPLES, mutant_fields
from mgan_jax.experiments.training import Run, build_mutation
from mgan_jax.mutation.mixture import mixture
from mgan_jax.success import fooled, tried
from mgan_jax.types import Split, Variables

NUM_IMAGES = 500


def epsilon_rows(
    run: Run, classifier: Any, variables: Variables, test: Split, generators: dict, used: populations.Streams
) -> tuple[list[dict], populations.Streams]:
    """Generators whose perturbation is scaled to shares of epsilon, under one population of mixed operators.

    Args:
      run, classifier, variables: the seed and the target.
      test: clean images; the first 500 are used.
      generators: {(attack, trained_on): (attack, state)}.
      used: mutants that are used already.

    Returns:
      Rows as `report.results` says; `used` with their mutants.
    """
    rate = max(protocol.rate for protocol in run.config.protocols.values())
    mutate = mixture([build_mutation(run.config, operator, rate) for operator in WEIGHT_OPERATORS])
    how, number = {"rate": rate, "min_accuracy_ratio": 0.0}, run.config.testing.num_validation_mutants
    found, used = populations.sampled(run, "epsilon", classifier, variables, mutate, how, number, used)
    some = Split(*(array[:NUM_IMAGES] for array in test))

    attacks = {key: attack for key, (attack, _) in generators.items()}
    label = lambda key: " ".join(map(str, key))  # noqa: E731

    def make(
        run: Run, variables: Variables, images: np.ndarray, labels: np.ndarray, generators: dict[str, Any], **_
    ) -> list[dict]:
        decide = lambda x: engine.predictions(classifier.apply, variables, x)  # noqa: E731
        flips = lambda x, decisions: population.votes(classifier, found, x, **run.how) != decisions  # noqa: E731
        interval = lambda matrix: metrics.two_way_bootstrap([matrix], lambda r: r[0].mean(), RESAMPLES, 0.99, run.seed)  # noqa: E731
        clean = decide(images)
        normal, correct, whole = flips(images, clean), clean == labels, np.ones(len(labels), bool)
        rows = []
        for (name, trained_on), attack in attacks.items():
            state = {"generator": generators[label((name, trained_on))]}
            targets = aims(run, section(run.config, name), name, labels)
            for share in run.config.testing.epsilon_shares:
                adversarial = perturbed(attack, state, images, share)
                decisions = decide(adversarial)
                chosen, reached = (fooled(labels, correct, decisions, of) for of in (None, targets))
                moved, measured = flips(adversarial, decisions)[:, chosen], chosen.any() and found.num_mutants > 0
                rows.append({
                    "attack": name if trained_on in (None, "all") else f"{name} {trained_on}",
                    "trained_on": trained_on,
                    "epsilon": float(share * run.config.epsilon),
                    **metrics.named("misclassification", decisions != labels, whole, "num_images"),
                    "targeted": targets is not None,
                    **metrics.named("success_rate", reached, tried(labels, correct, targets), "num_clean_correct"),
                    "num_adversarial": int(chosen.sum()),
                    "lcr": float(moved.mean()) if measured else None,
                    "lcr_ci99": interval(moved),
                    "normal_lcr": float(normal[:, chosen].mean()) if measured else None,
                    "normal_lcr_ci99": interval(normal[:, chosen]),
                    **mutant_fields(found),
                })  # fmt: skip
        return rows

    states = {label(key): state["generator"] for key, (_, state) in generators.items()}
    inputs = {"variables": variables, **some._asdict(), "generators": states, "mutants": found.key_data}
    sections = ["epsilon", "mutation", "testing.epsilon_shares"]
    for name, _ in generators:
        sections += generator_sections("mgan" if name == "mgan" else "advgan", name)
    return stage_rows(run, "epsilon", make, inputs, sections), used
