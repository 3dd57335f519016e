"""What this machine could do at best: matrix products and copies, measured in the same run, and the share that is reached."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.types import Classifier, Variables

FLOAT = 4
"""Bytes of a float32."""


class Peaks(NamedTuple):
    """The two roofs of the roofline model (Williams et al. 2009, doi:10.1145/1498765.1498785).

    Attributes:
      flops: floating-point operations a second of the fastest float32 matrix product, an addition and a multiplication
        counted as two.
      bandwidth: bytes a second, read and written ones counted, of the fastest copy of an array larger than the caches.
    """

    flops: float
    bandwidth: float


def _least(call: Callable[[], object], seconds: float) -> float:
    """The shortest of the calls that fit into so many seconds, at least three."""
    call()
    best, end, calls = np.inf, time.perf_counter() + seconds, 0
    while calls < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        best, calls = min(best, time.perf_counter() - start), calls + 1
    return best


def _matrix_calls(size: int) -> list[Callable[[], object]]:
    """A product of two [size, size] matrices, by XLA and, where it is installed, by PyTorch."""
    values = np.random.default_rng(0).standard_normal((size, size), np.float32)
    a, product = jnp.asarray(values), jax.jit(jnp.matmul)
    calls: list[Callable[[], object]] = [lambda: jax.block_until_ready(product(a, a))]
    try:
        import torch
    except ModuleNotFoundError:
        return calls
    if jax.default_backend() == "cpu":
        b = torch.from_numpy(values)
        calls.append(lambda: torch.matmul(b, b))
    return calls


def _copy_calls(size: int) -> list[Callable[[], object]]:
    """A copy of `size` float32 values, by XLA and, on a CPU, by NumPy and PyTorch."""
    values = np.ones(size, np.float32)
    # XLA would return its argument for a plain copy; a change of sign reads and writes every value.
    a, negate = jnp.asarray(values), jax.jit(jnp.negative)
    calls: list[Callable[[], object]] = [lambda: jax.block_until_ready(negate(a))]
    if jax.default_backend() != "cpu":
        return calls
    target = np.empty_like(values)
    calls.append(lambda: np.copyto(target, values))
    try:
        import torch
    except ModuleNotFoundError:
        return calls
    source, copied = torch.from_numpy(values), torch.from_numpy(target)
    calls.append(lambda: copied.copy_(source))
    return calls


def measure(seconds: float = 1.0) -> Peaks:
    """Measures both roofs; each candidate gets so many seconds, and the fastest counts."""
    accelerator = jax.default_backend() != "cpu"
    product = 8192 if accelerator else 1024
    copied = 2**28 if accelerator else 2**25
    flops = max(2 * product**3 / _least(call, seconds) for call in _matrix_calls(product))
    bandwidth = max(2 * FLOAT * copied / _least(call, seconds) for call in _copy_calls(copied))
    return Peaks(flops, bandwidth)


def forward_flops(classifier: Classifier, variables: Variables, image_shape: tuple[int, int, int]) -> int:
    """FLOPs of one image through a network at rest, from the shapes of its layers: 2 * kernel * positions of each kernel.

    Biases, pooling and activation functions are not counted.

    Args:
      classifier: its `stages` are walked.
      variables: of the classifier; only shapes are looked at.
      image_shape: (H, W, C).
    """
    x, total = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32), 0
    for name, stage in classifier.stages:
        x = jax.eval_shape(stage, variables, x)
        leaves = jax.tree_util.tree_leaves_with_path(variables["params"].get(name, {}))
        kernels = [leaf for path, leaf in leaves if path[-1].key == "kernel"]
        total += sum(2 * int(kernel.size) * int(np.prod(x.shape[1:-1], dtype=np.int64)) for kernel in kernels)
    return total


def size_bytes(tree: object) -> int:
    """Bytes of all leaves of a tree of arrays."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def least_seconds(peaks: Peaks, flops: float = 0.0, moved: float = 0.0) -> float:
    """The least time for so many FLOPs and so many bytes that must be read or written: the higher of the two roofs.

    `flops` is what the plain algorithm needs. A program that avoids work (activations that mutants share, a test that stops
    early) can need less time than this, and its share then exceeds 1.
    """
    return max(flops / peaks.flops, moved / peaks.bandwidth)
