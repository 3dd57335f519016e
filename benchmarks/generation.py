"""Rows of generation: M mutants of an operator at once, against copying and editing a PyTorch network M times."""

from collections.abc import Iterator

import jax
import numpy as np

from benchmarks import material, roofline
from benchmarks.command_line import Settings
from benchmarks.timing import Row, alternate, compared, timed
from mgan_jax import mutation, population

NETWORK = "cnn"
"""The one with residual layers, which LD and LA need."""
RATE = 0.05
NUM_MUTANTS = {"small": 20, "paper": 500, "large": 500}


def rows(settings: Settings) -> Iterator[Row]:
    """One row an operator."""
    number = NUM_MUTANTS[settings.size]
    for abbreviation in mutation.OPERATORS:
        name = f"generation: {NETWORK}, {number} {abbreviation}"
        if settings.wanted(name):
            yield compare(name, abbreviation, number, settings)


def compare(name: str, abbreviation: str, number: int, settings: Settings) -> Row:
    """Ours: all mutants as one tree on the device. The peer: one network after the other, each let go after it is made."""
    from benchmarks import torch_editing, torch_networks

    target = material.target(NETWORK, settings.size, settings.data_dir)
    mutate, key = material.operator(abbreviation, target.variables, RATE), jax.random.key(3)
    model = torch_networks.TorchClassifier(NETWORK, material.IMAGE_SHAPE, material.NUM_CLASSES).requires_grad_(False)
    model.load_state_dict(torch_networks.weights(target.variables, model.channels))
    model = model.to(torch_networks.device())
    rng = np.random.default_rng(0)

    def ours():
        return population.sample(mutate, key, target.variables, number)

    def theirs():
        for _ in range(number):
            made = torch_editing.mutant(model, abbreviation, rng, RATE)
        return next(made.parameters()).sum().item()

    mutants, _ = timed(ours)[1], timed(theirs)
    seconds = alternate({"ours": ours, "theirs": theirs}, settings.rounds)
    least = roofline.least_seconds(settings.peaks, moved=roofline.size_bytes(mutants))
    return compared(name, "PyTorch, copied and edited", seconds["ours"], seconds["theirs"], least)
