"""Variational autoencoder (Kingma & Welling 2014, arXiv:1312.6114)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mgan_jax.training import minimise
from mgan_jax.training.generative import GenerativeTraining
from mgan_jax.training.target import optimizer
from mgan_jax.types import Array, Network, TrainState, Variables

LIKELIHOODS = ("bernoulli", "gaussian")
SMALLEST = 1e-6  # of a probability: float32 cannot hold 1 - 1e-8, and a sigmoid reaches 1


def divergence(mean: Array, log_variance: Array) -> Array:
    """KL(N(mean, variance) || N(0, 1)) in nats, summed over the code, [B] of [B, K] (their appendix B)."""
    return 0.5 * (jnp.square(mean) + jnp.exp(log_variance) - 1 - log_variance).sum(-1)


def negative_log_likelihood(made: Array, images: Array, likelihood: str, scale: float) -> Array:
    """-log p(x | z) in nats without its constant, summed over the pixels, [B] of images [B, H, W, C] made and given."""
    if likelihood == "gaussian":
        return 0.5 * jnp.square((made - images) / scale).sum((1, 2, 3))
    p = jnp.clip(made, SMALLEST, 1 - SMALLEST)
    return -(images * jnp.log(p) + (1 - images) * jnp.log1p(-p)).sum((1, 2, 3))


def negative_elbo(
    encoder: Network, decoder: Network, likelihood: str = "bernoulli", scale: float = 0.1, divergence_weight: float = 1.0
) -> Callable[..., tuple[Array, dict[str, Array]]]:
    """The loss of their equation 10, with one draw of each code: E[-log p(x | z)] + KL(q(z | x) || N(0, 1)).

    Args:
      encoder: images -> [B, 2 K], means and log variances.
      decoder: codes [B, K] -> images [B, H, W, C] in (0, 1).
      likelihood: "bernoulli" of each pixel, or "gaussian" around it.
      scale: standard deviation of the Gaussian, in units of pixels in [0, 1].
      divergence_weight: of KL; 1 is the bound, less (beta below 1, Higgins et al. 2017) reconstructs better.

    Returns:
      `loss(params, key, step, images) -> (scalar, metrics)`, as `types.Train` wants it; params are
      `{'encoder': variables, 'decoder': variables}`.

    Raises:
      ValueError: another likelihood, a scale or weight that is not positive.
    """
    if likelihood not in LIKELIHOODS:
        raise ValueError(f"likelihood is {likelihood!r}; choose one of {', '.join(LIKELIHOODS)}")
    if not scale > 0 or not divergence_weight > 0:
        raise ValueError(f"scale is {scale}, divergence_weight {divergence_weight}; choose both > 0")

    def loss(params: Variables, key: Array, step: Array, images: Array) -> tuple[Array, dict[str, Array]]:
        mean, log_variance = jnp.split(encoder.apply(params["encoder"], images), 2, axis=-1)
        noise = jax.random.normal(jax.random.fold_in(key, step), mean.shape)
        made = decoder.apply(params["decoder"], mean + jnp.exp(log_variance / 2) * noise)
        error = negative_log_likelihood(made, images, likelihood, scale).mean()
        distance = divergence(mean, log_variance).mean()
        metrics = {"reconstruction": error, "divergence": distance, "squared_error": jnp.square(made - images).mean()}
        return error + divergence_weight * distance, metrics

    return loss


def vae(
    encoder: Network,
    decoder: Network,
    total_steps: int,
    learning_rate: float = 1e-3,
    likelihood: str = "bernoulli",
    scale: float = 0.1,
    divergence_weight: float = 1.0,
) -> GenerativeTraining:
    """Descends the negative evidence lower bound by AdamW, its learning rate falling along a cosine to 0.

    Args:
      encoder, decoder, likelihood, scale, divergence_weight: as in `negative_elbo`.
      total_steps: of the training.
      learning_rate: the first.

    Raises:
      ValueError: as `negative_elbo`, or a learning rate that is not positive.
    """
    transform = optimizer(learning_rate, total_steps)
    loss = negative_elbo(encoder, decoder, likelihood, scale, divergence_weight)

    def init(key: Array, image_shape: tuple[int, int, int]) -> TrainState:
        encoder_key, decoder_key = jax.random.split(key)
        params = {"encoder": encoder.init(encoder_key, image_shape), "decoder": decoder.init(decoder_key, image_shape)}
        return minimise.init_state(params, transform)

    return GenerativeTraining(init, minimise.make_train_step(loss, transform), lambda state: state.params["decoder"])
