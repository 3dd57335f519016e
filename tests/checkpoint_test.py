"""Checkpoints and stages: whole or not at all, and damage is an error."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mgan_jax import checkpoint, workdir

TREE = {"state": [np.arange(5, dtype=np.int32), np.float32(3), np.array(True)], "step": 7, "history": {"loss": np.ones(3)}}


def test_round_trip_keeps_the_newest_alone(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, TREE)
    assert checkpoint.steps(tmp_path) == [2]
    found = checkpoint.restore(tmp_path)
    assert checkpoint.digest(found) == checkpoint.digest(TREE)
    assert found["state"][2].dtype == bool
    assert checkpoint.restore(tmp_path / "none") is None


def test_every_damaged_file_is_an_error_or_changes_nothing(tmp_path):
    checkpoint.save(tmp_path, 1, TREE)
    files = [path for path in (tmp_path / "1").rglob("*") if path.is_file() and path.stat().st_size]
    noticed = 0
    for path in files:
        data = path.read_bytes()
        for damage in (data[: len(data) // 2], bytes([*data[:-1], data[-1] ^ 1])):
            path.write_bytes(damage)
            try:
                found = checkpoint.restore(tmp_path)
            except checkpoint.CorruptCheckpoint as error:
                noticed += 1
                assert str(tmp_path) in str(error) and "--overwrite" in str(error)
            else:
                assert checkpoint.digest(found) == checkpoint.digest(TREE)
        path.write_bytes(data)
    assert noticed >= 3


def test_an_unfinished_save_is_passed_over(tmp_path):
    checkpoint.save(tmp_path, 1, TREE)
    (tmp_path / f"2{checkpoint.UNFINISHED}").mkdir()
    assert checkpoint.latest_step(tmp_path) == 1
    checkpoint.save(tmp_path, 3, TREE)
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


def test_sigkill_during_saves_never_breaks_a_restore(tmp_path):
    code = (
        "import sys, numpy as np; from pathlib import Path; from mgan_jax import checkpoint\n"
        "step = 0\n"
        "while True:\n"
        "    step += 1; checkpoint.save(Path(sys.argv[1]), step, {'x': np.full(200000, step)}); print(step, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        first = process.stdout.readline()
        assert first
        time.sleep(0.37)
        os.kill(process.pid, signal.SIGKILL)
    found = checkpoint.restore(tmp_path)
    assert found["x"][0] == found["x"][-1] == checkpoint.latest_step(tmp_path)


def test_stages_are_whole_and_damage_is_an_error(tmp_path):
    assert workdir.load_stage(tmp_path, "a") is None
    workdir.finish_stage(tmp_path, "a", {"x": np.arange(50)}, {"y": [1, None]})
    found = workdir.load_stage(tmp_path, "a")
    np.testing.assert_array_equal(found.arrays["x"], np.arange(50))
    assert found.numbers == {"y": [1, None]}
    path = tmp_path / "stages" / "a.npz"
    data = path.read_bytes()
    for damaged in (data[:100], b"", bytes([*data[:80], data[80] ^ 4, *data[81:]])):
        path.write_bytes(damaged)
        with pytest.raises(checkpoint.CorruptCheckpoint, match="damaged"):
            workdir.load_stage(tmp_path, "a")


def test_another_configuration_is_refused_with_the_difference_and_nothing_is_lost(tmp_path):
    run = tmp_path / "run"
    workdir.open_workdir(run, {"seed": 0, "a": {"b": 1}})
    workdir.finish_stage(run, "s", {}, {})
    workdir.open_workdir(run, {"seed": 0, "a": {"b": 1}})
    with pytest.raises(workdir.WorkdirMismatch, match=r"config.a.b: 1 there, 2 here"):
        workdir.open_workdir(run, {"seed": 0, "a": {"b": 2}})
    assert workdir.load_stage(run, "s") is not None
    workdir.open_workdir(run, {"seed": 0, "a": {"b": 2}}, overwrite=True)
    assert workdir.load_stage(run, "s") is None


def test_a_folder_of_other_files_is_never_cleared(tmp_path):
    (tmp_path / "thesis.tex").write_text("years")
    for overwrite in (False, True):
        with pytest.raises(workdir.WorkdirMismatch, match="choose another --workdir"):
            workdir.open_workdir(tmp_path, {}, overwrite)
    assert (tmp_path / "thesis.tex").read_text() == "years"
    with pytest.raises(workdir.WorkdirMismatch, match="is a file"):
        workdir.open_workdir(tmp_path / "thesis.tex", {})
