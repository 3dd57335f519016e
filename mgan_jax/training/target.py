"""Training of target classifiers."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mgan_jax.types import Array, Classifier, TrainState


def optimizer(
    learning_rate: float, total_steps: int, weight_decay: float = 0.0, warmup: float = 0.0
) -> optax.GradientTransformation:
    """AdamW, its learning rate falling along a cosine to 0 over the training; or rising first, then falling along a line.

    Args:
      learning_rate: the largest.
      total_steps: of the training.
      weight_decay: of AdamW.
      warmup: where given, the share of the steps over which the rate rises from 0 along a line, to fall along another (the cycle
        of Smith 2017, arXiv:1506.01186).

    Raises:
      ValueError: a learning rate that is not positive, a negative weight decay, or a warm-up outside [0, 1).
    """
    if not learning_rate > 0 or weight_decay < 0 or not 0 <= warmup < 1:
        raise ValueError(
            f"learning_rate is {learning_rate}, weight_decay {weight_decay}, warmup {warmup}; choose > 0, >= 0 and in [0, 1)"
        )
    if not warmup:
        return optax.adamw(optax.cosine_decay_schedule(learning_rate, total_steps), weight_decay=weight_decay)
    risen = max(1, int(warmup * total_steps))
    slopes = optax.linear_schedule(0.0, learning_rate, risen), optax.linear_schedule(learning_rate, 0.0, total_steps - risen)
    return optax.adamw(optax.join_schedules(slopes, [risen]), weight_decay=weight_decay)


def init_state(key: Array, target: Classifier, transform: optax.GradientTransformation) -> TrainState:
    """A fresh state; its params are all variables of the target, gates included; `key` is consumed."""
    variables = target.init(key)
    return TrainState(jnp.int32(0), variables, transform.init(variables["params"]))


def shift(key: Array, images: Array, max_shift: int) -> Array:
    """Moves each image [B, H, W, C] by up to `max_shift` pixels along both axes, zeros moving in; `key` is consumed."""
    size = images.shape[1:]
    padded = jnp.pad(images, ((0, 0), (max_shift, max_shift), (max_shift, max_shift), (0, 0)))
    starts = jax.random.randint(key, (images.shape[0], 2), 0, 2 * max_shift + 1)
    cut = lambda image, start: jax.lax.dynamic_slice(image, (start[0], start[1], 0), size)  # noqa: E731
    return jax.vmap(cut)(padded, starts)


def make_train_step(target: Classifier, transform: optax.GradientTransformation, max_shift: int = 0) -> Callable:
    """One step of cross-entropy.

    Args:
      target: the network.
      transform: the optimiser.
      max_shift: pixels by which training images are moved at random; 0 leaves them.

    Returns:
      `train_step(state, key, step, images [B, H, W, C], labels [B]) -> (state, metrics)`, a plain function.
    """

    def loss_fn(params, variables, images, labels):
        logits = target.apply({**variables, "params": params}, images)
        loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        return loss, (logits.argmax(-1) == labels).mean()

    def train_step(state: TrainState, key, step, images, labels):
        if max_shift:
            images = shift(jax.random.fold_in(key, step), images, max_shift)
        variables = state.params
        (loss, accuracy), gradient = jax.value_and_grad(loss_fn, has_aux=True)(variables["params"], variables, images, labels)
        updates, opt_state = transform.update(gradient, state.opt_state, variables["params"])
        variables = {**variables, "params": optax.apply_updates(variables["params"], updates)}
        return TrainState(state.step + 1, variables, opt_state), {"loss": loss, "accuracy": accuracy}

    return train_step
