"""Which pixels a network's answer hangs on: gradients of a class's logit.

Each factory returns `explain(key, variables, images [B, H, W, C], labels [B]) -> [B, H, W, C]`, a plain function that can be
jitted: how much the logit of `labels` would rise with each value. It raises ValueError for arrays that `inputs` refuses.
"""

from collections.abc import Callable

import jax

from mgan_jax.inputs import as_batch, as_images
from mgan_jax.types import ApplyFn, Array, Variables

Explain = Callable[[Array, Variables, Array, Array], Array]


def gradient(apply_fn: ApplyFn) -> Explain:
    """The gradient itself (Simonyan, Vedaldi and Zisserman 2014, arXiv:1312.6034); its absolute value is their saliency map."""

    def explain(key: Array, variables: Variables, images: Array, labels: Array) -> Array:
        del key
        variables, images, labels, _ = as_batch(apply_fn, variables, images, labels)
        if not len(images):
            return images

        def logit(x: Array) -> Array:
            logits = apply_fn(variables, x)
            return (logits * jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)).sum()

        return jax.grad(logit)(images)

    return explain


def gradient_times_input(apply_fn: ApplyFn) -> Explain:
    """Gradient times input (Shrikumar et al. 2016, arXiv:1605.01713); over a linear network without bias it sums to the logit."""
    inner = gradient(apply_fn)
    return lambda key, variables, images, labels: as_images(images) * inner(key, variables, images, labels)


def smooth_grad(apply_fn: ApplyFn, num_samples: int = 50, noise_level: float = 0.15) -> Explain:
    """SmoothGrad (Smilkov et al. 2017, arXiv:1706.03825): the mean gradient at noisy copies of the image.

    Args:
      apply_fn: the network.
      num_samples: n, copies.
      noise_level: sigma / (x_max - x_min), the noise's standard deviation over the image's own range of values.

    Raises:
      ValueError: no copy, or a noise level below 0.
    """
    if num_samples < 1 or not noise_level >= 0:
        raise ValueError(f"num_samples is {num_samples}, noise_level {noise_level}; choose at least 1, and >= 0")
    inner = gradient(apply_fn)

    def explain(key: Array, variables: Variables, images: Array, labels: Array) -> Array:
        variables, images, labels, _ = as_batch(apply_fn, variables, images, labels)
        axes = (1, 2, 3)
        sigma = noise_level * (images.max(axes, keepdims=True) - images.min(axes, keepdims=True))

        def one(i: Array, total: Array) -> Array:
            noise_key, inner_key = jax.random.split(jax.random.fold_in(key, i))
            noisy = images + sigma * jax.random.normal(noise_key, images.shape, images.dtype)
            return total + inner(inner_key, variables, noisy, labels)

        return jax.lax.fori_loop(0, num_samples, one, 0 * images) / num_samples

    return explain
