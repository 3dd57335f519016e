"""Two processes on the loopback interface, with two simulated devices each, against one process with one device.

The processes run this file as a program.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from mgan_jax import checkpoint, devices, engine, population, workdir
from mgan_jax.models.mlp import mlp
from mgan_jax.mutation.neuron_activation_inverse import neuron_activation_inverse
from mgan_jax.training import loop
from mgan_jax.training import target as training

ROOT = Path(__file__).parent.parent
SECONDS = 200
"""Processes that have not ended by then are killed, so that a deadlock is a failure."""


def data():
    rng = np.random.default_rng(0)
    return rng.random((90, 8, 8, 1), np.float32), rng.integers(0, 10, 90).astype(np.int32)


def votes(mesh):
    classifier = mlp((8, 8, 1), 10, (16,))
    variables = classifier.init(jax.random.key(0))
    mutants = population.sample(neuron_activation_inverse(0.1), jax.random.key(1), variables, 5)
    how = {"batch_size": 16, "mesh": mesh}
    return {name: engine.votes(classifier, mutants, data()[0], variables, method=name, **how) for name in ("stages", "vmap")}


def losses(folder, steps, mesh=None):
    """All losses of a training that is continued from its checkpoint to so many steps, and saved."""
    classifier, transform = mlp((8, 8, 1), 10, (16,)), training.optimizer(1e-2, 12)
    state = training.init_state(jax.random.key(2), classifier, transform)
    progress, stored = loop.Progress(state, 0, {}), checkpoint.restore(folder)
    if stored is not None:
        state = jax.tree.unflatten(jax.tree.structure(state), stored["state"])
        progress = loop.Progress(state, int(stored["step"]), stored["history"])
    chunk = loop.make_chunk(training.make_train_step(classifier, transform), data(), mesh)
    done = loop.run(chunk, progress, jax.random.key(3), 0, 90, 16, steps, 2)
    state = jax.tree.leaves(done.state)
    checkpoint.save(folder, done.step, {"state": state, "step": done.step, "history": done.history})
    return done.history["loss"]


def error_of(function, *arguments):
    with pytest.raises((ValueError, OSError)) as raised:
        function(*arguments)
    return f"{type(raised.value).__name__}: {raised.value}"


def one_of_two(folder):
    """What each process does and leaves in a file of its own. Process 1 is told a folder that it could not even make."""
    devices.join()
    path = folder if devices.is_primary() else Path("/dev/null/nowhere")
    mesh = devices.make_mesh("all")
    found = {"devices": np.array([mesh.size, jax.local_device_count()]), **votes(mesh)}
    found["loss"] = losses(path / "checkpoints", 8, mesh)
    run = path / "run"
    with workdir.locked(run):
        found["second"] = error_of(workdir.locked(run).__enter__)
    workdir.open_workdir(run, {"seed": 0})
    stage = workdir.stage_path(run, "one")
    workdir.claim(run, "one", {"seed": 0}, stage)
    assert workdir.load_stage(run, "one") is None
    workdir.finish_stage(run, "one", {"array": np.arange(5000) + 10 * jax.process_index()}, {"number": jax.process_index()})
    stored = workdir.load_stage(run, "one")
    found["array"], found["number"] = stored.arrays["array"], stored.numbers["number"]
    found["refused"] = error_of(workdir.claim, run, "one", {"seed": 1}, stage)
    found["differ"] = error_of(workdir.open_workdir, run, {"seed": jax.process_index()})
    found["clock"] = devices.on_primary(time.monotonic)
    np.savez(folder / f"process_{jax.process_index()}.npz", **found)


def together(*arguments, simulated=1):
    """[(status, stdout, stderr)] of two processes that run Python with these arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={simulated}"
    names = {"JAX_COORDINATOR_ADDRESS": address, "JAX_NUM_PROCESSES": "2", "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    environment = {**os.environ, **names, "PYTHONPATH": str(ROOT)}
    started = [
        subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            env={**environment, "JAX_PROCESS_ID": str(index)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(2)
    ]
    ends = time.monotonic() + SECONDS
    try:
        texts = [process.communicate(timeout=max(1, ends - time.monotonic())) for process in started]
    finally:
        for process in started:
            process.kill()
    return [(process.returncode, *text) for process, text in zip(started, texts, strict=True)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("distributed")


@pytest.fixture(scope="module")
def found(folder):
    losses(folder / "checkpoints", 4)
    for status, _, err in together(__file__, folder, simulated=2):
        assert status == 0, err[-3000:]
    return [dict(np.load(folder / f"process_{index}.npz")) for index in range(2)]


def test_two_processes_vote_as_one_does(found):
    expected = votes(None)
    for one in found:
        np.testing.assert_array_equal(one["devices"], [4, 2])
        for method, labels in expected.items():
            np.testing.assert_array_equal(one[method], labels)


def test_a_training_moves_from_one_process_to_two_and_back(found, folder):
    whole = losses(folder / "alone", 12)
    for one in found:
        np.testing.assert_allclose(one["loss"], whole[:8], rtol=1e-5, atol=1e-5)
    assert checkpoint.steps(folder / "checkpoints") == [8]
    np.testing.assert_allclose(losses(folder / "checkpoints", 12), whole, rtol=1e-5, atol=1e-5)


def test_process_0_reads_writes_and_decides_for_all(found):
    for one in found:
        np.testing.assert_array_equal(one["array"], np.arange(5000))
        assert (one["number"], one["clock"]) == (0, found[0]["clock"])
        assert str(one["second"]).startswith("BlockingIOError: another process uses this folder")
        assert str(one["refused"]).startswith("WorkdirMismatch: ") and "config.seed: 0 there, 1 here" in str(one["refused"])
        assert "the configuration of process 1 is not that of process 0" in str(one["differ"])


def test_main_writes_once_and_a_second_start_reads(tmp_path):
    config = ["--config", ROOT / "configs/target.py", "--config.target.name=mlp", "--config.target.epochs=1"]
    command = [ROOT / "main.py", *config, "--distributed", "--nocompilation_cache", "--workdir", tmp_path / "run"]
    files = lambda: {p: p.stat().st_mtime_ns for p in (tmp_path / "run" / "checkpoints").rglob("*")}  # noqa: E731
    starts, written = [], []
    for _ in range(2):
        (status, out, err), (other, *texts) = together(*command)
        assert (status, other) == (0, 0), err[-2000:] + texts[1][-2000:]
        # The transport between processes of a CPU has a line of its own.
        starts.append([[line for line in text.splitlines() if not line.startswith("[Gloo]")] for text in (out, texts[0])])
        written.append(files())
    assert starts[0] == starts[1] and written[0] == written[1] and written[0]
    assert "mlp, seed 0" in starts[0][0][-1] and starts[0][1] == []


def test_a_process_that_nothing_names_is_one_line(tmp_path):
    command = [sys.executable, ROOT / "main.py", "--config", ROOT / "configs/target.py", "--distributed", "--workdir", tmp_path]
    names = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(command, env={**environment, "JAX_PROCESS_ID": "0"}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert "set JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID" in done.stderr


if __name__ == "__main__":
    one_of_two(Path(sys.argv[1]))
