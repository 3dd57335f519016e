"""What pictures of a network are made of: its activations, its saliency, and images of nothing that it is sure of."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import engine, saliency, workdir
from mgan_jax.build import build
from mgan_jax.experiments.attacking import Attacked
from mgan_jax.experiments.stages import stage
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run
from mgan_jax.models.classifier import activations
from mgan_jax.types import Classifier, Split, Variables

METHODS = ("gradient", "gradient_times_input", "smooth_grad")


class Subject(NamedTuple):
    """A trained network, and the images on which it is pictured, all of them classified correctly.

    Attributes:
      run, classifier, variables: the network with the run that it belongs to.
      attack: name of the attack.
      test: [N] clean images.
      made: what the attack made of them.
    """

    run: Run
    classifier: Classifier
    variables: Variables
    attack: str
    test: Split
    made: Attacked


def kept(subject: Subject, name: str, make: Callable[[Subject], tuple[dict, dict]], *sections: str) -> workdir.Stage:
    """The stage `name` of a network: what was kept, or what `make(subject)` gives, whose run has these sections alone."""

    def of(run: Run, variables: Variables, images: np.ndarray, labels: np.ndarray, adversarial: np.ndarray, success: np.ndarray):
        made = subject.made._replace(images=adversarial, success=success)
        return make(subject._replace(run=run, variables=variables, test=Split(images, labels), made=made))

    test, made = subject.test, subject.made
    inputs = {"variables": subject.variables, "images": test.images, "labels": test.labels, "adversarial": made.images,
              "success": made.success}  # fmt: skip
    return stage(subject.run, name, of, inputs, sections)


def chosen(subject: Subject, count: int) -> np.ndarray:
    """So many images, of different classes while there are any left, first of all those on which the attack succeeds."""
    labels, success = subject.test.labels, subject.made.success
    best = sorted(range(len(labels)), key=lambda i: (not success[i], i))
    rank = {i: sum(labels[j] == labels[i] for j in best[:place]) for place, i in enumerate(best)}
    picked = sorted(best, key=lambda i: (rank[i], not success[i], labels[i]))[:count]
    return np.asarray(sorted(picked, key=lambda i: labels[i]), np.int64)


def noise_of_the_same_size(run: Run, clean: np.ndarray, adversarial: np.ndarray) -> np.ndarray:
    """Each clean image plus or minus, at random in each value, the greatest change that the attack made to it, then clipped."""
    size = np.abs(adversarial - clean).max((1, 2, 3), keepdims=True)
    signs = jax.random.rademacher(stream_key(run.seed, "noise", "activations"), clean.shape, np.float32)
    return np.clip(clean + size * np.asarray(signs), 0, 1)


def layer_changes(subject: Subject) -> list[dict]:
    """How far each layer's activations move, relative to their length: under the attack, and under noise of the same size.

    Returns:
      Rows with layer and, as means over all images, `attack_change` and `noise_change`, ||a(x') - a(x)|| / ||a(x)||; the first
      layer is the image itself.
    """

    @jax.jit
    def lengths(images, others):
        before, after = ({"image": x, **activations(subject.classifier, subject.variables, x)} for x in (images, others))
        norm = lambda x: jnp.sqrt(jnp.square(x.reshape(len(x), -1)).sum(-1))  # noqa: E731
        return {name: norm(after[name] - before[name]) / jnp.maximum(norm(before[name]), 1e-12) for name in before}

    clean, adversarial = subject.test.images, subject.made.images
    moved = [lengths(clean, x) for x in (adversarial, noise_of_the_same_size(subject.run, clean, adversarial))]
    names = ["image", *(name for name, _ in subject.classifier.stages if name in moved[0])]
    return [
        {"layer": name, "attack_change": float(moved[0][name].mean()), "noise_change": float(moved[1][name].mean()),
         "num_images": len(clean)}
        for name in names
    ]  # fmt: skip


def activation_stage(subject: Subject) -> workdir.Stage:
    """Activations of some images: arrays `rows` [count], "clean LAYER" and "adversarial LAYER" [count, ...]; `changes`."""

    def make(subject: Subject) -> tuple[dict, dict]:
        rows, arrays = chosen(subject, subject.run.config.shown.activations), {}
        for kind, images in (("clean", subject.test.images), ("adversarial", subject.made.images)):
            found = jax.jit(partial(activations, subject.classifier))(subject.variables, images[rows])
            # In the order of the stages, which jit does not keep.
            names = [name for name, _ in subject.classifier.stages if name in found]
            arrays |= {f"{kind} {name}": np.asarray(found[name], np.float32) for name in names}
        return {"rows": rows, **arrays}, {"changes": layer_changes(subject)}

    return kept(subject, "activations", make, "shown.activations")


def saliency_stage(subject: Subject) -> workdir.Stage:
    """Saliency of the class that the network sees: arrays `rows` [count], "clean METHOD", "adversarial METHOD", [count, H, W, C].

    Of a clean image that is its own class, of an adversarial one that which it is taken for.
    """

    def make(subject: Subject) -> tuple[dict, dict]:
        config, apply_fn, arrays = subject.run.config, subject.classifier.apply, {}
        rows = chosen(subject, config.shown.saliency)
        factories = {name: getattr(saliency, name) for name in METHODS}
        factories["smooth_grad"] = partial(saliency.smooth_grad, **config.smooth_grad)
        for kind, images in (("clean", subject.test.images), ("adversarial", subject.made.images)):
            images = jnp.asarray(images[rows])
            labels = engine.predictions(apply_fn, subject.variables, images)
            for name, factory in factories.items():
                key = stream_key(subject.run.seed, "saliency", name)
                arrays[f"{kind} {name}"] = np.asarray(jax.jit(factory(apply_fn))(key, subject.variables, images, labels))
        return {"rows": rows, **arrays}, {}

    return kept(subject, "saliency", make, "shown.saliency", "smooth_grad")


def starts(run: Run) -> dict[str, np.ndarray]:
    """Images of nothing, one a class: {name: [num_classes, H, W, C]}."""
    shape = (run.dataset.num_classes, *run.dataset.image_shape)
    noise = jax.random.uniform(stream_key(run.seed, "noise", "fooling"), shape)
    return {"noise": np.asarray(noise), "black": np.zeros(shape, np.float32)}


def fooling_stage(subject: Subject) -> workdir.Stage:
    """Images of nothing, changed until the network is sure of a class: arrays "noise" and "black" [num_classes, H, W, C].

    Its numbers are {start: {confidences, before, used: [num_classes]}}: after and before, and the gradients that were taken.
    """
    aims, apply_fn = jnp.arange(subject.run.dataset.num_classes, dtype=jnp.int32), subject.classifier.apply

    @jax.jit
    def sure(variables, images):
        return jax.nn.softmax(apply_fn(variables, images))[aims, aims]

    def make(run: Run, variables: Variables) -> tuple[dict, dict]:
        attack, arrays, numbers = jax.jit(build("attacks", "fooling", apply_fn=apply_fn, **run.config.fooling)), {}, {}
        for name, images in starts(run).items():
            seen = engine.predictions(apply_fn, variables, images)
            result = attack(stream_key(run.seed, "fooling", name), variables, images, seen, aims)
            arrays[name] = np.asarray(result.adversarial)
            values = {"confidences": sure(variables, arrays[name]), "before": sure(variables, images), "used": result.used}
            numbers[name] = {key: np.asarray(value, float).tolist() for key, value in values.items()}
        return arrays, numbers

    return stage(subject.run, "fooling", make, {"variables": subject.variables}, ("fooling",))
