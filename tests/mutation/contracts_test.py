"""Clauses that hold for every operator; new modules are found by themselves."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import population
from mgan_jax.build import available, build
from mgan_jax.models.cnn import cnn

pytestmark = pytest.mark.numerical

NAMES = [name for name in available("mutation") if name != "mixture"]
PER_LAYER = [name for name in NAMES if not name.startswith(("layer_", "activation_"))]


def by_weights(mutants):
    """Mutants [M, ...] that have what their gates `source` say in their weights, as operators wrote it when there were none."""
    params, structure = dict(mutants["params"]), {}
    for name, gates in mutants["structure"].items():
        structure[name] = {gate: leaf for gate, leaf in gates.items() if gate != "source"}
        if "source" in gates:
            source = np.asarray(gates["source"])

            def moved(leaf, source=source):
                leaf, places = np.asarray(leaf), source.reshape(len(source), *(1,) * (leaf.ndim - 2), -1)
                return np.where(places < 0, 0, np.take_along_axis(leaf, np.broadcast_to(places, leaf.shape), -1))

            params[name] = jax.tree.map(moved, params[name])
    return {**mutants, "params": params, "structure": structure}


def differs(a, b):
    return jax.tree.map(lambda x, y: np.asarray(x != y), a, b)


def test_all_eight_operators_are_found():
    assert len(NAMES) == 8


@pytest.mark.parametrize("name", NAMES)
def test_same_tree_shapes_and_dtypes(name, target):
    _, variables = target
    mutant = build("mutation", name, rate=0.1)(jax.random.key(1), variables)
    assert jax.tree.structure(mutant) == jax.tree.structure(variables)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), mutant) == jax.tree.map(lambda x: (x.shape, x.dtype), variables)


@pytest.mark.parametrize("name", NAMES)
def test_rate_zero_is_the_identity(name, target):
    _, variables = target
    mutant = build("mutation", name, rate=0.0)(jax.random.key(1), variables)
    assert not any(d.any() for d in jax.tree.leaves(differs(mutant, variables)))


MUTANTS = {
    "gaussian_fuzzing": ("5019f83126fb1531", "8317d7401a3aaaa5"),
    "weight_shuffling": ("aa435d42f5217ecb", "e0740bbfa2e6a0c7"),
    "neuron_effect_blocking": ("ff8368d3afc499e0", "ace0b98ee28a6126"),
    "neuron_activation_inverse": ("326ef155f6d047ac", "56fb8d369d2fa4b7"),
    "neuron_switch": ("06b34b6d1fb1d250", "52c3f78c89a1ea13"),
    "layer_deactivation": ("9b169b94a1d1ae5f",),
    "layer_addition": ("5cee069d1414ea6f",),
    "activation_function_removal": ("cfe8beb56e937814",),
}
"""Of 20 mutants by share of the network and of each layer, made by top_k, argsort and JAX's own loop over Threefry's rounds."""


@pytest.mark.parametrize("name", MUTANTS)
def test_a_key_stands_for_the_same_mutant_for_ever(name):
    """Of GF, whose noise a library rounds, the places that change."""
    leaves, treedef = jax.tree.flatten(jax.eval_shape(cnn((28, 28, 1), 10).init, jax.random.key(0)))
    starts = np.cumsum([0] + [leaf.size for leaf in leaves])
    values = [
        np.zeros(leaf.shape, bool) if leaf.dtype == bool else np.arange(start, start + leaf.size, dtype=leaf.dtype)
        for start, leaf in zip(starts, leaves, strict=False)
    ]
    shaped = [value.reshape(leaf.shape) for value, leaf in zip(values, leaves, strict=True)]
    variables = jax.tree.unflatten(treedef, shaped)
    for gates in variables["structure"].values():
        if "source" in gates:
            gates["source"] = np.arange(len(gates["source"]), dtype=np.int32)
    for digest, how in zip(MUTANTS[name], ({"per_layer": False}, {"per_layer": True}), strict=False):
        mutate = build("mutation", name, rate=0.05, **(how if name in PER_LAYER else {}))
        mutants = by_weights(population.sample(mutate, jax.random.key(7), variables, 20))
        if name == "gaussian_fuzzing":
            rest = by_weights(jax.tree.map(lambda leaf: leaf[None], variables))
            mutants = jax.tree.map(lambda many, one: np.asarray(many != one), mutants, rest)
        assert hashlib.sha256("".join(population.digests(mutants)).encode()).hexdigest()[:16] == digest


@pytest.mark.parametrize("name", NAMES)
def test_every_mutant_changes_something(name, target):
    _, variables = target
    mutants = population.sample(build("mutation", name, rate=1e-6), jax.random.key(1), variables, 5)
    assert population.digest(variables) not in population.digests(mutants)


@pytest.mark.parametrize("name", NAMES)
def test_same_key_same_mutant_and_jit_equals_eager_and_vmap_equals_loop(name, target):
    _, variables = target
    mutate = build("mutation", name, rate=0.2)
    keys = jax.random.split(jax.random.key(3), 3)
    with jax.debug_key_reuse(False):
        eager = [mutate(key, variables) for key in keys]
        again = jax.jit(mutate)(keys[0], variables)
        many = jax.vmap(mutate, in_axes=(0, None))(keys, variables)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-6, atol=1e-7), eager[0], again)
    for i, one in enumerate(eager):
        jax.tree.map(lambda x, y, i=i: np.testing.assert_allclose(x, y[i], rtol=1e-6, atol=1e-7), one, many)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_bad_rates_are_refused_when_building(name, rate):
    with pytest.raises(ValueError, match=str(rate)):
        build("mutation", name, rate=rate)


def changed_neurons(before, after):
    """For each layer, how many neurons have any changed weight, bias or place."""
    before, after = (by_weights(jax.tree.map(lambda leaf: leaf[None], tree)) for tree in (before, after))
    found = {}
    for path, leaf in jax.tree_util.tree_flatten_with_path(differs(before["params"], after["params"]))[0]:
        layer = jax.tree_util.keystr(path[:-1])
        found[layer] = found.get(layer, False) | leaf.reshape(-1, leaf.shape[-1]).any(0)
    return {layer: int(mask.sum()) for layer, mask in found.items()}


@pytest.mark.parametrize("name", ["neuron_effect_blocking", "neuron_activation_inverse", "weight_shuffling"])
def test_neuron_counts_are_exact_in_both_readings_of_the_rate(name, target):
    _, variables = target
    total = 6 + 16 + 16 + 120 + 120 + 10
    for key in jax.random.split(jax.random.key(5), 5):
        with jax.debug_key_reuse(False):
            whole = build("mutation", name, rate=0.1)(key, variables)
            each = build("mutation", name, rate=0.1, per_layer=True)(key, variables)
        assert sum(changed_neurons(variables, whole).values()) == int(total * 0.1)
        assert sorted(changed_neurons(variables, each).values()) == [1, 1, 1, 1, 12, 12]


def test_gaussian_fuzzing_counts_weights_exactly_and_leaves_biases(target):
    _, variables = target
    kernels = sum(x.size for p, x in jax.tree_util.tree_flatten_with_path(variables["params"])[0] if p[-1].key == "kernel")
    mutant = build("mutation", "gaussian_fuzzing", rate=0.1)(jax.random.key(1), variables)
    assert sum(int(d.sum()) for d in jax.tree.leaves(differs(mutant["params"], variables["params"]))) == int(kernels * 0.1)


def test_gaussian_fuzzing_has_the_standard_deviation_of_the_layer_around_weight_or_mean():
    kernel = jnp.linspace(4.0, 6.0, 40000).reshape(200, 200)
    variables = {"params": {"output": {"kernel": kernel}}}
    around = build("mutation", "gaussian_fuzzing", rate=1.0)(jax.random.key(1), variables)["params"]["output"]["kernel"]
    mean = build("mutation", "gaussian_fuzzing", rate=1.0, center="layer_mean")(jax.random.key(1), variables)
    np.testing.assert_allclose((around - kernel).std(), kernel.std(), rtol=0.02)
    np.testing.assert_allclose(mean["params"]["output"]["kernel"].mean(), 5.0, rtol=0.01)
    np.testing.assert_allclose(mean["params"]["output"]["kernel"].std(), kernel.std(), rtol=0.02)


def test_operators_by_hand_on_two_neurons():
    layer = {"kernel": jnp.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), "bias": jnp.array([7.0, 8.0])}
    variables = {"params": {"hidden": layer}}
    mutated = lambda name, **more: build("mutation", name, rate=1.0, **more)(jax.random.key(0), variables)["params"]["hidden"]  # noqa: E731
    np.testing.assert_array_equal(mutated("neuron_effect_blocking")["kernel"], jnp.zeros((3, 2)))
    np.testing.assert_array_equal(mutated("neuron_effect_blocking")["bias"], jnp.zeros(2))
    np.testing.assert_array_equal(mutated("neuron_activation_inverse")["bias"], -layer["bias"])
    switched = mutated("neuron_switch", include_output=True, min_neurons=2)
    np.testing.assert_array_equal(switched["kernel"], layer["kernel"][:, ::-1])
    np.testing.assert_array_equal(switched["bias"], layer["bias"][::-1])
    shuffled = mutated("weight_shuffling")
    np.testing.assert_array_equal(np.sort(shuffled["kernel"], axis=0), layer["kernel"])
    np.testing.assert_array_equal(shuffled["bias"], layer["bias"])


@pytest.mark.parametrize("per_layer", [False, True])
def test_shuffled_weights_stay_with_their_neuron_and_every_place_is_equally_likely(per_layer):
    variables = {"params": {
        "narrow": {"kernel": jnp.arange(8.0).reshape(2, 4)},
        "output": {"kernel": jnp.arange(100.0, 115.0).reshape(5, 3)},
    }}  # fmt: skip
    mutants = population.sample(
        build("mutation", "weight_shuffling", rate=0.5, per_layer=per_layer), jax.random.key(0), variables, 4000
    )["params"]
    for name in ("narrow", "output"):
        before, after = np.asarray(variables["params"][name]["kernel"]), np.asarray(mutants[name]["kernel"])
        np.testing.assert_array_equal(np.sort(after, axis=1), np.broadcast_to(before, after.shape))
        number = {"narrow": 2, "output": 1}[name] if per_layer else 3 * before.shape[1] / 7
        each = (after != before).any(1).mean(0) / (number / before.shape[1])
        moved = 1 - 1 / np.prod(range(1, len(before) + 1))
        np.testing.assert_allclose(each, moved, atol=0.06)
    column = np.asarray(mutants["output"]["kernel"])[:, :, 0]
    places = (column[(column != 100 + 3 * np.arange(5)).any(1)] - 100) / 3
    shares = np.stack([(places == value).mean(0) for value in range(5)])
    np.testing.assert_allclose(shares, 0.2, atol=0.04)


def test_neuron_switch_is_one_cycle_of_the_right_length_and_pairs_in_the_whole_network():
    kernel = jnp.arange(40.0).reshape(1, 40)
    variables = {"params": {"hidden": {"kernel": kernel}, "output": {"kernel": jnp.ones((40, 10))}}}
    for key in jax.random.split(jax.random.key(2), 4):
        with jax.debug_key_reuse(False):
            cycle = np.asarray(build("mutation", "neuron_switch", rate=0.1)(key, variables)["params"]["hidden"]["kernel"][0], int)
            pairs = build("mutation", "neuron_switch", rate=0.1, per_layer=False)(key, variables)
        moved = np.flatnonzero(cycle != np.arange(40))
        assert len(moved) == 4
        place, seen = moved[0], []
        while place not in seen:
            seen.append(place)
            place = cycle[place]
        assert len(seen) == 4
        exchanged = np.asarray(pairs["params"]["hidden"]["kernel"][0], int)
        assert (exchanged != np.arange(40)).sum() == 4
        np.testing.assert_array_equal(exchanged[exchanged], np.arange(40))


def test_neuron_switch_needs_the_name_of_the_output_layer_and_a_wide_layer():
    with pytest.raises(ValueError, match="no layer is named 'output'"):
        build("mutation", "neuron_switch")(jax.random.key(0), {"params": {"last": {"kernel": jnp.ones((3, 20))}}})
    narrow = {"params": {"a": {"kernel": jnp.ones((3, 4))}, "output": {"kernel": jnp.ones((4, 20))}}}
    with pytest.raises(ValueError, match="at least 10 neurons"):
        build("mutation", "neuron_switch")(jax.random.key(0), narrow)


@pytest.mark.parametrize("name", ["layer_deactivation", "layer_addition", "activation_function_removal"])
def test_layer_operators_say_that_a_network_without_gates_cannot_take_them(name):
    with pytest.raises(ValueError, match="gate"):
        build("mutation", name)(jax.random.key(0), {"params": {"output": {"kernel": jnp.ones((3, 20))}}})


def test_layer_operators_do_what_their_gates_say(images):
    classifier = cnn((8, 8, 1), 10)
    variables = classifier.init(jax.random.key(0))
    flip = lambda name: build("mutation", name, rate=1.0)(jax.random.key(1), variables)  # noqa: E731
    dense2_of = lambda v, x: dict(classifier.stages)["dense2"](v, x.T).T  # noqa: E731
    x = jax.random.normal(jax.random.key(2), (3, 120))
    dense2 = variables["params"]["dense2"]["layer"]
    f = lambda v: jnp.maximum(v @ dense2["kernel"] + dense2["bias"].reshape(1, -1), 0)  # noqa: E731
    np.testing.assert_allclose(dense2_of(variables, x), x + f(x), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(dense2_of(flip("layer_deactivation"), x), x)
    once = x + f(x)
    np.testing.assert_allclose(dense2_of(flip("layer_addition"), x), once + f(once), rtol=1e-4, atol=1e-4)
    linear = x + x @ dense2["kernel"]
    np.testing.assert_allclose(dense2_of(flip("activation_function_removal"), x), linear, rtol=1e-4, atol=1e-4)


def test_mixture_holds_mutants_of_all_operators_in_one_program(target):
    _classifier, variables = target
    mutate = build("mutation", "mixture", mutations=[build("mutation", name, rate=0.1) for name in NAMES])
    # Under vmap the switch runs all branches and selects, which the check takes for a second use of the key.
    with jax.debug_key_reuse(False):
        mutants = jax.jit(lambda key: population.sample(mutate, key, variables, 40))(jax.random.key(1))
    mutants, rest = by_weights(mutants), by_weights(jax.tree.map(lambda leaf: leaf[None], variables))
    changed = jax.tree.map(lambda many, one: (many != one).reshape(40, -1).any(1), mutants, rest)
    structure = np.any([np.asarray(x) for x in jax.tree.leaves(changed["structure"])], axis=0)
    params = np.any([np.asarray(x) for x in jax.tree.leaves(changed["params"])], axis=0)
    assert structure.any() and params.any() and (structure ^ params).all()
