"""The peers' losses are ours: AdvGAN's and MGAN's on the same weights and mutants, and their adapted weights."""

import jax
import numpy as np
import pytest

from benchmarks import material
from mgan_jax.attacks.mgan import drawn, mgan
from mgan_jax.build import factory
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator

torch = pytest.importorskip("torch")
torch_networks = pytest.importorskip("benchmarks.torch_networks")
torch_training = pytest.importorskip("benchmarks.torch_training")
SHAPE, OPERATORS, RATE = (8, 8, 1), ("GF", "WS", "NEB", "NAI", "NS"), 0.3


@pytest.mark.parametrize("beta", [0.0, 1.5])
def test_generator_loss(beta):
    classifier = factory("models", "cnn")(SHAPE, 10)
    variables, key = classifier.init(jax.random.key(0)), jax.random.key(2)
    operators = [material.operator(name, variables, RATE) for name in OPERATORS]
    networks = generator(widths=(4, 8), num_residual_blocks=1), discriminator((4,))
    numbers = {"beta": beta, "num_mutants": len(operators), "target_ratio": 0.95, "min_accuracy_ratios": [0.5] * len(operators)}
    attack = mgan(classifier.apply, *networks, operators, **numbers)
    rng = np.random.default_rng(0)
    images, labels = rng.random((6, *SHAPE), np.float32), rng.integers(0, 10, 6)

    with jax.debug_key_reuse(False):
        state = attack.init(jax.random.key(1), SHAPE)
        loss, done = jax.jit(attack.generator_loss)(state["generator"], state, key, 0, variables, images, labels)
        indices, keys = drawn(key, 0, len(operators), len(operators))
        made = [operators[int(i)](mutant_key, variables) for i, mutant_key in zip(indices, keys, strict=True)]

    target = torch_networks.TorchClassifier("cnn", SHAPE, 10)
    players = (
        torch_networks.TorchGenerator(1, widths=(4, 8), num_residual_blocks=1),
        torch_networks.TorchDiscriminator(SHAPE, (4,)),
    )
    target.load_state_dict(torch_networks.weights(variables, target.channels))
    players[0].load_state_dict(torch_networks.weights(state["generator"], 1))
    players[1].load_state_dict(torch_networks.weights(state["discriminator"], players[1].channels))
    mutate_loss = None
    if beta:
        mutate_loss = torch_training.MutateLoss(target, OPERATORS, RATE, len(operators), beta, 0.95, min_accuracy_ratio=0.5)
    step = torch_training.gan_step(target, *players, 1e-3, 100, mutate_loss=mutate_loss)
    mutants = [torch_training.mutant(ours, variables, target.channels) for ours in made]
    assert any("source" in gate for _, gates in mutants for gate in gates.values())
    theirs = step(torch_networks.images(images), torch.from_numpy(labels), *([mutants] if beta else []))
    np.testing.assert_allclose(theirs.item(), loss, rtol=1e-4)
    if beta:
        np.testing.assert_allclose(mutate_loss.betas.numpy(), done.balance["beta"], rtol=1e-4)
        np.testing.assert_allclose(mutate_loss.normal_flips.numpy(), done.balance["normal_flips"], rtol=1e-4)
