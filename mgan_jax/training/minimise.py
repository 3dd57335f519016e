"""Training of any single loss: denoisers, decoders, density models, defended classifiers."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mgan_jax.inputs import as_examples
from mgan_jax.training import loop
from mgan_jax.training.target import optimizer
from mgan_jax.types import Array, Train, TrainState


def init_state(params: Any, transform: optax.GradientTransformation) -> TrainState:
    """A fresh state that begins with these parameters; they are copied, since training steps give their state away."""
    params = jax.tree.map(jnp.array, params)
    return TrainState(jnp.int32(0), params, transform.init(params))


def make_train_step(loss: Callable[..., Any], transform: optax.GradientTransformation) -> Callable:
    """One step down a loss.

    Args:
      loss: as `types.Train` describes it.
      transform: the optimiser.

    Returns:
      `train_step(state, key, step, *batch) -> (state, metrics)`, a plain function; the loss is among the metrics.
    """

    def train_step(state: TrainState, key, step, *batch):
        (value, metrics), gradient = jax.value_and_grad(loss, has_aux=True)(state.params, key, step, *batch)
        updates, opt_state = transform.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), {**metrics, "loss": value}

    return train_step


def minimiser(
    epochs: float = 10,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    warmup: float = 0.0,
    seed: int = 0,
    chunk_size: int = 50,
) -> Train:
    """A `Train` that runs in one go, without checkpoints.

    Args:
      epochs, batch_size: of every training.
      learning_rate, weight_decay, warmup: as in `target.optimizer`.
      seed: of the order of the data.
      chunk_size: steps of one compiled call.

    Returns:
      A `Train`; it raises FloatingPointError where a loss is not finite, and ValueError where a batch is larger than the data or
      as `inputs.as_examples`, but that images may have any finite values: a loss may be of what is no picture.
    """

    def train(key: Array, name: str, params: Any, loss: Callable[..., Any], data: tuple) -> Any:
        del name
        number = len(as_examples(data, values=False)[0])
        steps = loop.num_steps(epochs, number, batch_size, min(chunk_size, max(1, number // batch_size)))
        transform = optimizer(learning_rate, steps, weight_decay, warmup)
        chunk = loop.make_chunk(make_train_step(loss, transform), data, bounded=False)
        progress = loop.Progress(init_state(params, transform), 0, {})
        size = min(chunk_size, max(1, number // batch_size))
        return loop.run(chunk, progress, key, seed, number, batch_size, steps, size).state.params

    return train
