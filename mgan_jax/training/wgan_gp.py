"""Wasserstein GAN with gradient penalty (Gulrajani et al. 2017, arXiv:1704.00028)."""

import jax
import jax.numpy as jnp
import optax

from mgan_jax.training.generative import GenerativeTraining, alternating, check_game
from mgan_jax.types import Array, Network, Variables


def gradient_penalty(critic: Network, variables: Variables, images: Array) -> Array:
    """(||grad_x D(x)||_2 - 1)^2, a mean over images [B, H, W, C]; D looks at each image alone."""
    slopes = jax.grad(lambda x: critic.apply(variables, x).sum())(images)
    # The root has no derivative at 0, where a critic may well begin.
    return jnp.square(jnp.sqrt(jnp.square(slopes).sum((1, 2, 3)) + 1e-12) - 1).mean()


def wgan_gp(
    decoder: Network,
    critic: Network,
    total_steps: int,
    code_size: int = 32,
    critic_steps: int = 5,
    learning_rate: float = 1e-4,
    penalty_weight: float = 10.0,
) -> GenerativeTraining:
    """E D(G(z)) - E D(x) + lambda E (||grad D(x^)||_2 - 1)^2 (equation 3), x^ drawn between a real image and a made one.

    Both players descend by Adam, its decays 0 and 0.9.

    Args:
      decoder: G, codes -> images.
      critic: D, images -> scores [B], without normalisation across images.
      total_steps: of the training; the learning rate falls along a cosine to 0.
      code_size: K.
      critic_steps: of D for one of G; batches are a multiple of it.
      learning_rate: the first, of both.
      penalty_weight: lambda.

    Raises:
      ValueError: numbers, rates or weights that are not positive.
    """
    check_game(code_size, critic_steps, learning_rate, total_steps)
    if not penalty_weight > 0:
        raise ValueError(f"penalty_weight is {penalty_weight}; choose it > 0")

    def critic_loss(variables: Variables, key: Array, real: Array, made: Array) -> Array:
        share = jax.random.uniform(key, (len(real), 1, 1, 1))
        penalty = gradient_penalty(critic, variables, share * real + (1 - share) * made)
        return critic.apply(variables, made).mean() - critic.apply(variables, real).mean() + penalty_weight * penalty

    def transform(steps: int) -> optax.GradientTransformation:
        return optax.adam(optax.cosine_decay_schedule(learning_rate, steps), b1=0.0, b2=0.9)

    transforms = {"critic": transform(critic_steps * total_steps), "decoder": transform(total_steps)}
    return alternating(decoder, critic, code_size, critic_steps, critic_loss, lambda scores: -scores.mean(), transforms)
