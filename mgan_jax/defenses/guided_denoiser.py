"""Denoisers guided by pixels or by what the target sees (Liao et al. 2018, arXiv:1712.02976)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mgan_jax.defenses.purification import purifying
from mgan_jax.types import ApplyFn, Array, Attack, Defense, Network, Train, Variables

GUIDES = ("logits", "pixels")


def guided_denoiser(
    apply_fn: ApplyFn, network: Network, train: Train, attack: Attack | Sequence[Attack], guide: str = "logits"
) -> Defense:
    """x_hat = clip(x* - dx(x*)), trained on adversarial images x* to undo what made them.

    Guided by logits (LGD) the loss is the mean of |f(x_hat) - f(x)|, f the target's logits, the target fixed; guided by pixels
    (PGD in the paper's words) of |x_hat - x|. The paper attacks its training images once; here every step attacks its batch
    anew. It prefers the logits: what is left of a perturbation's pixels grows from layer to layer of the target.

    Args:
      apply_fn: the target f.
      network: dx, as `models.unet`.
      train: trains the `denoiser`.
      attack: on the target, undefended, makes x*; of several, in the paper of FGSM and iterated FGSM with many epsilons, one is
        drawn in every step. One with epsilon 0 among them shows it clean images.
      guide: "logits" or "pixels".

    Returns:
      A `Defense` whose state is the denoiser's variables. Its derivative is the true one, so that attacks on `apply` know it.

    Raises:
      ValueError: another guide, or no attack.
    """
    if guide not in GUIDES:
        raise ValueError(f"guide is {guide!r}; choose one of {', '.join(GUIDES)}")
    attacks = (attack,) if callable(attack) else tuple(attack)
    if not attacks:
        raise ValueError("attack is an empty sequence; choose at least one")

    def denoise(denoiser: Variables, images: Array) -> Array:
        return jnp.clip(images - network.apply(denoiser, images), 0.0, 1.0)

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> Variables:
        init_key, train_key = jax.random.split(key)

        def loss(denoiser, key, step, images, labels):
            draw_key, attack_key = jax.random.split(jax.random.fold_in(key, step))
            branches = [lambda *arguments, one=one: one(*arguments).adversarial for one in attacks]
            drawn = jax.random.randint(draw_key, (), 0, len(attacks), jnp.int32)
            adversarial = jax.lax.switch(drawn, branches, attack_key, variables, images, labels)
            denoised = denoise(denoiser, jax.lax.stop_gradient(adversarial))
            if guide == "pixels":
                return jnp.abs(denoised - images).mean(), {}
            return jnp.abs(apply_fn(variables, denoised) - apply_fn(variables, images)).mean(), {}

        return train(train_key, "denoiser", network.init(init_key, images.shape[1:]), loss, (images, labels))

    def purify(variables: Variables, images: Array) -> Array:
        return denoise(variables["defense"], images)

    return purifying(apply_fn, fit, purify, differentiable=True, reads_labels=True)
