"""Gradients averaged over noise, which transfer to other networks (Wu et al. 2018, arXiv:1802.09707)."""

from collections.abc import Sequence

import jax

from mgan_jax.attacks.pgd import pgd
from mgan_jax.losses import margin
from mgan_jax.types import ApplyFn, Array, Attack, Variables


def variance_reduced_gradient(
    apply_fn: ApplyFn,
    epsilon: float | Sequence[float] = 0.3,
    num_steps: int = 40,
    step_size: float | str | None = "published",
    scale: float = 0.3,
    num_samples: int = 6,
    norm: str = "linf",
) -> Attack:
    """`pgd` along the mean of grad J(x + xi), xi ~ N(0, scale^2), J = max_{i != y} z_i - z_y; drawn anew in every step.

    The noise averages out what is the attacked network's own, and leaves more of what others share. J is ours, where the paper
    has the cross-entropy: its gradient does not vanish where the network is certain. With `targets` the mean of
    max_{i != t} z_i - z_t is descended.

    Defaults: those of `pgd`; scale and num_samples are ours (the paper, on ImageNet: 15/255 and 20).

    Args:
      apply_fn: the network whose gradients are taken, a substitute where the images are to transfer.
      epsilon, num_steps, step_size, norm: as in `pgd`.
      scale: sigma, in units of pixels in [0, 1].
      num_samples: m, gradients a step.

    Raises:
      ValueError: a negative scale, no sample, or as in `pgd`.
    """
    if not scale >= 0 or num_samples < 1:
        raise ValueError(f"scale is {scale}, num_samples {num_samples}; choose >= 0 and >= 1")

    def loss(key: Array, step: Array, variables: Variables, images: Array, logits: Array, goal: Array) -> Array:
        del logits
        keys = jax.random.split(jax.random.fold_in(key, step), num_samples)

        def one(noise_key):
            noise = jax.random.normal(noise_key, images.shape, images.dtype)
            return -margin(apply_fn(variables, images + scale * noise), goal)

        return jax.lax.map(one, keys).mean(0)

    attack = pgd(apply_fn, epsilon, num_steps, step_size, loss=loss, norm=norm)

    def counted(key, variables, images, labels, targets=None):
        result = attack(key, variables, images, labels, targets)
        return result._replace(used=result.used * num_samples)

    return counted
