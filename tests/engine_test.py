"""Votes of many mutants against a loop, whatever the method, and what the stages share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import engine, population
from mgan_jax.build import build
from mgan_jax.models.cnn import cnn
from mgan_jax.models.mlp import mlp

pytestmark = pytest.mark.numerical


@pytest.fixture(scope="module")
def residual():
    """An untrained cnn, its variables, and mutants of a weight, two neuron and three layer operators, one of them unchanged."""
    classifier = cnn((8, 8, 1), 10)
    variables = classifier.init(jax.random.key(0))
    names = ("gaussian_fuzzing", "weight_shuffling", "neuron_activation_inverse", "layer_deactivation", "layer_addition")
    names += ("activation_function_removal",)
    mutants = [jax.jit(build("mutation", name, rate=0.02))(jax.random.key(i), variables) for i, name in enumerate(names)]
    return classifier, variables, jax.tree.map(lambda *leaves: jnp.stack(leaves), *mutants, variables)


@pytest.fixture(scope="module")
def chain():
    """A perceptron of three dense layers and mutants that change one layer each, by stage: output, dense1, dense2, none."""
    classifier = mlp((8, 8, 1), 10, (12, 12))
    variables = classifier.init(jax.random.key(0))
    paths = [("output",), ("dense1", "layer"), ("dense2", "layer")]

    def changed(path):
        def bump(where, leaf):
            return leaf + 1.0 if tuple(k.key for k in where[1:-1]) == path and leaf.ndim == 2 else leaf

        return jax.tree_util.tree_map_with_path(bump, variables)

    return classifier, variables, jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(changed, paths), variables)


def looped(classifier, mutants, images):
    number = len(jax.tree.leaves(mutants)[0])
    apply = jax.jit(classifier.apply)
    return np.stack([apply(jax.tree.map(lambda x, i=i: x[i], mutants), images).argmax(-1) for i in range(number)])


@pytest.mark.parametrize("method", ["auto", "stages", "map", "vmap"])
def test_votes_equal_a_loop_over_mutants_whatever_the_method_and_batch(method, residual):
    classifier, variables, mutants = residual
    images = jax.random.uniform(jax.random.key(0), (7, 8, 8, 1))
    for batch_size in (3, 50):
        found = engine.votes(classifier, mutants, images, variables, batch_size=batch_size, method=method)
        np.testing.assert_array_equal(found, looped(classifier, mutants, images))


def test_votes_of_a_function_alone(target):
    classifier, variables = target
    images = jax.random.uniform(jax.random.key(0), (5, 8, 8, 1))
    mutants = population.sample(build("mutation", "weight_shuffling", rate=0.3), jax.random.key(1), variables, 4)
    for method in ("auto", "map", "vmap"):
        found = engine.votes(classifier.apply, mutants, images, method=method)
        np.testing.assert_array_equal(found, looped(classifier, mutants, images))


def test_the_first_changed_stage(chain):
    classifier, variables, mutants = chain
    names = tuple(name for name, _ in classifier.stages)
    first, narrow, _ = engine.changes(classifier, variables, mutants)
    assert first.tolist() == [names.index("output"), names.index("dense1"), names.index("dense2"), len(names)]
    assert not narrow.any()


def test_a_gate_counts_as_its_layer(residual):
    classifier, variables, mutants = residual
    names = tuple(name for name, _ in classifier.stages)
    found, narrow, _ = engine.changes(classifier, variables, mutants)
    found = found.tolist()
    assert not narrow[3:].any() and found[3] in (names.index("conv3"), names.index("dense2")) and found[-1] == len(names)


def test_stages_before_the_first_changed_one_are_not_computed_for_the_mutant(chain):
    """What a stage computes, told by its name: each mutant's stages are those that the host sees run."""
    classifier, variables, mutants = chain
    calls = []

    def told(name, stage):
        def run(v, x):
            jax.debug.callback(lambda _: calls.append(name), x[0, 0])
            return stage(v, x)

        return run

    watched = classifier._replace(stages=tuple((name, told(name, stage)) for name, stage in classifier.stages))
    engine.votes(watched, mutants, jnp.zeros((2, 8, 8, 1)), variables, method="stages")
    jax.effects_barrier()
    # Once for the network itself, then dense1 for one mutant, dense2 for two, output for three.
    assert [calls.count(name) for name in ("flatten", "dense1", "dense2", "output")] == [1, 2, 3, 4]


def changed_neurons(variables, layer, kernel=(), bias=(), gate=False):
    """The network with 1 added to the kernels of some neurons of a hidden layer and to the biases of others."""
    add = lambda leaf, neurons: leaf.at[..., list(neurons)].add(1.0) if neurons else leaf  # noqa: E731
    inner = variables["params"][layer]["layer"]
    changed = {"kernel": add(inner["kernel"], kernel), "bias": add(inner["bias"], bias)}
    params = {**variables["params"], layer: {"layer": changed}}
    structure = variables["structure"]
    if gate:
        structure = {**structure, layer: {**structure[layer], "activation": ~structure[layer]["activation"]}}
    return {**variables, "params": params, "structure": structure}


