"""What results say of the run as a whole: how long it took, and a training that adapted nothing."""

import ast
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax import experiments
from mgan_jax.experiments.notes import notes
from mgan_jax.experiments.stages import Run
from mgan_jax.types import Dataset, Split

ROOT = Path(experiments.__file__).parent
TIMED = sorted(path for path in ROOT.glob("*.py") if "**provenance(" in path.read_text())


@pytest.mark.parametrize("path", TIMED, ids=lambda path: path.stem)
def test_seconds_are_taken_after_everything_else(path):
    """The clock is read where `provenance` is written: nothing of the sanity section comes after it."""
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    read = [node.lineno for node in calls if ast.unparse(node.func) == "time.monotonic"]
    sane = [node.lineno for node in calls if ast.unparse(node.func).startswith("sanity.")]
    assert len(read) == 2 and all(line <= read[-1] for line in sane), "the last reading is after the last line of sanity"


def test_every_experiment_that_writes_results_is_timed():
    assert [path.stem for path in TIMED] == [
        "attacks", "defenses", "detectors", "fooling", "mgan", "mutation_testing", "transfer", "trials", "visualize",
    ]  # fmt: skip


@pytest.mark.parametrize(("warmup", "says"), [(0, False), (7, False), (8, True), (100, True)])
def test_a_training_within_its_warm_up_says_that_nothing_was_adapted(warmup, says, tmp_path):
    split = Split(np.zeros((16, 8, 8, 1), np.float32), np.zeros(16, np.int32))
    section = {"epochs": 4, "batch_size": 8, "chunk_size": 4, "trained_on": ("all", "without GF"),
               "arguments": {"warmup_steps": warmup}}  # fmt: skip
    config = ConfigDict({"attacks": {"mgan": section}, "undetected": {"weights": (1.0,)}})
    run = Run(config, tmp_path, 0, Dataset(split, split, split, 10, (8, 8, 1), tuple("0123456789")), None)
    assert notes(run) == [], "no training is there"
    for name in ("mgan", "mgan_undetected_1"):
        (tmp_path / "checkpoints" / name).mkdir(parents=True)
    found = notes(run)
    assert [note.split(":")[0] for note in found] == (["mgan", "mgan_undetected_1"] if says else [])
    assert all("8 steps" in note and f"warmup_steps, {warmup}: nothing was adapted" in note for note in found)
