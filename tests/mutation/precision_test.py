"""Every operator on parameters of every precision and container."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import engine, population
from mgan_jax.build import available, build
from mgan_jax.models.classifier import classifier
from mgan_jax.models.layers import Conv, Dense, Gated, flatten, max_pool

pytestmark = pytest.mark.numerical

NAMES = [name for name in available("mutation") if name != "mixture"]
DTYPES = ("float32", "float64", "bfloat16", "float16")


@pytest.fixture(scope="module")
def small():
    """A convolution, a residual and two more dense layers, which all operators can mutate."""
    layers = {
        "conv1": Gated(Conv(3, 3)),
        "pool1": max_pool,
        "flatten": flatten,
        "dense1": Gated(Dense(12)),
        "dense2": Gated(Dense(12), residual=True),
        "output": Dense(4),
    }
    network = classifier(layers, (4, 4, 1))
    return network, network.init(jax.random.key(0))


def operator(name):
    operators = [build("mutation", one, rate=0.2) for one in NAMES]
    return build("mutation", "mixture", mutations=operators) if name == "mixture" else operators[NAMES.index(name)]


def cast(variables, dtype):
    return {**variables, "params": jax.tree.map(lambda leaf: leaf.astype(dtype), variables["params"])}


def same(a, b, **tolerance):
    """The same tree, dtypes too."""
    assert jax.tree.map(lambda leaf: (leaf.dtype, leaf.shape), a) == jax.tree.map(lambda leaf: (leaf.dtype, leaf.shape), b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_allclose(np.asarray(x, np.float64), np.asarray(y, np.float64), **tolerance or {"rtol": 0})


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*NAMES, "mixture"])
def test_leaves_keep_their_dtype_and_a_key_stands_for_the_same_changes(name, dtype, small):
    _, variables = small
    mutate, key = operator(name), jax.random.key(3)
    with jax.debug_key_reuse(False):
        plain = jax.jit(mutate)(key, variables)
        with jax.enable_x64(True):
            given = cast(variables, dtype)
            mutant = jax.jit(mutate)(key, given)
            many = jax.jit(jax.vmap(mutate, (0, None)))(key[None], given)
            same(mutant, jax.tree.map(lambda leaf: leaf[0], many), rtol=1e-2)
    assert jax.tree.map(lambda leaf: leaf.dtype, mutant) == jax.tree.map(lambda leaf: leaf.dtype, given)
    if dtype == "float32":
        same(mutant, plain, rtol=1e-6)
    with jax.enable_x64(True):
        same(mutant, cast(plain, dtype), rtol=0.05, atol=0.02)


@pytest.mark.parametrize("name", [*NAMES, "mixture"])
def test_numpy_leaves_are_taken_and_jit_changes_nothing(name, small):
    _, variables = small
    mutate, key, arrays = operator(name), jax.random.key(4), jax.tree.map(np.asarray, variables)
    with jax.debug_key_reuse(False):
        eager, jitted, numpy = mutate(key, variables), jax.jit(mutate)(key, variables), mutate(key, arrays)
    same(eager, numpy)
    same(eager, jitted, rtol=1e-6, atol=1e-7)


def test_a_network_is_drawn_in_float32_whatever_x64_says(small):
    network, variables = small
    with jax.enable_x64(True):
        same(network.init(jax.random.key(0)), variables, rtol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_populations_votes_and_logits(dtype, small):
    network, variables = small
    images, labels = np.random.default_rng(0).random((6, 4, 4, 1)).astype(dtype if dtype != "bfloat16" else jnp.bfloat16), None
    with jax.enable_x64(dtype in ("float32", "float64")):
        given = cast(variables, dtype)
        labels = engine.predictions(network, given, images)
        found = population.qualified(network, operator("mixture"), jax.random.key(0), given, images, labels, 8, 0.0)
        votes = population.votes(network, found, images, batch_size=4)
        assert votes.shape == (8, 6) and votes.dtype == labels.dtype == np.int32
        assert found.num_mutants == 8 and jax.tree.leaves(found.variables["params"])[0].dtype == dtype
        assert engine.logits(network, given, images).dtype == dtype
        probabilities = engine.probabilities(network, given, images)
        assert probabilities.dtype == dtype and np.isfinite(probabilities.astype(np.float32)).all()


@pytest.mark.parametrize("kernel", [jnp.ones(4), jnp.ones((4, 4), jnp.int8), jnp.ones((4, 4), bool)])
@pytest.mark.parametrize("name", [name for name in NAMES if not name.startswith(("layer", "activation"))])
def test_kernels_that_are_none_are_refused(name, kernel):
    with pytest.raises(ValueError, match="params/output/kernel is"):
        operator(name)(jax.random.key(0), {"params": {"output": {"kernel": kernel}}})