def test_of_few_changed_neurons_only_their_outputs_are_computed(chain):
    classifier, variables, _ = chain
    cases = [{"kernel": (3,)}, {"bias": (0, 11)}, {"kernel": (1, 4), "bias": (4, 7)}, {"kernel": (2,), "gate": True}]
    cases += [{"kernel": (1, 2, 3, 4)}, {"kernel": (5,), "bias": (5,)}]
    trees = [changed_neurons(variables, layer, **case) for layer in ("dense1", "dense2") for case in cases]
    mutants = jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
    first, narrow, neurons = engine.changes(classifier, variables, mutants)
    names = [name for name, _ in classifier.stages]
    assert first.tolist() == [names.index("dense1")] * 6 + [names.index("dense2")] * 6
    assert narrow.tolist() == [True, True, True, False, False, True] * 2
    assert set(neurons["dense1"][2].tolist()) == {1, 4, 7} and set(neurons["dense2"][7].tolist()) >= {0, 11}
    images = jax.random.uniform(jax.random.key(0), (5, 8, 8, 1))
    widths = []

    def told(stage):
        def run(v, x):
            widths.append(v["params"]["dense1"]["layer"]["bias"].shape[-1])
            return stage(v, x)

        return run

    watched = [(name, told(stage) if name == "dense1" else stage) for name, stage in classifier.stages]
    found = engine.votes(classifier._replace(stages=tuple(watched)), mutants, images, variables, method="stages")
    np.testing.assert_array_equal(found, looped(classifier, mutants, images))
    assert set(widths) == {12, 3}


def test_leaves_that_no_stage_is_named_for_count_as_the_first(chain):
    classifier, variables, mutants = chain
    renamed = classifier._replace(stages=tuple((f"stage {i}", stage) for i, (_, stage) in enumerate(classifier.stages)))
    images = jax.random.uniform(jax.random.key(0), (5, 8, 8, 1))
    found = engine.votes(renamed, mutants, images, variables, method="stages")
    np.testing.assert_array_equal(found, looped(classifier, mutants, images))


def test_what_is_reduced_and_outputs_without_reduction(chain):
    classifier, variables, mutants = chain
    images = jax.random.uniform(jax.random.key(0), (5, 8, 8, 1))
    logits = engine.outputs(classifier, mutants, images, variables, batch_size=2)
    sums = engine.outputs(classifier, mutants, images, variables, lambda logits: logits.sum(-1), batch_size=2)
    expected = jax.vmap(classifier.apply, (0, None))(mutants, images)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(sums, expected.sum(-1), rtol=1e-4, atol=1e-4)


def test_one_trace_serves_batches_and_populations_with_other_first_stages(chain):
    classifier, variables, mutants = chain
    traces = []

    def counted(logits):
        traces.append(logits.shape)
        return logits.argmax(-1)

    images = jnp.zeros((11, 8, 8, 1))
    engine.outputs(classifier, mutants, images, variables, counted, batch_size=4)
    traced = len(traces)
    engine.outputs(classifier, jax.tree.map(lambda leaf: leaf[::-1], mutants), images, variables, counted, batch_size=4)
    swapped = jax.tree.map(lambda leaf: jnp.stack([leaf[0]] * 4), mutants)
    engine.outputs(classifier, swapped, images, variables, counted, batch_size=4)
    assert len(traces) == traced and set(traces) == {(4, 10)}


@pytest.mark.parametrize("method", ["fast", "stages"])
def test_methods_that_cannot_be_used_are_refused(method, target):
    classifier, variables = target
    mutants = population.sample(build("mutation", "weight_shuffling"), jax.random.key(1), variables, 2)
    with pytest.raises(ValueError, match=method):
        engine.votes(classifier.apply, mutants, jnp.zeros((1, 8, 8, 1)), method=method)


def test_no_batch_of_nothing(target):
    classifier, variables = target
    mutants = population.sample(build("mutation", "weight_shuffling"), jax.random.key(1), variables, 2)
    with pytest.raises(ValueError, match="batch_size is 0"):
        engine.votes(classifier.apply, mutants, jnp.zeros((1, 8, 8, 1)), batch_size=0)


def test_predictions_and_logits_of_one_image(target):
    classifier, variables = target
    images = jax.random.uniform(jax.random.key(0), (1, 8, 8, 1))
    logits = engine.logits(classifier, variables, images)
    np.testing.assert_allclose(logits, classifier.apply(variables, images), rtol=1e-5, atol=1e-5)
    assert engine.predictions(classifier.apply, variables, images).shape == (1,)
    expected = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    np.testing.assert_allclose(engine.probabilities(classifier, variables, images), expected, rtol=1e-5)
