"""Images that mislead by themselves: noise that networks are sure of, and pictures read as two classes at once."""

import time
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy.special import softmax

from mgan_jax import engine
from mgan_jax.attacks.fooling import noise, shares
from mgan_jax.experiments import sanity
from mgan_jax.experiments.attacking import build_attack, in_batches
from mgan_jax.experiments.data import test_images
from mgan_jax.experiments.networks import check_networks, train_networks
from mgan_jax.experiments.options import Options, provenance
from mgan_jax.experiments.seeds import each_seed
from mgan_jax.experiments.stages import stage
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.sweeps import changed
from mgan_jax.experiments.training import Run
from mgan_jax.metrics import named, wilson
from mgan_jax.report.fooling import print_fooling, write_fooling
from mgan_jax.types import Classifier, Dataset, Split, Variables

BATCH = 500


class Pictured(NamedTuple):
    """What the page shows of a seed.

    Attributes:
      fooling: {network: [num_classes, H, W, C] an iterated fooling image of each class at the highest confidence}.
      picture: [H, W, C], the quadratic cost's x_target.
      quadratic: [goals, lambdas, H, W, C] its results, the surest of all starts.
      noise_read: [H, W, C] noise read as a class, lambda 0.
      quadratic_rows: what the seed's results say of these, one a goal and lambda.
    """

    fooling: dict[str, np.ndarray]
    picture: np.ndarray
    quadratic: np.ndarray
    noise_read: np.ndarray
    quadratic_rows: list[dict]


def check(config: Any, dataset: Dataset) -> None:
    """Builds everything that the config names and runs nothing.

    Raises:
      ValueError: a mistake in it.
    """
    networks = check_networks(config, dataset)
    quadratic, classes = config.quadratic, range(dataset.num_classes)
    if quadratic.network not in networks:
        raise ValueError(f"config.quadratic.network is {quadratic.network!r}; choose from {', '.join(networks)}")
    for name, values in (("picture", [quadratic.picture]), ("goals", quadratic.goals), ("noise_goal", [quadratic.noise_goal])):
        wrong = [value for value in values if value not in classes or (name == "goals" and value == quadratic.picture)]
        if wrong or not values:
            raise ValueError(f"config.quadratic.{name} is {quadratic[name]}; choose classes from 0 to {classes[-1]}, no goal the "
                             "picture's own")  # fmt: skip
    if not config.confidences or not quadratic.distance_weights or min(quadratic.distance_weights) <= 0:
        raise ValueError(
            f"config.confidences is {tuple(config.confidences)}, config.quadratic.distance_weights "
            f"{tuple(quadratic.distance_weights)}; choose at least one of each, weights above 0"
        )
    if config.noise.num_images < 1 or quadratic.num_starts < 1:
        counts = f"config.noise.num_images is {config.noise.num_images}, config.quadratic.num_starts {quadratic.num_starts}"
        raise ValueError(f"{counts}; choose at least 1")
    for classifier in networks.values():
        build_attack(config.one_step, "one_step", classifier, dataset)
        for confidence in config.confidences:
            build_attack(changed(config.iterated, confidence=confidence), "iterated", classifier, dataset)
    build_attack(weighted(config), "quadratic", networks[quadratic.network], dataset)


def weighted(config: Any) -> Any:
    """The quadratic attack's settings with its lambdas, 0 the last: noise read as a class."""
    return changed(config.quadratic, distance_weight=(*config.quadratic.distance_weights, 0.0))


def fooling_images(run: Run, name: str, classifier: Classifier, variables: Variables) -> tuple[list[dict], np.ndarray]:
    """Rows of one network, one a form, confidence and class, and an image of each class at the last confidence.

    Every class is aimed at from as many draws of noise; forms share the draws. The form "no step" is the noise itself. An image
    that is sure enough already is not stepped, and of the start and the step the surer counts.
    """
    config, shape = run.config, run.dataset.image_shape
    classes = np.repeat(np.arange(run.dataset.num_classes, dtype=np.int32), config.noise.num_images)
    key = stream_key(run.seed, "noise", name)
    start = np.asarray(noise(key, (len(classes), *shape), config.noise.mean, config.noise.std))
    before = engine.logits(classifier.apply, variables, start)
    forms = [("one step", config.one_step.arguments.confidence, config.one_step)]
    forms += [("iterated", confidence, changed(config.iterated, confidence=confidence)) for confidence in config.confidences]
    split = Split(start, np.asarray(engine.decide(before)))
    found = [("no step", config.one_step.arguments.confidence, before, np.zeros(len(classes)))]
    for form, confidence, settings in forms:
        attack = build_attack(settings, form, classifier, run.dataset)
        result, _, _ = in_batches(attack, stream_key(run.seed, form), variables, split, classes, BATCH)
        found.append((form, confidence, result.logits, result.used))
        last = result.adversarial
    rows = []
    for form, confidence, logits, used in found:
        reached, hardest = shares(logits, classes, confidence)
        for label, share in enumerate(np.asarray(reached)):
            count = round(float(share) * config.noise.num_images)
            rows.append({
                "network": name, "form": form, "confidence": float(confidence), "class": label, "share": float(share),
                "share_ci95": wilson(count, config.noise.num_images), "num_images": config.noise.num_images,
                "hardest": label == int(hardest), "steps": float(used[classes == label].mean()),
            })  # fmt: skip
    return rows, last.reshape(run.dataset.num_classes, config.noise.num_images, *shape)[:, 0]


