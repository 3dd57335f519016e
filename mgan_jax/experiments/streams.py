"""Keys of the disjoint streams of a run: nothing drawn for training is ever drawn for evaluation."""

import zlib

import jax

from mgan_jax.types import Array


def stream_key(seed: int, *names: str) -> Array:
    """The key of a named stream, such as ('mutants', 'test', 'GF'): a fold of the seed's key with the names' checksum."""
    return jax.random.fold_in(jax.random.key(seed), zlib.crc32("/".join(names).encode()))
