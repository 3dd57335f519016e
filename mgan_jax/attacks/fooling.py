"""Rubbish class examples: noise that a network is sure of (Goodfellow et al. 2015, arXiv:1412.6572; Nguyen et al. 2015,
arXiv:1412.1897)."""

import jax
import jax.numpy as jnp

from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult


def noise(key: Array, shape: tuple[int, ...], mean: float = 0.5, std: float = 0.25, bounds: bool = True) -> Array:
    """Isotropic Gaussian noise N(mean, std^2), the images to start from; `key` is consumed.

    Args:
      key: of the draw.
      shape: (B, H, W, C).
      mean, std: in units of pixels in [0, 1]; Goodfellow et al. draw N(0, 1).
      bounds: whether the draw is cut to [0, 1].
    """
    drawn = mean + std * jax.random.normal(key, shape)
    return jnp.clip(drawn, 0.0, 1.0) if bounds else drawn


def shares(logits: Array, classes: Array, confidence: float = 0.5) -> tuple[Array, Array]:
    """How many fooling images of each class reach their class.

    Args:
      logits: [B, num_classes] of the images that an attack returned.
      classes: [B] the class wanted of each.
      confidence: least probability of that class that counts.

    Returns:
      (shares [num_classes], hardest), the share of the images aimed at a class that reach it, NaN for a class that none aims
      at, and the class of the smallest share.
    """
    aimed = jax.nn.one_hot(classes, logits.shape[-1])
    reached = jnp.take_along_axis(jax.nn.softmax(logits), classes[:, None], axis=-1) >= confidence
    share = (aimed * reached).sum(0) / aimed.sum(0)
    return share, jnp.where(jnp.isnan(share), jnp.inf, share).argmin()


def fooling(
    apply_fn: ApplyFn, step_size: float = 0.25, num_steps: int = 1, confidence: float = 0.5, bounds: bool = True
) -> Attack:
    """x <- x + step_size sign(grad p(y = i | x)) from noise, until p(y = i | x) >= confidence; each image stops by itself.

    `images` are the starting points (`noise` draws some) and `targets` the classes i, by default the labels. One step is the
    experiment of Goodfellow et al., many small ones (200 of .01) that of Nguyen et al. by gradient. Returned is the first
    iterate that is sure enough, or where there is none, the surest.

    Noise has no true class. `success` has its common definition nevertheless: give the target's own decisions on the noise as
    `labels` and it says that the decision was moved to another class, the target. Of images aimed at their own label it is
    False by that definition; what is wanted of fooling images is in `logits`, and `shares` sums it up.

    Defaults: one step and a confidence of 0.5 are Goodfellow et al.'s; the size of the step is ours.

    Args:
      apply_fn: the target.
      step_size: of each step, in units of pixels in [0, 1].
      num_steps: the most steps an image gets.
      confidence: probability of the class at which an image stops.
      bounds: whether steps are cut to [0, 1]. If not, nothing is, and what is returned leaves [0, 1] as the noise may.

    Raises:
      ValueError: steps that are not positive, or a confidence outside of (0, 1).
    """
    if num_steps < 1 or not 0 < step_size < float("inf"):
        raise ValueError(f"num_steps is {num_steps}, step_size {step_size}; both must be positive and finite")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; choose it between 0 and 1, without them")
    apply_fn = matched(apply_fn)

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        del key
        classes = labels if targets is None else targets

        def log_probability(x):
            # Its gradient has the sign of that of p, and is no zero where p is.
            own = jax.nn.log_softmax(apply_fn(variables, x))
            own = jnp.take_along_axis(own, classes[:, None], axis=-1)[:, 0]
            return own.sum(), own

        def keep(x, own, best, best_own):
            return choose(own > best_own, (x, own), (best, best_own))

        def going(best_own):
            return best_own < jnp.log(confidence)

        def one(carry):
            step, x, best, best_own, used = carry
            gradient, own = jax.grad(log_probability, has_aux=True)(x)
            best, best_own = keep(x, own, best, best_own)
            active = going(best_own)
            moved = x + step_size * jnp.sign(gradient)
            moved = jnp.clip(moved, 0.0, 1.0) if bounds else moved
            return step + 1, choose(active, moved, x), best, best_own, used + active

        start = images, jnp.full(labels.shape, -jnp.inf, images.dtype), jnp.zeros(labels.shape, jnp.int32)
        unfinished = lambda carry: (carry[0] < num_steps) & going(carry[3]).any()  # noqa: E731
        _, last, *best, used = jax.lax.while_loop(unfinished, one, (0, images, *start))
        best, _ = keep(last, log_probability(last)[1], *best)
        return attack_result(apply_fn, variables, images, best, labels, targets, used)

    return checked(apply_fn, attack, bounded=bounds)
