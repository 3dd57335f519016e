"""Eight devices of a simulated host against one: the same votes, losses that agree, checkpoints that fit both."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from mgan_jax import devices

SCRIPT = """
import sys
from pathlib import Path

import jax
import numpy as np

from mgan_jax import checkpoint, devices, engine, population
from mgan_jax.attacks.mgan import mgan
from mgan_jax.models.cnn import cnn
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.models.mlp import mlp
from mgan_jax.mutation.neuron_activation_inverse import neuron_activation_inverse
from mgan_jax.training import gan, loop
from mgan_jax.training import target as target_training

mesh = devices.make_mesh("all")
assert mesh.size == 8
rng = np.random.default_rng(0)
images, labels = rng.random((150, 8, 8, 1), np.float32), rng.integers(0, 10, 150).astype(np.int32)
small, large = mlp((8, 8, 1), 10, (16,)), cnn((8, 8, 1), 10)
variables = {network: network.init(jax.random.key(0)) for network in (small, large)}
mutate = neuron_activation_inverse(0.05)

for method, network in (("stages", large), ("map", small), ("vmap", small)):
    mutants = population.sample(mutate, jax.random.key(1), variables[network], 6)
    one, many = (
        engine.votes(network, mutants, images, variables[network], batch_size=16, method=method, mesh=m) for m in (None, mesh)
    )
    np.testing.assert_array_equal(one, many)
    print("votes", method, one.shape)

attack = mgan(small.apply, generator(0.3, (4,), 0), discriminator((4,)), [mutate], num_mutants=2)
transforms = target_training.optimizer(1e-3, 6), gan.optimizer(1e-3, 6)
trainings = {
    "target": (
        target_training.make_train_step(small, transforms[0]),
        lambda: target_training.init_state(jax.random.key(2), small, transforms[0]),
    ),
    "mgan": (
        gan.make_train_step(attack, variables[small], transforms[1]),
        lambda: gan.init_state(jax.random.key(2), attack, (8, 8, 1), transforms[1]),
    ),
}
for name, (step, fresh) in trainings.items():
    one, many = (loop.make_chunk(step, (images, labels), m) for m in (None, mesh))
    run = lambda chunk, start, until: loop.run(chunk, start, jax.random.key(3), 0, 150, 16, until, 2)
    whole = run(one, loop.Progress(fresh(), 0, {}), 6).history["loss"]
    shared = run(many, loop.Progress(fresh(), 0, {}), 4)
    folder = Path(sys.argv[1]) / name
    checkpoint.save(folder, 4, shared.state)
    restored = loop.Progress(checkpoint.restore(folder, fresh()), 4, shared.history)
    np.testing.assert_allclose(run(one, restored, 6).history["loss"], whole, rtol=1e-5, atol=1e-5)
    print("losses", name, whole)
"""


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(Path(__file__).parent.parent)}
    folder = str(tmp_path_factory.mktemp("devices"))
    return subprocess.run([sys.executable, "-c", SCRIPT, folder], env=environment, capture_output=True, text=True, timeout=400)


def test_eight_devices_give_the_same_votes_and_losses_and_one_goes_on(simulated):
    assert simulated.returncode == 0, simulated.stderr[-3000:]
    assert [line.split()[:2] for line in simulated.stdout.splitlines() if line.startswith(("votes", "losses"))] == [
        ["votes", "stages"], ["votes", "map"], ["votes", "vmap"], ["losses", "target"], ["losses", "mgan"],
    ]  # fmt: skip


@pytest.mark.parametrize("number", ["0", "1000", "some", "-1"])
def test_devices_that_are_not_there_are_refused(number):
    with pytest.raises(ValueError, match="devices are asked for"):
        devices.make_mesh(number)


def test_one_device_needs_no_mesh():
    assert devices.make_mesh("1") is None


def test_threads_keep_the_order_and_pass_errors_on():
    several = devices.in_threads(lambda i: float(jax.jit(lambda x: x * x)(jnp.float32(i))), range(20))
    assert several == [float(i * i) for i in range(20)]
    with pytest.raises(ZeroDivisionError):
        devices.in_threads(lambda i: 1 // i, [1, 0, 1])


def test_items_are_taken_at_the_same_time(monkeypatch):
    monkeypatch.setattr(devices.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    both = threading.Barrier(2)
    assert sorted(devices.in_threads(lambda _: both.wait(timeout=60), range(2))) == [0, 1]


def test_several_processes_take_items_one_by_one(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    main = threading.get_ident()
    assert devices.in_threads(lambda _: threading.get_ident(), range(3)) == [main] * 3
