"""The peers' networks compute what ours do, on the same weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import population
from mgan_jax.build import factory
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.mutation.layer_addition import layer_addition
from mgan_jax.mutation.layer_deactivation import layer_deactivation

torch = pytest.importorskip("torch")
torch_networks = pytest.importorskip("benchmarks.torch_networks")


def with_biases(variables):
    """Biases and scales that are not at rest, so that a wrong place for them shows."""
    leaves, treedef = jax.tree.flatten(variables["params"])
    rng = np.random.default_rng(1)
    moved = [leaf + rng.normal(0, 0.1, leaf.shape).astype(np.float32) if leaf.ndim == 1 else leaf for leaf in leaves]
    return {**variables, "params": jax.tree.unflatten(treedef, moved)}


def some_images(shape, number=3):
    return np.random.default_rng(0).uniform(0, 1, (number, *shape)).astype(np.float32)


@pytest.mark.parametrize("name", ["lenet", "cnn", "carlini_wagner_cnn"])
@pytest.mark.parametrize("shape", [(28, 28, 1), (8, 8, 3)])
def test_classifiers(name, shape):
    ours = factory("models", name)(shape, 10)
    variables = with_biases(ours.init(jax.random.key(0)))
    theirs = torch_networks.TorchClassifier(name, shape, 10)
    theirs.load_state_dict(torch_networks.weights(variables, theirs.channels))
    images = some_images(shape)
    with torch.inference_mode():
        logits = theirs(torch_networks.images(images)).numpy()
    np.testing.assert_allclose(logits, ours.apply(variables, images), rtol=1e-4, atol=1e-5)


def test_gates_and_many_mutants():
    shape = (8, 8, 1)
    ours = factory("models", "cnn")(shape, 10)
    variables = with_biases(ours.init(jax.random.key(0)))
    theirs = torch_networks.TorchClassifier("cnn", shape, 10)
    images = some_images(shape)
    for mutate in (layer_addition(1.0), layer_deactivation(1.0)):
        mutants = population.sample(mutate, jax.random.key(1), variables, 2)
        weights = torch_networks.weights(mutants, theirs.channels, leading=1)
        structure = jax.tree.map(lambda leaf: leaf[1], mutants["structure"])
        theirs.gates = torch_networks.gates(structure, variables["structure"])
        assert set(theirs.gates) == {"conv3", "dense2"}
        theirs.load_state_dict({name: stacked[1] for name, stacked in weights.items()})
        with torch.inference_mode():
            logits = theirs(torch_networks.images(images)).numpy()
        second = jax.tree.map(lambda leaf: leaf[1], mutants)
        np.testing.assert_allclose(logits, ours.apply(second, images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(28, 28, 1), (11, 14, 3)])
def test_generator_and_discriminator(shape):
    images = some_images(shape)
    ours = generator(epsilon=0.2, num_residual_blocks=1)
    variables = with_biases(ours.init(jax.random.key(0), shape))
    theirs = torch_networks.TorchGenerator(shape[-1], epsilon=0.2, num_residual_blocks=1)
    theirs.load_state_dict(torch_networks.weights(variables, 1))
    with torch.inference_mode():
        made = np.moveaxis(theirs(torch_networks.images(images)).numpy(), 1, -1)
    np.testing.assert_allclose(made, ours.apply(variables, images), rtol=1e-3, atol=1e-5)

    ours = discriminator()
    variables = with_biases(ours.init(jax.random.key(0), shape))
    theirs = torch_networks.TorchDiscriminator(shape)
    theirs.load_state_dict(torch_networks.weights(variables, theirs.channels))
    with torch.inference_mode():
        scores = theirs(torch_networks.images(images)).numpy()
    np.testing.assert_allclose(scores, ours.apply(variables, jnp.asarray(images)), rtol=1e-3, atol=1e-5)
