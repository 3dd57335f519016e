"""PixelDefend (Song et al. 2018, arXiv:1710.10766): images are moved to where a density of clean ones is high."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.defenses.purification import purifying
from mgan_jax.types import ApplyFn, Array, Autoregressive, Defense, Train, Variables


def pixel_defend(
    apply_fn: ApplyFn,
    density: Autoregressive,
    train: Train,
    epsilon: float = 0.3,
    unchanged: float | None = None,
    batch_size: int = 500,
) -> Defense:
    """Value by value in raster order, x_i <- argmax of p(v | purified values before) over |v - x_i| <= epsilon (algorithm 1).

    v are the density's grey levels. Attacks get the identity's derivative: the argmax has none.

    Args:
      apply_fn: the target.
      density: as `models.pixel_cnn`, with `init`, `apply`, `log_likelihood`, `rewrite` and `num_levels`.
      train: trains the `density` by maximum likelihood; its loss is in bits per dimension.
      epsilon: radius of the L-inf ball in which an image is purified, in units of pixels in [0, 1]; .3 for the attacks on MNIST,
        where the authors, on other sets, have 16 / 255 and 32 / 255.
      unchanged: where given, the share of training images, the likeliest, that would be left as they are, as is every image at
        least as likely (the authors' adaptive form: clean images shall pass); None: all are purified.
      batch_size: images at once when the training images' likelihoods are taken.

    Returns:
      A `Defense`; its state holds the `density`'s variables and, where some are left, the `threshold`, a log-likelihood in nats.

    Raises:
      ValueError: an epsilon above 1, or so small that a ball may hold no level; a share outside (0, 1); a batch size below 1.
    """
    half = 0.5 / (density.num_levels - 1)
    if not half <= epsilon <= 1:
        raise ValueError(f"epsilon is {epsilon}; choose it from {half:.4g}, half a grey level's step, to 1")
    if unchanged is not None and not 0 < unchanged < 1:
        raise ValueError(f"unchanged is {unchanged}; choose a share between 0 and 1, or None")
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; choose it >= 1")
    likelihood = jax.jit(density.log_likelihood)

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict[str, Any]:
        del variables, labels
        init_key, train_key = jax.random.split(key)
        dimensions = float(np.log(2) * np.prod(images.shape[1:]))

        def loss(params, key, step, images):
            del key, step
            return -density.log_likelihood(params, images).mean() / dimensions, {}

        learned = train(train_key, "density", density.init(init_key, images.shape[1:]), loss, (jnp.asarray(images),))
        if unchanged is None:
            return {"density": learned}
        starts = range(0, len(images), batch_size)
        found = [likelihood(learned, jnp.asarray(images[start : start + batch_size])) for start in starts]
        return {"density": learned, "threshold": jnp.quantile(jnp.concatenate(found), 1 - unchanged)}

    def choose(log_probabilities: Array, values: Array) -> Array:
        levels = jnp.linspace(0.0, 1.0, density.num_levels)
        # A step's half more or less is rounding: the nearest level is always within.
        near = jnp.abs(levels[None] - values[:, None]) <= epsilon + 1e-6
        return jnp.where(near, log_probabilities, -jnp.inf).argmax(-1)

    def purify(variables: Variables, images: Array) -> Array:
        state = variables["defense"]
        purified = density.rewrite(state["density"], images, choose)
        if unchanged is None:
            return purified
        kept = density.log_likelihood(state["density"], images) >= state["threshold"]
        return jnp.where(kept[:, None, None, None], images, purified)

    return purifying(apply_fn, fit, purify)
