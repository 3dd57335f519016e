"""Patches that look like samples of a set: the patch of Brown et al. 2017 (arXiv:1712.09665), drawn by a GAN's generator."""

import jax
import jax.numpy as jnp
import optax

from mgan_jax.attacks.adversarial_patch import patch_loss
from mgan_jax.attacks.entry import checked_fit, checked_learned, finite_gradient, matched
from mgan_jax.attacks.placing import check_patch, draw_places, place
from mgan_jax.attacks.result import attack_result, learned_targets
from mgan_jax.inputs import as_images
from mgan_jax.losses import least_squares
from mgan_jax.types import ApplyFn, Array, AttackResult, LearnedAttack, Network, Variables


def crops(key: Array, samples: Array, number: int, size: int) -> Array:
    """Squares [number, size, size, C] of drawn samples [S, H, W, C], at drawn places; `key` is consumed."""
    row_key, place_key = jax.random.split(key)
    rows = jax.random.randint(row_key, (number,), 0, samples.shape[0])
    room = jnp.array([samples.shape[1] - size, samples.shape[2] - size])
    corners = jax.random.randint(place_key, (number, 2), 0, room[None] + 1)
    cut = lambda row, corner: jax.lax.dynamic_slice(  # noqa: E731
        samples, (row, corner[0], corner[1], 0), (1, size, size, samples.shape[-1])
    )[0]
    return jax.vmap(cut)(rows, corners)


def adversarial_patch_generator(
    apply_fn: ApplyFn,
    generator: Network,
    discriminator: Network,
    gan_weight: float = 1.0,
    area: float | tuple[float, float] = 0.1,
    shape: str = "square",
    max_rotation: float = 22.5,
    target_label: int | None = None,
    patch_size: int = 8,
    num_steps: int = 2000,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
) -> LearnedAttack:
    """G(z) minimises L_patch + gan_weight L_GAN, while D learns to tell G(z) from crops of the samples.

    L_patch is that of `adversarial_patch`, with a patch of its own for every image; L_GAN is the least-squares loss (Mao et al.
    2017): (D(G(z)) - 1)^2 for G, ((D(crop) - 1)^2 + D(G(z))^2) / 2 for D. z is uniform in [0, 1].

    How strong it is depends on the networks that are given and on how long they are trained.

    Defaults: max_rotation is that of `adversarial_patch`; the others are ours, as the method is.

    Args:
      apply_fn: the target.
      generator: noise [B, P, P, C] -> patches of the same shape, cut to [0, 1], as `models.autoencoder` with a sigmoid.
      discriminator: patches [B, P, P, C] -> scores [B], as `models.discriminator`.
      gan_weight: how much the look counts beside the attack; 0 leaves the attack alone.
      area, shape, max_rotation, target_label: as of `adversarial_patch`.
      patch_size: P, pixels of patches and crops.
      num_steps, batch_size, learning_rate: of both networks' Adam (b1 = 0.5).

    Returns:
      A `LearnedAttack`; `fit(key, variables, images, labels, samples=None)` with samples [S, H, W, C] in [0, 1], H and W at
      least P, or else the images themselves. The state holds both networks' variables as `generator` and `discriminator`; an
      attack draws a patch and a place for every image.

    Raises:
      ValueError: a weight, area, shape, angle, size or rate that makes no sense; in `fit`, a target_label that is no class, or
        samples smaller than a patch.
    """
    areas = check_patch(area, shape, max_rotation)
    if not gan_weight >= 0:
        raise ValueError(f"gan_weight is {gan_weight}; choose it >= 0")
    if patch_size < 1 or num_steps < 1 or batch_size < 1 or not learning_rate > 0:
        raise ValueError(
            f"patch_size is {patch_size}, num_steps {num_steps}, batch_size {batch_size}, learning_rate {learning_rate}; "
            "all must be positive"
        )
    apply_fn = matched(apply_fn)

    def made(key: Array, variables: Variables, number: int, channels: int) -> Array:
        noise = jax.random.uniform(key, (number, patch_size, patch_size, channels))
        return jnp.clip(generator.apply(variables, noise), 0.0, 1.0)

    def placed(key: Array, patches: Array, images: Array) -> Array:
        places = draw_places(key, images.shape[0], images.shape[1:], areas, shape, max_rotation)
        return place(patches, images, places, shape)[0]

    def fit(key: Array, variables, images: Array, labels: Array, samples: Array | None = None) -> dict:
        samples = images if samples is None else as_images(samples, "samples")
        channels, number = images.shape[-1], min(batch_size, images.shape[0])
        if min(samples.shape[1:3]) < patch_size or samples.shape[-1] != channels:
            raise ValueError(
                f"samples is of the shape {samples.shape}; choose {channels} channels and at least {patch_size} pixels"
            )
        generator_key, discriminator_key, step_key = jax.random.split(key, 3)
        optimizer = optax.adam(learning_rate, b1=0.5)

        def generator_loss(players, draw_key, x, y):
            noise_key, place_key = jax.random.split(draw_key)
            patches = made(noise_key, players["generator"], number, channels)
            shown = finite_gradient(placed(place_key, patches, x))
            fooling = patch_loss(apply_fn(variables, shown), y, target_label).mean()
            judge = jax.lax.stop_gradient(players["discriminator"])
            return fooling + gan_weight * least_squares(discriminator.apply(judge, patches), 1.0), patches

        def loss(players, crop_key, draw_key, x, y):
            """Of both: each player has a gradient of its own part alone."""
            total, patches = generator_loss(players, draw_key, x, y)
            fake = discriminator.apply(players["discriminator"], jax.lax.stop_gradient(patches))
            real = discriminator.apply(players["discriminator"], crops(crop_key, samples, number, patch_size))
            return total + (least_squares(real, 1.0) + least_squares(fake, 0.0)) / 2

        def one(step, carry):
            players, opt_state = carry
            row_key, crop_key, draw_key = jax.random.split(jax.random.fold_in(step_key, step), 3)
            rows = jax.random.randint(row_key, (number,), 0, images.shape[0])
            gradient = jax.grad(loss)(players, crop_key, draw_key, images[rows], labels[rows])
            updates, opt_state = optimizer.update(gradient, opt_state, players)
            return optax.apply_updates(players, updates), opt_state

        shape_of_patch = (patch_size, patch_size, channels)
        players = {
            "generator": generator.init(generator_key, shape_of_patch),
            "discriminator": discriminator.init(discriminator_key, shape_of_patch),
        }
        return jax.lax.fori_loop(0, num_steps, one, (players, optimizer.init(players)))[0]

    def attack(state, key, variables, images, labels, targets=None) -> AttackResult:
        targets = learned_targets(targets, target_label, labels)
        noise_key, place_key = jax.random.split(key)
        patches = made(noise_key, state["generator"], images.shape[0], images.shape[-1])
        # Interpolating between ones can round to a little more.
        adversarial = jnp.clip(placed(place_key, patches, images), 0.0, 1.0)
        return attack_result(apply_fn, variables, images, adversarial, labels, targets)

    return LearnedAttack(checked_fit(apply_fn, fit), checked_learned(apply_fn, attack))
