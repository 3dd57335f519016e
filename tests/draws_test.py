"""Draws, choices and orders that are made faster equal those of JAX bit for bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import draws

pytestmark = pytest.mark.numerical


@pytest.fixture(autouse=True)
def keys_may_be_used_twice():
    """The same key goes to both sides."""
    with jax.debug_key_reuse(False):
        yield


DRAWS = {
    "bits": lambda key: jax.random.bits(key, (3, 5, 7)),
    "bytes": lambda key: jax.random.bits(key, (9,), jnp.uint8),
    "no bits": lambda key: jax.random.bits(key, (0, 4)),
    "one number": jax.random.uniform,
    "uniform": lambda key: jax.random.uniform(key, (10000,)),
    "normal": lambda key: jax.random.normal(key, (1001,)),
    "integer": lambda key: jax.random.randint(key, (20,), 0, 7),
    "permutation": lambda key: jax.random.permutation(key, 120),
    "split": lambda key: jax.random.key_data(jax.random.split(key, (2, 3))),
    "fold_in": lambda key: jax.random.key_data(jax.random.fold_in(key, 12345)),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_quick_key_draws_the_same_numbers(draw):
    keys = jax.random.split(jax.random.key(3), 4)
    np.testing.assert_array_equal(draw(draws.quick(keys[0])), draw(keys[0]))
    np.testing.assert_array_equal(jax.jit(jax.vmap(draw))(draws.quick(keys)), jax.vmap(draw)(keys))


def test_keys_of_another_kind_stay_as_they_are():
    for key in (jax.random.key(0, impl="rbg"), jax.random.PRNGKey(0), draws.quick(jax.random.key(0))):
        assert draws.quick(key) is key


def first_largest(values, chosen):
    mask = np.zeros(len(values), bool)
    mask[np.argsort(-values, kind="stable")[:chosen]] = True
    return mask


@pytest.mark.parametrize("size", [1, 10, 4095, 4096, 20011])
def test_the_largest_are_those_of_top_k(size):
    values = jax.vmap(lambda key: jax.random.uniform(key, (size,)))(jax.random.split(jax.random.key(1), 30))
    for chosen in {1, size // 20, size - 1, size}:
        found = jax.jit(jax.vmap(lambda row, chosen=chosen: draws.largest(row, chosen)))(values)
        np.testing.assert_array_equal(found, [first_largest(row, chosen) for row in np.asarray(values)])
        indices = jax.lax.top_k(values, chosen)[1]
        assert (np.asarray(found).sum(1) == chosen).all() and np.take_along_axis(np.asarray(found), np.asarray(indices), 1).all()


@pytest.mark.parametrize("different", [1, 3, 1000, 2**16])
def test_of_equal_draws_the_first_are_chosen(different):
    """Draws of few different values, 0 and the largest possible among them."""
    raw = np.random.default_rng(different).integers(0, different, (4, 5000)) / max(1, different - 1)
    values = np.minimum(np.floor(raw * draws.GRID), draws.GRID - 1).astype(np.float32) / np.float32(draws.GRID)
    for chosen in (1, 250, 4999):
        found = jax.jit(jax.vmap(lambda row, chosen=chosen: draws.largest(row, chosen)))(values)
        np.testing.assert_array_equal(found, [first_largest(row, chosen) for row in values])


def test_draws_far_from_uniform_are_no_obstacle():
    """Almost all at one end: interpolation alone would take thousands of steps."""
    values = np.zeros(5000, np.float32)
    values[::100] = np.arange(50) / np.float32(draws.GRID)
    for row in (values, 1 - 1 / np.float32(draws.GRID) - values):
        for chosen in (1, 49, 4980):
            np.testing.assert_array_equal(draws.largest(jnp.asarray(row), chosen), first_largest(row, chosen))


@pytest.mark.parametrize("mask", [0xFFFFFFFF, 0xFFFF0000, 0x0000FFFF, 0x00030003, 0])
def test_an_order_is_a_stable_argsort(mask):
    for size in (1, 2, 400, 2**16, 2**16 + 1):
        bits = jax.random.bits(jax.random.key(size), (2, size)) & np.uint32(mask)
        np.testing.assert_array_equal(draws.order(bits), np.argsort(np.asarray(bits), axis=-1, kind="stable"))
