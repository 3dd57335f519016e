"""Training of generators of whole images, whatever teaches them: a density (`vae`) or an opponent (`minimax_gan`, `wgan_gp`)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mgan_jax.inputs import as_examples, read_images
from mgan_jax.training import loop
from mgan_jax.types import Array, Network, TrainState, Variables


class GenerativeTraining(NamedTuple):
    """How one kind of generator is trained; codes are drawn from N(0, 1).

    Attributes:
      init: `init(key, image_shape) -> TrainState`.
      train_step: `train_step(state, key, step, images [B, H, W, C]) -> (state, metrics)`, a plain function for `training.loop`.
      generator: `generator(state) -> variables` of the decoder.
    """

    init: Callable[[Array, tuple[int, int, int]], TrainState]
    train_step: Callable[..., tuple[TrainState, dict[str, Array]]]
    generator: Callable[[TrainState], Variables]


def fit(
    key: Array,
    make: Callable[[int], GenerativeTraining],
    images: Array,
    epochs: float = 10,
    batch_size: int = 100,
    seed: int = 0,
    chunk_size: int = 50,
) -> Variables:
    """Trains a generator in one go, without checkpoints.

    Args:
      key: consumed.
      make: from the number of steps to the training, as `partial(vae, encoder, decoder)` is.
      images: [N, H, W, C] in [0, 1], at least one; bytes as `inputs.read_images` reads them.
      epochs, batch_size: of the training.
      seed: of the order of the images.
      chunk_size: steps of one compiled call.

    Returns:
      The decoder's variables.

    Raises:
      FloatingPointError: a loss is not finite.
      ValueError: a batch larger than the data, numbers that are not positive, or as `inputs.as_examples`.
    """
    (images,) = as_examples([read_images(images, values=False)], values=False)
    init_key, step_key = jax.random.split(key)
    number = len(images)
    size = min(chunk_size, max(1, number // batch_size))
    steps = loop.num_steps(epochs, number, batch_size, size)
    training = make(steps)
    progress = loop.Progress(training.init(init_key, images.shape[1:]), 0, {})
    chunk = loop.make_chunk(training.train_step, (images,))
    done = loop.run(chunk, progress, step_key, seed, number, batch_size, steps, size)
    return training.generator(done.state)


def alternating(
    decoder: Network,
    critic: Network,
    code_size: int,
    critic_steps: int,
    critic_loss: Callable[..., Array],
    decoder_loss: Callable[[Array], Array],
    transforms: dict[str, optax.GradientTransformation],
) -> GenerativeTraining:
    """Steps of the critic, each on its own part of the batch, then one of the decoder (Goodfellow et al. 2014, algorithm 1).

    Args:
      decoder: codes -> images.
      critic: images -> scores [B].
      code_size: K.
      critic_steps: k; batches are a multiple of it.
      critic_loss: `(critic_variables, key, real, made) -> scalar`, images [B / k, H, W, C] both.
      decoder_loss: `(scores of made images [B / k]) -> scalar`.
      transforms: the optimiser of each player, `critic` (k steps where the other does one) and `decoder`.

    Returns:
      A `GenerativeTraining`; its steps raise ValueError where the batch is no multiple of k.
    """

    def init(key: Array, image_shape: tuple[int, int, int]) -> TrainState:
        decoder_key, critic_key = jax.random.split(key)
        params = {"decoder": decoder.init(decoder_key, image_shape), "critic": critic.init(critic_key, image_shape)}
        return TrainState(jnp.int32(0), params, {name: transforms[name].init(player) for name, player in params.items()})

    def train_step(state: TrainState, key: Array, step: Array, images: Array) -> tuple[TrainState, dict[str, Array]]:
        if len(images) % critic_steps:
            raise ValueError(f"the batch has {len(images)} images; choose a multiple of critic_steps, {critic_steps}")
        parts = images.reshape(critic_steps, -1, *images.shape[1:])
        keys = jax.random.split(jax.random.fold_in(key, step), 2 * critic_steps + 1)
        params, opt_state = dict(state.params), dict(state.opt_state)

        def draw(key: Array) -> Array:
            return jax.random.normal(key, (parts.shape[1], code_size))

        def move(name: str, gradient: Variables) -> None:
            updates, opt_state[name] = transforms[name].update(gradient, opt_state[name], params[name])
            params[name] = optax.apply_updates(params[name], updates)

        for i in range(critic_steps):
            made = decoder.apply(params["decoder"], draw(keys[2 * i]))
            found, gradient = jax.value_and_grad(critic_loss)(params["critic"], keys[2 * i + 1], parts[i], made)
            move("critic", gradient)
        codes = draw(keys[-1])

        def of_decoder(variables: Variables) -> Array:
            return decoder_loss(critic.apply(params["critic"], decoder.apply(variables, codes)))

        loss, gradient = jax.value_and_grad(of_decoder)(params["decoder"])
        move("decoder", gradient)
        return TrainState(state.step + 1, params, opt_state), {"loss": loss, "critic_loss": found}

    return GenerativeTraining(init, train_step, lambda state: state.params["decoder"])


def check_game(code_size: int, critic_steps: int, learning_rate: float, total_steps: int) -> None:
    """Whether the numbers of a game make sense.

    Raises:
      ValueError: one is not positive.
    """
    if code_size < 1 or critic_steps < 1 or not learning_rate > 0 or total_steps < 1:
        raise ValueError(
            f"code_size is {code_size}, critic_steps {critic_steps}, learning_rate {learning_rate}, total_steps {total_steps}; "
            "choose them > 0"
        )
