"""Training of generator and discriminator against each other, for any `GenerativeAttack`."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mgan_jax.inputs import as_batch
from mgan_jax.training import loop
from mgan_jax.types import Array, Attack, GenerativeAttack, TrainState, Variables


def optimizer(learning_rate: float, total_steps: int) -> optax.GradientTransformation:
    """Adam, its learning rate falling along a cosine to a hundredth over the training.

    Raises:
      ValueError: a learning rate that is not positive.
    """
    if not learning_rate > 0:
        raise ValueError(f"learning_rate is {learning_rate}; choose it > 0")
    return optax.adam(optax.cosine_decay_schedule(learning_rate, total_steps, alpha=0.01), b1=0.5)


def init_state(key, attack: GenerativeAttack, image_shape, transform: optax.GradientTransformation) -> TrainState:
    """A fresh state; `key` is consumed."""
    state = attack.init(key, image_shape)
    players = {name: state[name] for name in ("generator", "discriminator")}
    return TrainState(jnp.int32(0), state, transform.init(players))


def make_train_step(attack: GenerativeAttack, variables: Variables, transform: optax.GradientTransformation) -> Callable:
    """One simultaneous step of both players.

    Args:
      attack: the losses.
      variables: the target's, fixed.
      transform: the optimiser of both.

    Returns:
      `train_step(state, key, step, images [B, H, W, C], labels [B]) -> (state, metrics)`, a plain function.
    """

    def train_step(train_state: TrainState, key, step, images, labels):
        state = train_state.params
        (_, done), generator_gradient = jax.value_and_grad(attack.generator_loss, has_aux=True)(
            state["generator"], state, key, step, variables, images, labels
        )
        discriminator_loss, discriminator_gradient = jax.value_and_grad(attack.discriminator_loss)(
            state["discriminator"], images, jax.lax.stop_gradient(done.adversarial)
        )
        players = {name: state[name] for name in ("generator", "discriminator")}
        gradients = {"generator": generator_gradient, "discriminator": discriminator_gradient}
        updates, opt_state = transform.update(gradients, train_state.opt_state, players)
        state = {**optax.apply_updates(players, updates), "balance": done.balance}
        metrics = {**done.metrics, "discriminator_loss": discriminator_loss}
        return TrainState(train_state.step + 1, state, opt_state), metrics

    return train_step


def fit(
    key: Array,
    attack: GenerativeAttack,
    variables: Variables,
    images: Array,
    labels: Array,
    epochs: float = 10,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Attack:
    """Trains a generative attack in one go, without checkpoints.

    Args:
      key: consumed.
      attack: as `attacks.mgan` gives it.
      variables: the target's.
      images, labels: training data, [N, H, W, C] in [0, 1] and [N], at least one.
      epochs, batch_size, learning_rate: of the training.
      seed: of the order of the data.

    Returns:
      The trained attack.

    Raises:
      FloatingPointError: a loss is not finite.
      ValueError: as `inputs.as_batch` does, or there are no images.
    """
    variables, images, labels, _ = as_batch(attack.apply_fn, variables, images, labels)
    if not len(images):
        raise ValueError(f"images are of the shape {images.shape}; there is nothing to learn from, so give at least one")
    init_key, step_key = jax.random.split(key)
    chunk_size = min(50, max(1, len(images) // batch_size))
    steps = loop.num_steps(epochs, len(images), batch_size, chunk_size)
    transform = optimizer(learning_rate, steps)
    state = init_state(init_key, attack, images.shape[1:], transform)
    chunk = loop.make_chunk(make_train_step(attack, variables, transform), (images, labels))
    progress = loop.Progress(state, 0, {})
    done = loop.run(chunk, progress, step_key, seed, len(images), batch_size, steps, chunk_size)
    return jax.tree_util.Partial(attack.attack, done.state.params)
