"""What every operator promises, on what each layer of each classifier computes, whatever the weights say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.build import build
from mgan_jax.models.classifier import MOVED, MOVED_WITHIN, activations
from mgan_jax.models.standardized import standardized

pytestmark = pytest.mark.numerical

SHAPE = (8, 8, 1)
MODELS = ("linear", "mlp", "lenet", "cnn", "carlini_wagner_cnn", "strided_cnn", "standardized")
RATE = 0.2


def randomised(variables, seed):
    """The same network with biases too, so that no two neurons are alike."""
    leaves, treedef = jax.tree.flatten(variables["params"])
    rng = np.random.default_rng(seed)
    moved = [jnp.asarray(leaf + rng.normal(0, 0.3, leaf.shape), jnp.float32) for leaf in leaves]
    return {**variables, "params": jax.tree.unflatten(treedef, moved)}


@pytest.fixture(scope="module", params=MODELS)
def network(request):
    """(Its name, classifier, variables, layers {name: (stage, input [...], neuron axis)}); inputs of both signs."""
    small = {"widths": (12, 12)} if request.param in ("mlp", "strided_cnn") else {}
    built = "mlp" if request.param == "standardized" else request.param
    classifier = build("models", built, image_shape=SHAPE, num_classes=10, **small)
    images = np.random.default_rng(0).random((3, *SHAPE), np.float32)
    if request.param == "standardized":
        classifier = standardized(classifier, images, 0.1)
    variables = randomised(classifier.init(jax.random.key(0)), 1)
    layers, x, batch_first = {}, images, True
    for name, stage in classifier.stages:
        batch_first ^= name in (*MOVED, *MOVED_WITHIN)
        if name in variables["params"]:
            noise = np.random.default_rng(2).normal(0, 1, x.shape).astype(np.float32)
            layers[name] = jax.jit(stage), noise, -1 if batch_first else 0
        x = stage(variables, x)
    return request.param, classifier, variables, layers


def mutated(operator, variables, seed=0, **arguments):
    return jax.jit(build("mutation", operator, rate=RATE, **arguments))(jax.random.key(seed), variables)


def gates(variables, **values):
    """The network with these gates in all layers that have them."""
    structure = variables.get("structure", {})
    changed = {name: {**found, **{k: jnp.array(v) for k, v in values.items() if k in found}} for name, found in structure.items()}
    return {**variables, "structure": changed} if structure else variables


def outputs(layer, variables, x=None):
    """Outputs [neurons, ...] of a layer, of its input or another."""
    stage, inputs, axis = layer
    return np.moveaxis(np.asarray(stage(variables, inputs if x is None else x)), axis, 0)


def skipped(name, layer, variables):
    """What reaches the outputs [neurons, ...] around the weights: the input of residual layers, 0 in others."""
    _, inputs, axis = layer
    return np.moveaxis(inputs, axis, 0) if "active" in variables.get("structure", {}).get(name, {}) else np.float32(0)


def close(a, b):
    return np.isclose(a, b, rtol=1e-4, atol=1e-4).reshape(len(a), -1).all(1)


def total(layers, variables):
    return sum(len(outputs(layer, variables)) for layer in layers.values())


@pytest.mark.parametrize("activation", [True, False])
@pytest.mark.parametrize("repeated", [False, True])
def test_blocked_neurons_give_zero_and_others_what_they_gave(network, activation, repeated):
    _, classifier, variables, layers = network
    mutant, blocked = mutated("neuron_effect_blocking", variables), {}
    for name, layer in layers.items():
        # Without their activation functions all neurons of an untouched network give something.
        before, after = (outputs(layer, gates(tree, activation=False)) for tree in (variables, mutant))
        blocked[name] = ~close(before, after)
        assert not close(before, 0 * before).any() and close(before, after)[~blocked[name]].all()
    assert sum(mask.sum() for mask in blocked.values()) == int(RATE * total(layers, variables))
    changed = gates(mutant, activation=activation, repeated=repeated)
    for name, layer in layers.items():
        assert (outputs(layer, changed)[blocked[name]] == 0).all()
    images = np.random.default_rng(3).random((4, *SHAPE), np.float32)
    for name, found in activations(classifier, changed, images).items():
        if name in blocked:
            assert (np.asarray(found)[..., blocked[name]] == 0).all()


def test_the_value_before_the_activation_is_negated(network):
    _, _, variables, layers = network
    mutant, chosen = mutated("neuron_activation_inverse", variables), 0
    linear = {tree: gates(variables if tree == "before" else mutant, activation=False) for tree in ("before", "after")}
    for name, layer in layers.items():
        around = skipped(name, layer, variables)
        before, after = (outputs(layer, tree) - around for tree in linear.values())
        inverted = close(after, -before)
        assert (inverted | close(after, before)).all()
        chosen += inverted.sum()
        if "activation" in variables.get("structure", {}).get(name, {}):
            np.testing.assert_allclose(outputs(layer, mutant) - around, np.maximum(after, 0), rtol=1e-4, atol=1e-4)
    assert chosen == int(RATE * total(layers, variables))


@pytest.mark.parametrize("per_layer", [True, False])
def test_switched_neurons_exchange_all_that_they_give(network, per_layer):
    name, _, variables, layers = network
    if name == "linear":
        pytest.skip("it has an output layer alone")
    variables = gates(variables, activation=False)
    mutant, moved, sizes = mutated("neuron_switch", variables, per_layer=per_layer), [], []
    for name, layer in layers.items():
        before, after = outputs(layer, variables), outputs(layer, mutant)
        before, after = (x.reshape(len(x), -1) for x in (before, after))
        taken = np.abs(after[:, None] - before[None]).max(-1).argmin(1)
        np.testing.assert_allclose(after, before[taken], rtol=1e-4, atol=1e-4)
        assert sorted(taken) == list(range(len(taken)))
        moved.append(int((taken != np.arange(len(taken))).sum()))
        sizes.append(len(taken) if name != "output" and len(taken) >= 10 else 0)
    if per_layer:
        assert moved == [max(2, int(RATE * size)) if size else 0 for size in sizes]
    else:
        assert sum(moved) == 2 * int(RATE * sum(size // 2 for size in sizes))


@pytest.mark.parametrize("operator", ["weight_shuffling", "gaussian_fuzzing"])
def test_changed_weights_leave_what_a_layer_gives_without_input(network, operator):
    _, _, variables, layers = network
    mutant, changed = mutated(operator, variables), 0
    for layer in layers.values():
        silence = np.zeros_like(layer[1])
        np.testing.assert_array_equal(outputs(layer, variables, silence), outputs(layer, mutant, silence))
        linear = [outputs(layer, gates(tree, activation=False)) for tree in (variables, mutant)]
        changed += (~close(*linear)).sum()
    number = total(layers, variables)
    assert changed == int(RATE * number) if operator == "weight_shuffling" else changed > 0.9 * number


@pytest.mark.parametrize("operator", ["layer_deactivation", "layer_addition", "activation_function_removal"])
def test_layers_are_removed_repeated_and_made_linear(network, operator):
    name, _, variables, layers = network
    gate = {"layer_deactivation": "active", "layer_addition": "repeated"}.get(operator, "activation")
    eligible = [name for name in layers if gate in variables.get("structure", {}).get(name, {})]
    if not eligible:
        with pytest.raises(ValueError, match=gate):
            mutated(operator, variables)
        return
    mutant, changed = mutated(operator, variables), 0
    for name in eligible:
        stage, inputs, axis = layers[name]
        before, after = stage(variables, inputs), stage(mutant, inputs)
        if operator == "activation_function_removal":
            expected = stage(gates(variables, activation=False), inputs)
            around = skipped(name, layers[name], variables)
            np.testing.assert_allclose(
                outputs(layers[name], variables) - around,
                np.maximum(np.moveaxis(np.asarray(expected), axis, 0) - around, 0),
                rtol=1e-4,
                atol=1e-4,
            )
        else:
            expected = inputs if operator == "layer_deactivation" else stage(variables, before)
        if not np.allclose(before, after, rtol=1e-5, atol=1e-5):
            np.testing.assert_allclose(after, expected, rtol=1e-4, atol=1e-4)
            changed += 1
    assert changed == max(1, round(RATE * len(eligible)))


@pytest.mark.parametrize("operator", ["neuron_effect_blocking", "neuron_activation_inverse", "neuron_switch"])
@pytest.mark.parametrize(
    "norm", [{"params": {"norm": {"scale": jnp.ones(12)}}}, {"batch_stats": {"norm": {"mean": jnp.ones(12)}}}]
)
def test_networks_with_norms_are_refused_by_the_operators_whose_promise_they_break(operator, norm):
    layers = {"hidden": {"kernel": jnp.ones((3, 12)), "bias": jnp.ones(12)}, "output": {"kernel": jnp.ones((12, 2))}}
    variables = {**norm, "params": {**layers, **norm.get("params", {})}}
    with pytest.raises(ValueError, match=r"norms \((params/norm/scale|batch_stats/norm/mean)\)"):
        mutated(operator, variables)
    mutated("gaussian_fuzzing", variables)


@pytest.mark.parametrize("operator", ["neuron_effect_blocking", "neuron_switch"])
def test_a_gate_of_other_neurons_is_refused(operator):
    kernel = {"kernel": jnp.ones((12, 12))}
    structure = {"block": {"source": jnp.arange(12)}}
    two = {"params": {"block": {"a": kernel, "b": kernel}, "output": kernel}, "structure": structure}
    other = {"params": {"block": {"a": {"kernel": jnp.ones((12, 13))}}, "output": kernel}, "structure": structure}
    for variables in (two, other):
        with pytest.raises(ValueError, match="structure/block/source must be of the"):
            mutated(operator, variables)
