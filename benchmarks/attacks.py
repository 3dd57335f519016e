"""Attacks against Foolbox (on PyTorch and on JAX), ART and torchattacks: the same lenet and weights, seconds for all images.

python -m benchmarks.attacks --size=small|paper|large [--json=FILE] [--rows=REGEX] [--data_dir=FOLDER]
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import command_line, material
from benchmarks.command_line import Settings
from benchmarks.timing import Row, alternate, compared, timed
from benchmarks.votes import AnswersDiffer
from mgan_jax import devices
from mgan_jax.build import build

NETWORK = "lenet"
NUM_IMAGES = {"small": 8, "paper": 1000, "large": 1000}
JSMA_IMAGES = {"small": 4, "paper": 100, "large": 100}
PGD_STEPS = {"small": 5, "paper": 40, "large": 40}
SEARCHES = {"small": (2, 5), "paper": (9, 100), "large": (9, 100)}
DEEPFOOL_STEPS = 50

Peer = Callable[..., np.ndarray]
"""Runs an attack on arrays [N, ...] and returns adversarial images, [N, H, W, C] on the host."""
BATCHES = 100, 1000
"""Images at once of the peers: the size at which they are faster."""


class Work(NamedTuple):
    """One attack on some images.

    Attributes:
      name: of the row.
      num_images: how many.
      batch: how many at once, ours; attacks that stop image by image share their slots in a larger one.
      attack: our factory's name; arguments: its own.
      foolbox: class of Foolbox and its arguments, or None: JSMA, targeted, of ART and torchattacks.
      radius: what Foolbox is told of the ball; None for attacks that minimise.
    """

    name: str
    num_images: int
    batch: int
    attack: str
    arguments: Mapping[str, Any]
    foolbox: tuple[str, Mapping[str, Any]] | None
    radius: float | None = None


def works(size: str) -> list[Work]:
    """What is measured."""
    number, pgd, (searches, steps) = NUM_IMAGES[size], PGD_STEPS[size], SEARCHES[size]
    own = {"epsilon": 0.3, "num_steps": pgd, "step_size": 0.01}
    theirs = {"binary_search_steps": searches, "steps": steps, "stepsize": 0.1, "abort_early": False}
    return [
        Work(f"PGD, {pgd} steps", number, 16, "pgd", own, ("LinfPGD", {"abs_stepsize": 0.01, "steps": pgd}), 0.3),
        Work(
            f"C&W L2, {searches} x {steps}",
            number,
            16,
            "carlini_wagner_l2",
            {"num_searches": searches, "num_steps": steps, "learning_rate": 0.1},
            ("L2CarliniWagnerAttack", theirs),
        ),
        Work(f"DeepFool, {DEEPFOOL_STEPS} steps", number, 100, "deepfool", {}, ("L2DeepFoolAttack", {"steps": DEEPFOOL_STEPS})),
        Work("JSMA, targeted", JSMA_IMAGES[size], 50, "jsma", {"outputs": "softmax", "gamma": 0.1}, None),
    ]


def torch_target(target: material.Target) -> Any:
    """The same network in PyTorch."""
    from benchmarks import torch_networks

    model = torch_networks.TorchClassifier(target.name, material.IMAGE_SHAPE, material.NUM_CLASSES).to(torch_networks.device())
    model.load_state_dict(torch_networks.weights(target.variables, model.channels))
    return model.eval().requires_grad_(False)


def batched(run: Peer, size: int, *arrays: np.ndarray, threads: bool = False) -> np.ndarray:
    """What `run(*batch)` gives of all images, so many at once, joined; of several batches at a time in threads.

    PyTorch's operations use all cores by themselves, and Foolbox's attacks keep state.
    """
    starts, one = range(0, len(arrays[0]), size), lambda i: run(*(array[i : i + size] for array in arrays))
    return np.concatenate(devices.in_threads(one, starts) if threads else [one(i) for i in starts])


def fastest(run: Peer, *arrays: np.ndarray) -> tuple[int, np.ndarray]:
    """The batch size of `BATCHES` at which a peer is fastest, each tried once, and its answers."""
    tried = {}
    for size in BATCHES:
        seconds, made = timed(partial(batched, run, size, *arrays))
        tried[size] = seconds, made
    size = min(tried, key=lambda size: tried[size][0])
    return size, tried[size][1]


def foolbox_peers(work: Work, target: material.Target) -> Iterator[tuple[str, Peer]]:
    """Foolbox on PyTorch and on JAX; there the network is jitted, the rest runs operation by operation, as Foolbox does it.

    Each is a function of images [B, H, W, C] and labels [B].
    """
    import foolbox
    import torch

    from benchmarks import torch_networks

    name, arguments = work.foolbox
    attack = getattr(foolbox.attacks, name)(**arguments)
    goal = foolbox.criteria.Misclassification
    radius = {} if work.radius is None else {"epsilon": work.radius}

    network = foolbox.PyTorchModel(torch_target(target), bounds=(0, 1))

    def on_torch(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        inputs = torch_networks.images(images)
        torch_goal = goal(torch.from_numpy(labels.astype(np.int64)).to(inputs.device))
        return attack.run(network, inputs, torch_goal, **radius).permute(0, 2, 3, 1).cpu().numpy()

    yield "Foolbox, PyTorch", on_torch
    jax_network = foolbox.JAXModel(jax.jit(lambda x: target.classifier.apply(target.variables, x)), bounds=(0, 1))

    def on_jax(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        return np.asarray(attack.run(jax_network, jnp.asarray(images), goal(jnp.asarray(labels)), **radius))

    yield "Foolbox, JAX", on_jax


def jsma_peers(target: material.Target) -> Iterator[tuple[str, Peer]]:
    """ART, which takes the two greatest gradients and searches no pairs, and torchattacks, which searches all; on PyTorch.

    Each is a function of images [B, H, W, C] and targets [B].
    """
    import torch
    import torchattacks
    from art.attacks.evasion import SaliencyMapMethod
    from art.estimators.classification import PyTorchClassifier

    from benchmarks import torch_networks

    height, width, channels = material.IMAGE_SHAPE
    network = torch_target(target)
    estimator = PyTorchClassifier(
        network, torch.nn.CrossEntropyLoss(), (channels, height, width), material.NUM_CLASSES, clip_values=(0.0, 1.0)
    )
    greatest = SaliencyMapMethod(estimator, theta=1.0, gamma=0.1, batch_size=max(BATCHES), verbose=False)

    def on_art(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        return greatest.generate(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), targets).transpose(0, 2, 3, 1)

    yield "ART, PyTorch", on_art
    pairs = torchattacks.JSMA(network, theta=1.0, gamma=0.1)

    def on_torchattacks(images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        # It aims at the class after the label it is given.
        labels = torch.from_numpy((targets.astype(np.int64) - 1) % material.NUM_CLASSES)
        return pairs(torch_networks.images(images), labels).permute(0, 2, 3, 1).cpu().numpy()

    yield "torchattacks, PyTorch", on_torchattacks


def outcome(
    target: material.Target, adversarial: np.ndarray, images: np.ndarray, labels: np.ndarray, targets: np.ndarray | None
) -> tuple[np.ndarray, float]:
    """Which images fool [N], and the median 2-norm of their changes.

    An image that was returned black does not: Foolbox does that where C&W failed.
    """
    decide = lambda x: np.asarray(target.classifier.apply(target.variables, jnp.asarray(x)).argmax(-1))  # noqa: E731
    decisions = decide(adversarial)
    fooled = (decisions != labels if targets is None else decisions == targets) & (decide(images) == labels)
    fooled &= adversarial.reshape(len(images), -1).max(1) > 0
    distance = np.linalg.norm((adversarial - images).reshape(len(images), -1), axis=1)
    return fooled, float(np.median(distance[fooled])) if fooled.any() else float("nan")


def check(target: material.Target, images: np.ndarray, tolerance: float) -> None:
    """Whether both networks decide alike on clean images.

    Raises:
      votes.AnswersDiffer: they do not.
    """
    from benchmarks import torch_networks

    own = np.asarray(target.classifier.apply(target.variables, jnp.asarray(images)).argmax(-1))
    differing = float((torch_target(target)(torch_networks.images(images)).argmax(-1).cpu().numpy() != own).mean())
    if differing > tolerance:
        raise AnswersDiffer(f"PyTorch's network decides a share of {differing} of the clean images otherwise")


def rows(settings: Settings) -> Iterator[Row]:
    """A row for every attack and peer."""
    for work in works(settings.size):
        name = f"attack: {work.name}, {work.num_images} images"
        if not settings.wanted(name):
            continue
        target = material.target(NETWORK, settings.size, settings.data_dir)
        images, labels = (array[: work.num_images] for array in target.test)
        check(target, images, settings.tolerance)
        targets = None if work.foolbox else (labels + 1) % material.NUM_CLASSES
        arrays = (images, labels) if targets is None else (images, labels, targets)
        attack = jax.jit(build("attacks", work.attack, apply_fn=target.classifier.apply, **work.arguments))
        batch = min(work.batch, work.num_images)
        first = jax.random.key(0), target.variables, *(array[:batch] for array in arrays)
        compile_s, compiled = timed(attack.lower(*first).compile)

        def run(*given: np.ndarray, compiled=compiled, target=target, batch=batch) -> np.ndarray:
            full = (np.resize(array, (batch, *array.shape[1:])) for array in given)
            return np.asarray(compiled(jax.random.key(0), target.variables, *full).adversarial)[: len(given[0])]

        ours = partial(batched, run, batch, *arrays, threads=True)
        fooled, distance = outcome(target, ours(), images, labels, targets)
        for peer, run_peer in foolbox_peers(work, target) if work.foolbox else jsma_peers(target):
            given = (images, labels if targets is None else targets)
            size, answers = fastest(run_peer, *given)
            peers_fooled, peers_distance = outcome(target, answers, images, labels, targets)
            theirs = partial(batched, run_peer, size, *given)
            seconds = alternate({"ours": ours, "theirs": theirs}, settings.rounds)
            differing = float((fooled != peers_fooled).mean())
            row = compared(name, peer, seconds["ours"], seconds["theirs"], None, differing=differing)
            note = f"compiled in {compile_s:.1f} s; the peer's batches of {size}; fooled {fooled.mean():.3f}, the peer "
            note += f"{peers_fooled.mean():.3f}, "
            note += f"median 2-norms {distance:.3f} and {peers_distance:.3f}"
            yield row._replace(images_per_s=work.num_images / row.ours_s, num_images=work.num_images, note=note)


if __name__ == "__main__":
    command_line.run("attacks", command_line.parse(__doc__), rows)
