"""Success and label change rate against epsilon."""

from typing import Any

import numpy as np

from mgan_jax import engine, population
from mgan_jax.experiments import populations
from mgan_jax.experiments.crafting import WEIGHT_OPERATORS, generator_sections, perturbed
from mgan_jax.experiments.stages import rows as stage_rows
from mgan_jax.experiments.training import Run, build_mutation
from mgan_jax.mutation.mixture import mixture
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
      Rows with attack, trained_on, epsilon, misclassification, success_rate, lcr, normal_lcr, num_images, num_mutants; and `used`
      with their mutants.
    """
    rate = max(protocol.rate for protocol in run.config.protocols.values())
    mutate = mixture([build_mutation(run.config, operator, rate) for operator in WEIGHT_OPERATORS])
    how, number = {"rate": rate, "min_accuracy_ratio": 0.0}, run.config.testing.num_validation_mutants
    found, used = populations.sampled(run, "epsilon", classifier, variables, mutate, how, number, used)
    some = Split(*(array[:NUM_IMAGES] for array in test))

    def make(run: Run, variables: Variables, images: np.ndarray, labels: np.ndarray, **_) -> list[dict]:
        decide = lambda x: engine.predictions(classifier.apply, variables, x)  # noqa: E731
        flips = lambda x, decisions: population.votes(classifier, found, x, **run.how) != decisions  # noqa: E731
        clean = decide(images)
        normal = flips(images, clean)
        rows = []
        for (name, trained_on), (attack, state) in generators.items():
            for share in run.config.testing.epsilon_shares:
                adversarial = perturbed(attack, state, images, share)
                decisions = decide(adversarial)
                chosen = (clean == labels) & (decisions != labels)
                measured = chosen.any() and found.num_mutants > 0
                rows.append({
                    "attack": name if trained_on in (None, "all") else f"{name} {trained_on}",
                    "trained_on": trained_on,
                    "epsilon": float(share * run.config.epsilon),
                    "misclassification": float((decisions != labels).mean()),
                    "success_rate": float(chosen.sum() / max((clean == labels).sum(), 1)),
                    "lcr": float(flips(adversarial, decisions)[:, chosen].mean()) if measured else None,
                    "normal_lcr": float(normal[:, chosen].mean()) if measured else None,
                    "num_images": len(labels),
                    "num_mutants": found.num_mutants,
                })  # fmt: skip
        return rows

    states = {" ".join(map(str, key)): state["generator"] for key, (_, state) in generators.items()}
    inputs = {"variables": variables, **some._asdict(), "generators": states, "mutants": found.key_data}
    sections = ["epsilon", "mutation", "testing.epsilon_shares"]
    for name, _ in generators:
        sections += generator_sections("mgan" if name == "mgan" else "advgan", name)
    return stage_rows(run, "epsilon", make, inputs, sections), used
