"""Random numbers, choices and orders bit for bit those of `jax.random` and `jax.lax`, made several times faster on a CPU.

What a key stands for does not depend on the device: a mutant is its key, so all of these must give the same everywhere.
"""

import math
from collections.abc import Sequence

import jax
import jax.extend.random
import jax.numpy as jnp
import numpy as np
from jax import lax

from mgan_jax.types import Array

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
GRID = 2**23
"""`jax.random.uniform` draws float32 multiples of 1 / GRID."""
SEARCHED = range(4096, 2**24)
"""Sizes of which `largest` searches a threshold: it counts in float32, exact so far."""
INTERPOLATED = 16
"""Steps of that search that expect uniform draws; it takes about eight."""


def _hash(key: Array, counts: Array) -> tuple[Array, Array]:
    """Threefry-2x32 (Salmon et al. 2011) of (0, counts), uint32; its 20 rounds are written out, so that XLA fuses them."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ np.uint32(0x1BD11BDA))
    a, b = jnp.broadcast_to(keys[0], counts.shape), counts + keys[1]
    for i in range(5):
        for rotation in ROTATIONS[i % 2]:
            a = a + b
            b = a ^ ((b << np.uint32(rotation)) | (b >> np.uint32(32 - rotation)))
        a, b = a + keys[(i + 1) % 3], b + keys[(i + 2) % 3] + np.uint32(i + 1)
    return a, b


def _counts(shape: Sequence[int]) -> Array:
    return lax.iota(np.uint32, math.prod(shape)).reshape(shape)


def _bits(key: Array, width: int, shape: Sequence[int]) -> Array:
    if width != 32 or math.prod(shape) >= 2**32:
        return jax.extend.random.threefry_prng_impl.random_bits(key, width, shape)
    a, b = _hash(key, _counts(shape))
    return a ^ b


def _split(key: Array, shape: Sequence[int]) -> Array:
    return jnp.stack(_hash(key, _counts(shape)), axis=-1)


THREEFRY = jax.extend.random.define_prng_impl(
    key_shape=(2,),
    seed=jax.extend.random.threefry_prng_impl.seed,
    split=_split,
    random_bits=_bits,
    fold_in=jax.extend.random.threefry_prng_impl.fold_in,
    name="unrolled_threefry2x32",
    tag="unrolled",
)


def quick(keys: Array) -> Array:
    """Keys of the same numbers, which a CPU draws ten times faster; keys of another kind or device as they are.

    JAX's own loop over the rounds writes all numbers to memory after every fourth.
    """
    known = jax.dtypes.issubdtype(keys.dtype, jax.dtypes.prng_key) and str(jax.random.key_impl(keys)) == "threefry2x32"
    if not known or jax.default_backend() != "cpu" or not jax.config.jax_threefry_partitionable:
        return keys
    return jax.random.wrap_key_data(jax.random.key_data(keys), impl=THREEFRY)


def is_searched(size: int) -> bool:
    """Whether `largest` searches a threshold among so many draws here."""
    return jax.default_backend() == "cpu" and size in SEARCHED


def largest(draws: Array, chosen: int) -> Array:
    """A mask of the `chosen` largest, of equal ones the first, as `lax.top_k` takes them.

    On a CPU a threshold is searched: the number of draws above it is counted, and the next one interpolated.

    Args:
      draws: [size] of `jax.random.uniform` in float32.
      chosen: from 0 to size.
    """
    size = draws.size
    if chosen in (0, size):
        return jnp.full(size, chosen > 0)
    if not is_searched(size):
        return jnp.zeros(size, bool).at[lax.top_k(draws, chosen)[1]].set(True)
    return _searched(draws, chosen)


def _searched(draws: Array, chosen: int) -> Array:
    """`largest` by a threshold, for 0 < chosen < size."""
    size = draws.size

    def narrowed(state: tuple) -> tuple:
        step, low, high, above_low, above_high = state
        share = (above_low - chosen) / (above_low - above_high)
        width = high - low
        guess = jnp.where(step < INTERPOLATED, (share * width).astype(jnp.int32), width // 2)
        tried = low + jnp.clip(guess, 1, width - 1)
        above = (draws >= tried / np.float32(GRID)).astype(jnp.float32).sum()
        new = (tried, high, above, above_high), (low, tried, above_low, above)
        return step + 1, *(jnp.where(above > chosen, up, down) for up, down in zip(*new, strict=True))

    # More than `chosen` draws are at least low / GRID, and no more are at least high / GRID.
    start = (jnp.int32(0), jnp.int32(0), jnp.int32(GRID), jnp.float32(size), jnp.float32(0))
    unfinished = lambda state: (state[2] - state[1] > 1) & (state[4] < chosen)  # noqa: E731
    _, low, high, _, above = lax.while_loop(unfinished, narrowed, start)
    ties, places = draws == low / np.float32(GRID), jnp.arange(size, dtype=jnp.int32)

    def next_tie(state: tuple[Array, Array]) -> tuple[Array, Array]:
        last, missing = state
        return jnp.where(ties & (places > last), places, size).min(), missing - 1

    last, _ = lax.while_loop(lambda state: state[1] > 0, next_tie, (jnp.int32(-1), chosen - above))
    return (draws >= high / np.float32(GRID)) | (ties & (places <= last))


def order(bits: Array) -> Array:
    """`jnp.argsort(bits, axis=-1)` of uint32, int32.

    A CPU sorts bare numbers five times faster than numbers with their places: the lower halves of the bits are sorted with the
    place in the other half of a number, then the upper halves.
    """
    if jax.default_backend() != "cpu" or bits.shape[-1] > 2**16:
        return jnp.argsort(bits, axis=-1).astype(jnp.int32)
    half, place = np.uint32(2**16 - 1), lax.broadcasted_iota(np.uint32, bits.shape, bits.ndim - 1)

    def places(digits: Array) -> Array:
        return (lax.sort((digits << np.uint32(16)) | place) & half).astype(jnp.int32)

    first = places(bits & half)
    return jnp.take_along_axis(first, places(jnp.take_along_axis(bits, first, axis=-1) >> np.uint32(16)), axis=-1)
