"""The plain generative adversarial network (Goodfellow et al. 2014, arXiv:1406.2661)."""

import jax
import optax

from mgan_jax.training.generative import GenerativeTraining, alternating, check_game
from mgan_jax.types import Array, Network, Variables


def minimax_gan(
    decoder: Network,
    critic: Network,
    total_steps: int,
    code_size: int = 32,
    critic_steps: int = 1,
    learning_rate: float = 0.1,
    momentum: float = 0.5,
    saturating: bool = True,
) -> GenerativeTraining:
    """min over G max over D of E log D(x) + E log(1 - D(G(z))) (equation 1), by stochastic gradient descent with momentum.

    Args:
      decoder: G, codes -> images.
      critic: the logit of D, images -> scores [B].
      total_steps: of the training; the learning rate falls along a cosine to 0.
      code_size: K.
      critic_steps: k steps of D for one of G; batches are a multiple of it.
      learning_rate: the first, of both.
      momentum: of both.
      saturating: whether G descends log(1 - D(G(z))) as in equation 1; else it descends -log D(G(z)), whose gradient is larger
        where D is sure (their section 3).

    Raises:
      ValueError: numbers or rates that are not positive, momentum outside [0, 1).
    """
    check_game(code_size, critic_steps, learning_rate, total_steps)
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum is {momentum}; choose it in [0, 1)")

    def critic_loss(variables: Variables, key: Array, real: Array, made: Array) -> Array:
        del key
        return jax.nn.softplus(-critic.apply(variables, real)).mean() + jax.nn.softplus(critic.apply(variables, made)).mean()

    def decoder_loss(scores: Array) -> Array:
        return -jax.nn.softplus(scores).mean() if saturating else jax.nn.softplus(-scores).mean()

    def transform(steps: int) -> optax.GradientTransformation:
        return optax.sgd(optax.cosine_decay_schedule(learning_rate, steps), momentum)

    transforms = {"critic": transform(critic_steps * total_steps), "decoder": transform(total_steps)}
    return alternating(decoder, critic, code_size, critic_steps, critic_loss, decoder_loss, transforms)
