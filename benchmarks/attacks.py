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
SEARCHED_IMAGES = {"small": 4, "paper": 100, "large": 1000}
QUERIES = {"small": 50, "paper": 5000, "large": 5000}
RADIUS = {"small": 0.3, "paper": 0.1, "large": 0.1}
"""Of AutoAttack and Square, so that it does not fool all, but at the smallest size."""
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
      peers: `peers(work, target)` gives names and attacks of others.
      theirs: the peer's class and its arguments.
      radius: what Foolbox is told of the ball; None for attacks that minimise.
      targeted: whether the labels given are targets.
    """

    name: str
    num_images: int
    batch: int
    attack: str
    arguments: Mapping[str, Any]
    peers: Callable[["Work", material.Target], Iterator[tuple[str, Peer]]]
    theirs: tuple[str, Mapping[str, Any]]
    radius: float | None = None
    targeted: bool = False


def works(size: str) -> list[Work]:
    """What is measured."""
    number, pgd, (searches, steps) = NUM_IMAGES[size], PGD_STEPS[size], SEARCHES[size]
    own = {"epsilon": 0.3, "num_steps": pgd, "step_size": 0.01}
    searched = {"num_searches": searches, "num_steps": steps, "learning_rate": 0.1}
    theirs = {"binary_search_steps": searches, "steps": steps, "stepsize": 0.1, "abort_early": False}
    few, queries, radius = SEARCHED_IMAGES[size], QUERIES[size], RADIUS[size]
    square = {"norm": "Linf", "eps": radius, "n_queries": queries, "p_init": 0.8}
    auto = {"norm": "Linf", "eps": radius, "n_classes": material.NUM_CLASSES}
    return [
        Work(f"PGD, {pgd} steps", number, 16, "pgd", own, foolbox_peers, ("LinfPGD", {"abs_stepsize": 0.01, "steps": pgd}), 0.3),
        Work(f"C&W L2, {searches} x {steps}", number, 16, "carlini_wagner_l2", searched, foolbox_peers,
             ("L2CarliniWagnerAttack", theirs)),
        Work(f"DeepFool, {DEEPFOOL_STEPS} steps", number, 100, "deepfool", {}, foolbox_peers,
             ("L2DeepFoolAttack", {"steps": DEEPFOOL_STEPS})),
        Work("JSMA, targeted", JSMA_IMAGES[size], 50, "jsma", {"outputs": "softmax", "gamma": 0.1}, jsma_peers,
             ("JSMA", {"theta": 1.0, "gamma": 0.1}), targeted=True),
        Work(f"Square, {queries} queries at {radius}", few, 100, "square", {"epsilon": radius, "num_queries": queries},
             torchattacks_peer, ("Square", square)),
        # Its AutoAttack runs APGD and FAB for 10 steps.
        Work(f"AutoAttack of 10 steps at {radius}", few, 100, "autoattack", {"epsilon": radius, "num_steps": 10},
             torchattacks_peer, ("AutoAttack", auto)),
    ]  # fmt: skip


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

    name, arguments = work.theirs
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


def torchattacks_peer(work: Work, target: material.Target) -> Iterator[tuple[str, Peer]]:
    """torchattacks on PyTorch, a function of images [B, H, W, C] and labels [B]."""
    import torch
    import torchattacks

    from benchmarks import torch_networks

    name, arguments = work.theirs
    attack = getattr(torchattacks, name)(torch_target(target), **arguments)

    def on_torchattacks(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        given = torch.from_numpy(labels.astype(np.int64))
        return attack(torch_networks.images(images), given).detach().permute(0, 2, 3, 1).cpu().numpy()

    yield "torchattacks, PyTorch", on_torchattacks


def jsma_peers(work: Work, target: material.Target) -> Iterator[tuple[str, Peer]]:
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
    name, arguments = work.theirs
    pairs = getattr(torchattacks, name)(network, **arguments)

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
        targets = (labels + 1) % material.NUM_CLASSES if work.targeted else None
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
        for peer, run_peer in work.peers(work, target):
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