def quadratic_pictures(run: Run, classifier: Classifier, variables: Variables) -> tuple[list[dict], dict[str, np.ndarray]]:
    """Rows of the quadratic cost, one a goal and lambda, and the images; of all starts the surest counts."""
    config, test = run.config.quadratic, run.dataset.test
    decisions = engine.predictions(classifier.apply, variables, test.images)
    own = np.flatnonzero((test.labels == config.picture) & (decisions == config.picture))
    if not len(own):
        raise ValueError(f"{config.network} classifies no test image of class {config.picture} correctly; choose another picture")
    goals = np.array([*config.goals, config.noise_goal], np.int32)
    targets, place = np.repeat(goals, config.num_starts), own[0]
    images = np.repeat(test.images[place : place + 1], len(targets), axis=0)
    attack = build_attack(weighted(run.config), "quadratic", classifier, run.dataset)
    key = stream_key(run.seed, "quadratic")
    result = jax.jit(attack)(key, variables, images, np.full_like(targets, config.picture), targets)
    weights = np.array([*config.distance_weights, 0.0])
    sure = softmax(np.asarray(result.logits), -1)[np.arange(len(weights))[:, None], np.arange(len(targets)), targets]
    best = sure.reshape(len(weights), len(goals), -1).argmax(-1) + np.arange(len(goals)) * config.num_starts
    rows, made = [], np.zeros((len(goals), len(weights), *run.dataset.image_shape), np.float32)
    for g, goal in enumerate(goals):
        for k, weight in enumerate(weights):
            i = best[k, g]
            made[g, k] = result.adversarial[k, i]
            if (g == len(goals) - 1) == (weight == 0):
                rows.append({
                    "goal": int(goal), "distance_weight": float(weight), "confidence": float(sure[k, i]),
                    "l2": float(result.l2[k, i]), "reached": bool(sure[k, i] >= config.confidence),
                    "num_starts": config.num_starts, "noise": bool(weight == 0),
                })  # fmt: skip
    return rows, {"picture": test.images[place], "quadratic": made[:-1, :-1], "noise_read": made[-1, -1]}


def run_seed(run: Run) -> tuple[dict, Pictured, tuple[str, ...]]:
    """One seed: results, what is shown, and the classes' names; every part that is finished is read, not run again."""
    began = time.monotonic()
    networks = train_networks(run)
    update, rows, shown = run.start("fooling images", len(networks), "networks"), [], {}
    for done, (name, (own, classifier, variables)) in enumerate(networks.items(), 1):

        def make(run: Run, variables: Variables, name=name, classifier=classifier) -> tuple[dict, dict]:
            found, images = fooling_images(run, name, classifier, variables)
            return {"images": images}, {"rows": found}

        drawn = own._replace(path=run.path, seed=run.seed)
        stored = stage(drawn, f"fooling_{name}", make, {"variables": variables}, ("noise", "one_step", "iterated", "confidences"))
        rows += stored.numbers["rows"]
        shown[name] = stored.arrays["images"]
        update(done)
    own, classifier, variables = networks[run.config.quadratic.network]

    def make_quadratic(run: Run, variables: Variables) -> tuple[dict, dict]:
        found, arrays = quadratic_pictures(run, classifier, variables)
        return arrays, {"rows": found}

    stored = stage(
        own._replace(path=run.path, seed=run.seed), "quadratic", make_quadratic, {"variables": variables}, ("quadratic",)
    )
    right = {
        name: engine.predictions(network.apply, learned, run.dataset.test.images) == run.dataset.test.labels
        for name, (_, network, learned) in networks.items()
    }
    results = {
        "networks": [{"name": name, **named("accuracy", of, np.ones_like(of), "num_images")} for name, of in right.items()],
        "num_test_images": len(run.dataset.test.labels),
        "rows": rows,
        "quadratic_rows": stored.numbers["rows"],
        "sanity": sanity.of_images(
            [network for _, *network in networks.values()], test_images(run.dataset, None), shown.values()
        ),
        **provenance(run, time.monotonic() - began),
    }
    pictured = Pictured(shown, **stored.arrays, quadratic_rows=stored.numbers["rows"])
    return results, pictured, run.dataset.class_names


def run(config: Any, options: Options) -> list[dict]:
    """Runs the experiment for each seed; options as in `experiments.options`.

    Returns:
      The results of each seed, as its results.json holds them.
    """
    return each_seed(config, options, check, run_seed, write_fooling, print_fooling)
