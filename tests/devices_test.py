"""Eight devices of a simulated host against one: the same votes, and losses that agree."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mgan_jax import devices

SCRIPT = """
import jax
import numpy as np

from mgan_jax import devices, engine, population
from mgan_jax.attacks.mgan import mgan
from mgan_jax.models.cnn import cnn
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.mutation.neuron_activation_inverse import neuron_activation_inverse
from mgan_jax.training import gan, loop
from mgan_jax.training import target as target_training

mesh = devices.make_mesh("all")
assert mesh.size == 8
rng = np.random.default_rng(0)
images, labels = rng.random((150, 8, 8, 1), np.float32), rng.integers(0, 10, 150).astype(np.int32)
classifier = cnn((8, 8, 1), 10)
variables = classifier.init(jax.random.key(0))
mutate = neuron_activation_inverse(0.05)

mutants = population.sample(mutate, jax.random.key(1), variables, 6)
for method in ("stages", "map", "vmap"):
    one, many = (
        engine.votes(classifier, mutants, images, variables, batch_size=16, method=method, mesh=m) for m in (None, mesh)
    )
    np.testing.assert_array_equal(one, many)
    print("votes", method, one.shape)

attack = mgan(classifier.apply, generator(0.3, (4, 8), 1), discriminator((4, 8)), [mutate], num_mutants=2)
transforms = target_training.optimizer(1e-3, 4), gan.optimizer(1e-3, 4)
trainings = {
    "target": (
        target_training.make_train_step(classifier, transforms[0]),
        lambda: target_training.init_state(jax.random.key(2), classifier, transforms[0]),
    ),
    "mgan": (
        gan.make_train_step(attack, variables, transforms[1]),
        lambda: gan.init_state(jax.random.key(2), attack, (8, 8, 1), transforms[1]),
    ),
}
for name, (step, fresh) in trainings.items():
    histories = []
    for m in (None, mesh):
        chunk = loop.make_chunk(step, (images, labels), m)
        done = loop.run(chunk, loop.Progress(fresh(), 0, {}), jax.random.key(3), 0, 150, 16, 4, 2)
        histories.append(done.history["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-5, atol=1e-5)
    print("losses", name, histories[0])
"""


@pytest.fixture(scope="module")
def simulated():
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True)


def test_eight_devices_give_the_same_votes_and_losses(simulated):
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
