"""What networks learned, in pictures, each beside what an attack does to it."""

import time
from typing import Any

import numpy as np

from mgan_jax import engine
from mgan_jax.build import build
from mgan_jax.datasets.split import classes_of
from mgan_jax.experiments import picturing, sanity
from mgan_jax.experiments.attacking import attacked
from mgan_jax.experiments.attacks import check_attack, tried
from mgan_jax.experiments.data import correct_images, test_images
from mgan_jax.experiments.networks import check_networks, train_networks
from mgan_jax.experiments.options import Options, provenance
from mgan_jax.experiments.seeds import each_seed
from mgan_jax.experiments.training import Run
from mgan_jax.metrics import named
from mgan_jax.models.classifier import first_weights
from mgan_jax.report.learned import Pictured
from mgan_jax.report.visualize import print_visualize, write_visualize
from mgan_jax.saliency import smooth_grad
from mgan_jax.types import Dataset

SMOOTH_GRAD = ("num_samples", "noise_level")


def check(config: Any, dataset: Dataset) -> None:
    """Builds everything that the config names and runs nothing.

    Raises:
      ValueError: a mistake in it.
    """
    networks = check_networks(config, dataset)
    if len(config.attacks) != 1:
        raise ValueError(f"config.attacks names {len(config.attacks)} attacks ({', '.join(config.attacks)}); choose one")
    for name, count in config.shown.items():
        if not 1 <= count <= config.testing.num_images:
            raise ValueError(
                f"config.shown.{name} is {count}; choose it from 1 to {config.testing.num_images}, the images there are"
            )
    correct_images(dataset.test, dataset.test.labels, config.testing.num_images, classes_of(dataset))
    for classifier in networks.values():
        for name in config.attacks:
            check_attack(config, name, classifier, dataset)
        build("attacks", "fooling", apply_fn=classifier.apply, **config.fooling)
        unknown = [name for name in config.smooth_grad if name not in SMOOTH_GRAD]
        if unknown:
            raise ValueError(f"config.smooth_grad has {unknown[0]!r}; choose from {', '.join(SMOOTH_GRAD)}")
        smooth_grad(classifier.apply, **config.smooth_grad)


def pictured(run: Run, name: str, network: tuple) -> tuple[Pictured, dict]:
    """What is shown of a network, and its row; finished parts are read.

    Args:
      run: the seed.
      name: of the network.
      network: as in `networks.Networks`.
    """
    (own, classifier, variables), (attack,) = network, run.config.attacks
    decisions = engine.predictions(classifier.apply, variables, run.dataset.test.images)
    test = correct_images(run.dataset.test, decisions, run.config.testing.num_images, classes_of(run.dataset))
    made = attacked(own, attack, classifier, variables, test)
    subject = picturing.Subject(own, classifier, variables, attack, test, made)
    layers = picturing.activation_stage(subject)
    maps = picturing.saliency_stage(subject)
    fooling = picturing.fooling_stage(subject)
    asked = run.config.fooling.confidence
    sure = {start: sum(value >= asked for value in of["confidences"]) for start, of in fooling.numbers.items()}
    row = {
        "network": name, "model": own.config.target.name, "seed": own.seed,
        **named("test_accuracy", decisions == run.dataset.test.labels, np.ones(len(decisions), bool), "num_test_images"),
        "attack": attack, **named("success_rate", made.success, tried(run.config.attacks[attack], test.labels), "num_images"),
        "changes": layers.numbers["changes"], "fooling": fooling.numbers, "sure": sure,
    }  # fmt: skip
    pairs = {"clean": test.images, "adversarial": made.images}
    answers = {kind: engine.probabilities(classifier.apply, variables, images) for kind, images in pairs.items()}
    weights = np.asarray(first_weights(classifier, variables, run.dataset.image_shape))
    return Pictured(name, weights, pairs, answers, layers.arrays, maps.arrays, fooling.arrays), row


def run_seed(run: Run) -> tuple[dict, list[Pictured], tuple[str, ...]]:
    """One seed: results, what is shown, and the classes' names."""
    began, dataset = time.monotonic(), run.dataset
    networks = train_networks(run)
    update, shown, rows = run.start("pictures", len(networks), "networks"), [], []
    for done, (name, network) in enumerate(networks.items(), 1):
        one, row = pictured(run, name, network)
        shown.append(one)
        rows.append(row)
        update(done)
    results = {
        "rows": rows,
        "sanity": sanity.of_images(
            [network for _, *network in networks.values()],
            test_images(dataset, run.config.testing.num_images),
            [images for one in shown for images in one.images.values()],
        ),
        **provenance(run, time.monotonic() - began),
    }
    return results, shown, dataset.class_names


def run(config: Any, options: Options) -> list[dict]:
    """Runs the experiment for each seed; options as in `experiments.options`.

    Returns:
      The results of each seed, as its results.json holds them.
    """
    return each_seed(config, options, check, run_seed, write_visualize, print_visualize)
