"""The terms of L = L_adv + alpha L_GAN + beta L_mutate, and their relatives; pure, each a mean over the batch."""

import jax
import jax.numpy as jnp
import optax

from mgan_jax.types import Array


def margin(logits: Array, labels: Array) -> Array:
    """z_y - max over i != y of z_i, [B]: how far the decision is from leaving class y.

    Args:
      logits: [B, num_classes], of any sign.
      labels: [B] int.
    """
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0] - jnp.where(own, -jnp.inf, logits).max(-1)


def untargeted_hinge(logits: Array, labels: Array, kappa: Array | float = 0.0) -> Array:
    """L_adv = max(z_y - max_{i != y} z_i, -kappa) (Carlini & Wagner 2017, f_6, with the true class to leave)."""
    return jnp.maximum(margin(logits, labels), -kappa).mean()


def targeted_hinge(logits: Array, targets: Array, kappa: Array | float = 0.0) -> Array:
    """L_adv = max(max_{i != t} z_i - z_t, -kappa) (Carlini & Wagner 2017, f_6)."""
    return jnp.maximum(-margin(logits, targets), -kappa).mean()


def least_squares(scores: Array, goal: float) -> Array:
    """(D(x) - goal)^2 (Mao et al. 2017): goal 1 for what shall pass as real, 0 for what shall not; scores [B]."""
    return jnp.square(scores - goal).mean()


def norm_hinge(perturbations: Array, bound: float) -> Array:
    """max(0, ||G(x)||_2 - c) (Xiao et al. 2018, equation 3); perturbations [B, H, W, C], c in units of pixels in [0, 1]."""
    squares = jnp.square(perturbations).reshape(perturbations.shape[0], -1).sum(-1)
    return jnp.maximum(jnp.sqrt(squares + 1e-12) - bound, 0.0).mean()


def disagreement(mutant_logits: Array, decisions: Array) -> Array:
    """L_mutate of one mutant, [B]: cross-entropy between its softmax and the target's own decisions.

    Args:
      mutant_logits: [B, num_classes].
      decisions: [B] int, what the target answers on the very images tested.
    """
    return optax.softmax_cross_entropy_with_integer_labels(mutant_logits, decisions)
