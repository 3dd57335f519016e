"""The one training loop: chunks of scanned steps, between which a run can be watched, saved, killed and continued."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mgan_jax import devices
from mgan_jax.inputs import as_examples
from mgan_jax.types import Array


class Progress(NamedTuple):
    """Where a training stands; everything a checkpoint holds.

    Attributes:
      state: what the steps change, a tree of arrays.
      step: number of steps done.
      history: {metric: [step] float32}, one value a step done.
    """

    state: Any
    step: int
    history: dict[str, np.ndarray]


def make_chunk(train_step: Callable, data: Sequence[Array], mesh: Mesh | None = None, bounded: bool = True) -> Callable:
    """Compiles `train_step` scanned over a chunk of steps, its state donated.

    Args:
      train_step: `(state, key, step, *batch) -> (state, metrics)`, metrics a dict of scalars.
      data: arrays [N, ...] that live on the device, or on every device of the mesh; looked at once, as `inputs.as_examples` does.
      mesh: devices that share each batch; B is a multiple of their number.
      bounded: whether images among the data shall lie in [0, 1].

    Returns:
      `chunk(state, key, steps [T], indices [T, B]) -> (state, metrics {name: [T]})`.

    Raises:
      ValueError: as `inputs.as_examples`.
    """
    data = devices.replicated(tuple(jnp.asarray(array) for array in as_examples(data, bounded)), mesh)
    over_images = None if mesh is None else NamedSharding(mesh, PartitionSpec(devices.AXIS))

    def chunk(state, key, steps, indices, data):
        def body(state, xs):
            step, index = xs
            batch = tuple(array[index] for array in data)
            if mesh is not None:
                batch = jax.lax.with_sharding_constraint(batch, over_images)
            return train_step(state, key, step, *batch)

        return jax.lax.scan(body, state, (steps, indices))

    outputs = {} if mesh is None else {"out_shardings": NamedSharding(mesh, PartitionSpec())}
    compiled = jax.jit(chunk, donate_argnums=0, **outputs)
    return lambda *arguments: compiled(*devices.replicated(arguments, mesh), data)


def batch_indices(seed: int, num_examples: int, batch_size: int, steps: range) -> np.ndarray:
    """Indices [T, B] of the batches of these steps: a new order every epoch, the rest of an epoch left out.

    Raises:
      ValueError: a batch larger than the data, or smaller than 1.
    """
    if not 1 <= batch_size <= num_examples:
        raise ValueError(f"batch_size is {batch_size}; choose it between 1 and the {num_examples} training images")
    per_epoch = num_examples // batch_size
    epochs = {step // per_epoch for step in steps}
    orders = {epoch: np.random.default_rng((seed, epoch)).permutation(num_examples) for epoch in epochs}
    places = [(orders[step // per_epoch], step % per_epoch * batch_size) for step in steps]
    return np.stack([order[start : start + batch_size] for order, start in places]).astype(np.int32)


def num_steps(epochs: float, num_examples: int, batch_size: int, chunk_size: int) -> int:
    """Steps of so many epochs, rounded up to whole chunks, so that one compiled program serves all.

    Raises:
      ValueError: epochs, chunk size or batch size not positive.
    """
    if not epochs > 0 or chunk_size < 1 or batch_size < 1:
        raise ValueError(f"epochs is {epochs}, chunk_size {chunk_size}, batch_size {batch_size}; all must be positive")
    steps = int(np.ceil(epochs * (num_examples // batch_size)))
    return max(1, -(-steps // chunk_size)) * chunk_size


def run(
    chunk: Callable,
    progress: Progress,
    key: Array,
    seed: int,
    num_examples: int,
    batch_size: int,
    total_steps: int,
    chunk_size: int,
    after_chunk: Callable[[Progress], None] = lambda progress: None,
) -> Progress:
    """Runs a training from where `progress` stands to `total_steps`.

    Args:
      chunk: from `make_chunk`.
      progress: a fresh or restored one; its state is donated.
      key: of the training's random draws; steps fold their number into it, so resuming changes nothing.
      seed: of the order of the data.
      num_examples: N.
      batch_size: B.
      total_steps: a multiple of `chunk_size`.
      chunk_size: T, steps between two looks from outside.
      after_chunk: called with the progress after each chunk, to save and to show.

    Returns:
      The progress at `total_steps`.

    Raises:
      FloatingPointError: a metric is not finite; the message names the step.
    """
    while progress.step < total_steps:
        steps = range(progress.step, min(progress.step + chunk_size, total_steps))
        indices = batch_indices(seed, num_examples, batch_size, steps)
        state, metrics = chunk(progress.state, key, jnp.arange(steps.start, steps.stop), indices)
        metrics = {name: np.asarray(values, np.float32) for name, values in metrics.items()}
        for name, values in metrics.items():
            if not np.isfinite(values).all():
                step = steps.start + int(np.argmin(np.isfinite(values)))
                raise FloatingPointError(f"{name} is {values[step - steps.start]} at step {step}")
        history = {
            name: np.concatenate([progress.history.get(name, np.zeros(0, np.float32)), values])
            for name, values in metrics.items()
        }
        progress = Progress(state, steps.stop, history)
        after_chunk(progress)
    return progress
