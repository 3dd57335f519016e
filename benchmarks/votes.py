"""Rows of votes: M mutants on N images, by `engine.votes`, by a loop over mutants in PyTorch, by `torch.func.vmap`."""

from collections.abc import Iterator
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from benchmarks import material, roofline
from benchmarks.command_line import Settings
from benchmarks.timing import Row, alternate, compared, timed
from mgan_jax import engine

PEERS = {"loop": "PyTorch loop", "vmap": "torch.func.vmap"}
VMAP = "our plain vmap"


class Work(NamedTuple):
    """One comparison: a network, an operator, M mutants, N images, and the peers: "loop", "vmap", or ours by plain vmap."""

    network: str
    operator: str
    num_mutants: int
    num_images: int
    peers: tuple[str, ...] = ("loop",)

    @property
    def name(self) -> str:
        """Of the row."""
        return f"votes: {self.network}, {self.num_mutants} {self.operator} x {self.num_images:,}"


ALL = ("loop", "vmap", VMAP)
WORK = {
    "small": (
        Work("lenet", "NAI", 10, 200, ALL),
        Work("lenet", "GF", 10, 200, ("loop", "vmap")),
        Work("cnn", "mixed", 10, 200),
        Work("carlini_wagner_cnn", "NAI", 4, 50),
    ),
    "paper": (
        Work("lenet", "NAI", 100, 10000),
        Work("lenet", "GF", 100, 10000, ("loop", "vmap")),
        Work("lenet", "NAI", 20, 1000, ALL),
        *(Work("lenet", operator, 100, 1000) for operator in ("WS", "NEB", "NS", "mixed")),
        Work("cnn", "mixed", 100, 2000),
        Work("carlini_wagner_cnn", "mixed", 20, 1000),
    ),
    "large": (
        *(Work("lenet", operator, 500, 10000, ("loop", "vmap")) for operator in ("GF", "WS", "NEB", "NAI", "NS")),
        Work("lenet", "mixed", 500, 10000),
        *(Work("cnn", operator, 100, 10000, ("loop", "vmap")) for operator in ("GF", "WS", "NEB", "NAI", "NS")),
        Work("cnn", "mixed", 500, 10000),
        Work("carlini_wagner_cnn", "NAI", 100, 1000, ("loop", "vmap")),
        Work("carlini_wagner_cnn", "mixed", 100, 1000),
    ),
}


class AnswersDiffer(ArithmeticError):
    """Ours and a peer do not do the same work."""


def differing(name: str, ours: np.ndarray, peers: np.ndarray, tolerance: float) -> float:
    """The share of answers in which two differ.

    Args:
      name: of the row, for the error.
      ours, peers: answers of equal shape.
      tolerance: share that may differ, near ties that another order of summation decides otherwise; one answer always may.

    Raises:
      AnswersDiffer: more do, or the shapes are not equal.
    """
    if ours.shape != peers.shape:
        raise AnswersDiffer(f"{name}: ours are {ours.shape} answers, the peer's {peers.shape}")
    number = int((ours != peers).sum())
    if number > max(1, tolerance * ours.size):
        raise AnswersDiffer(f"{name}: {number} of {ours.size} answers differ; at most a share of {tolerance:g} may")
    return number / ours.size


def rows(settings: Settings) -> Iterator[Row]:
    """All rows of votes of a size.

    Raises:
      AnswersDiffer: ours and a peer disagree.
    """
    for work in WORK[settings.size]:
        if settings.wanted(work.name):
            yield from compare(work, settings)


def compare(work: Work, settings: Settings) -> Iterator[Row]:
    """The rows of one comparison, one a peer; the warm-up's votes are those that are compared."""
    from benchmarks import torch_mutants

    source = settings.size, settings.data_dir
    target = material.target(work.network, *source)
    mutants = material.mutants(work.network, *source, work.operator, work.num_mutants)
    images = target.test.images[: work.num_images]
    if len(images) < work.num_images:
        raise ValueError(f"{work.name}: there are {len(images)} test images")
    classifier, on_device = target.classifier, jnp.asarray(images)

    calls = {"ours": lambda: engine.votes(classifier, mutants, on_device, target.variables)}
    notes = {}
    theirs = torch_mutants.converted(work.network, images.shape[1:], target.variables, mutants)
    for peer in work.peers:
        if peer == VMAP:
            calls[peer], notes[peer] = lambda: engine.votes(classifier, mutants, on_device, method="vmap"), ""
        else:
            calls[peer], notes[peer] = getattr(torch_mutants, f"tuned_{peer}")(theirs, images)

    answers = {name: np.asarray(timed(call)[1]) for name, call in calls.items()}
    shares = {peer: differing(work.name, answers["ours"], answers[peer], settings.tolerance) for peer in work.peers}
    seconds = alternate(calls, settings.rounds)

    pairs = work.num_mutants * work.num_images
    flops = pairs * roofline.forward_flops(target.classifier, target.variables, images.shape[1:])
    moved = roofline.size_bytes(mutants) + images.nbytes + pairs * 4
    least = roofline.least_seconds(settings.peaks, flops, moved)
    for peer in work.peers:
        row = compared(work.name, PEERS.get(peer, peer), seconds["ours"], seconds[peer], least, differing=shares[peer])
        counts = {"num_mutants": work.num_mutants, "num_images": work.num_images}
        yield row._replace(images_per_s=pairs / row.ours_s, note=notes[peer], **counts)
