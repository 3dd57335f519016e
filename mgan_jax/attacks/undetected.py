"""A generator of adversarial images that learns to pass detectors too: how MGAN meets the others than mutation testing."""

from collections.abc import Callable

import jax.numpy as jnp

from mgan_jax.attacks.entry import finite_gradient
from mgan_jax.types import Array, GenerativeAttack, GeneratorStep, Variables


def undetected(
    attack: GenerativeAttack, excess: Callable[[Variables, Array], Array], weight: float = 1.0, margin: float = 0.1
) -> GenerativeAttack:
    """Adds weight * mean over x' of sum_d max(0, excess_d(x') + margin) to the generator's loss of AdvGAN or MGAN.

    The hinge leaves images alone that pass a detector by the margin already, so that it costs success and distance only where it
    sees something (the loss of a detector in Carlini and Wagner 2017, arXiv:1705.07263, for a generator in place of an image).
    Each detector has one of its own: the largest excess alone would teach a batch about one detector at a time.

    Defaults: both ours.

    Args:
      attack: AdvGAN or MGAN.
      excess: `(variables, images [B, H, W, C]) -> [D, B]`, by how much the score of each of D detectors exceeds its threshold,
        differentiable, in units that make them comparable. The detectors' state is bound to it.
      weight: of the term.
      margin: below the threshold, in units of `excess`, since unseen images score higher than those learned from.

    Returns:
      A `GenerativeAttack` whose metrics add `detected`, the share of images that some detector does not let pass.

    Raises:
      ValueError: a weight that is not positive, or a negative margin.
    """
    if not weight > 0 or margin < 0:
        raise ValueError(f"weight is {weight}, margin {margin}; choose a weight > 0 and a margin >= 0")

    def generator_loss(generator, state, key, step, variables, images, labels) -> tuple[Array, GeneratorStep]:
        loss, done = attack.generator_loss(generator, state, key, step, variables, images, labels)
        above = excess(variables, finite_gradient(done.adversarial))
        # What a detector cannot say of an image teaches nothing.
        above = jnp.where(jnp.isfinite(above), above, -margin)
        total = loss + weight * jnp.maximum(above + margin, 0.0).sum(0).mean()
        return total, done._replace(metrics={**done.metrics, "loss": total, "detected": (above > 0).any(0).mean()})

    return attack._replace(generator_loss=generator_loss)
