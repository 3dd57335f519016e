"""Adversarial patch (Brown et al. 2017, arXiv:1712.09665): one image to lay on any other, anywhere."""

import math

import jax
import jax.numpy as jnp
import optax

from mgan_jax.attacks.entry import checked_fit, checked_learned, finite_gradient, matched
from mgan_jax.attacks.placing import check_patch, draw_places, place, side_of
from mgan_jax.attacks.result import attack_result, learned_targets
from mgan_jax.losses import log_odds
from mgan_jax.types import ApplyFn, Array, AttackResult, LearnedAttack


def patch_loss(logits: Array, labels: Array, target_label: int | None) -> Array:
    """-log Pr(t | x') of class t, or without one -log(1 - Pr(y | x')), [B].

    Raises:
      ValueError: there is no class t.
    """
    if target_label is None:
        return jax.nn.softplus(log_odds(logits, labels))
    if not 0 <= target_label < logits.shape[-1]:
        raise ValueError(f"target_label is {target_label}; choose one of the classes 0 to {logits.shape[-1] - 1}")
    return jax.nn.softplus(-log_odds(logits, jnp.full_like(labels, target_label)))


def adversarial_patch(
    apply_fn: ApplyFn,
    area: float | tuple[float, float] = 0.1,
    shape: str = "round",
    max_rotation: float = 22.5,
    target_label: int | None = None,
    patch_size: int | None = None,
    num_steps: int = 500,
    batch_size: int = 32,
    learning_rate: float = 0.05,
) -> LearnedAttack:
    """p = argmax E over x, t, l of log Pr(y_t | A(p, x, l, t)): A lays p on x at place l, turned and scaled by t (equation 1).

    Places, angles and areas are drawn uniformly, so that the whole patch lies in the image, when learning and when attacking;
    what is not covered stays as it is. Adam climbs, p is cut to [0, 1] after every step. Untargeted, log(1 - Pr(y | ...)) of the
    true class y is climbed instead (ours).

    How strong it is depends on the share of an image that it may cover, and on the images that it is learned on.

    Defaults: max_rotation and num_steps are those of the authors' code, which takes batches of 16 and plain gradient descent of
    rate 5.0 on patches scaled from 0.3; the others are ours.

    Args:
      apply_fn: the target.
      area: share of the image that the patch covers, or the smallest and the largest share.
      shape: "round" or "square".
      max_rotation: degrees to either side.
      target_label: the class to reach; None: any but the true one.
      patch_size: pixels P of p; None: as many as its largest side covers of an image, rounded up.
      num_steps, batch_size, learning_rate: of Adam.

    Returns:
      A `LearnedAttack`; the state holds the `patch` [P, P, C] in [0, 1]. Unbounded: a covered pixel changes as it likes.

    Raises:
      ValueError: an area, shape, angle, size or rate that makes no sense; in `fit`, a target_label that is no class.
    """
    areas = check_patch(area, shape, max_rotation)
    if (patch_size is not None and patch_size < 1) or num_steps < 1 or batch_size < 1 or not learning_rate > 0:
        raise ValueError(
            f"patch_size is {patch_size}, num_steps {num_steps}, batch_size {batch_size}, learning_rate {learning_rate}; "
            "all must be positive"
        )
    apply_fn = matched(apply_fn)

    def placed(key: Array, patch: Array, images: Array) -> Array:
        places = draw_places(key, images.shape[0], images.shape[1:], areas, shape, max_rotation)
        return place(patch, images, places, shape)[0]

    def fit(key: Array, variables, images: Array, labels: Array) -> dict:
        start_key, step_key = jax.random.split(key)
        size = patch_size or math.ceil(side_of(areas[1], shape, images.shape[1:]))
        number, optimizer = min(batch_size, images.shape[0]), optax.adam(learning_rate)

        def loss(patch, place_key, x, y):
            return patch_loss(apply_fn(variables, finite_gradient(placed(place_key, patch, x))), y, target_label).mean()

        def one(step, carry):
            patch, opt_state = carry
            row_key, place_key = jax.random.split(jax.random.fold_in(step_key, step))
            rows = jax.random.randint(row_key, (number,), 0, images.shape[0])
            updates, opt_state = optimizer.update(jax.grad(loss)(patch, place_key, images[rows], labels[rows]), opt_state)
            return jnp.clip(optax.apply_updates(patch, updates), 0.0, 1.0), opt_state

        start = jax.random.uniform(start_key, (size, size, images.shape[-1]), images.dtype)
        return {"patch": jax.lax.fori_loop(0, num_steps, one, (start, optimizer.init(start)))[0]}

    def attack(state, key, variables, images, labels, targets=None) -> AttackResult:
        targets = learned_targets(targets, target_label, labels)
        # Interpolating between ones can round to a little more.
        adversarial = jnp.clip(placed(key, state["patch"], images), 0.0, 1.0)
        return attack_result(apply_fn, variables, images, adversarial, labels, targets)

    return LearnedAttack(checked_fit(apply_fn, fit), checked_learned(apply_fn, attack))
