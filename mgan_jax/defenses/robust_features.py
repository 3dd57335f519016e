"""Training on the features of a robust network alone (Ilyas et al. 2019, arXiv:1905.02175)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.defenses.retraining import learn_afresh, replacing
from mgan_jax.types import ApplyFn, Array, Classifier, Defense, Train, Variables


def robust_images(features: ApplyFn, num_steps: int = 1000, step_size: float = 0.1) -> Callable[[Variables, Array, Array], Array]:
    """min over x_r in [0, 1] of ||g(x_r) - g(x)||_2, by gradient descent with steps of fixed length in L2.

    Of x, x_r shares what a robust network's last hidden layer g sees; what g does not see stays as it was in the image that the
    descent started from.

    Args:
      features: g, `(variables, images) -> [B, F]`.
      num_steps: of gradient descent.
      step_size: the 2-norm of a step, in units of pixels in [0, 1]; less where the bounds cut it.

    Returns:
      `rebuild(variables, starts [B, H, W, C], images [B, H, W, C]) -> x_r [B, H, W, C]`; `variables` are g's.

    Raises:
      ValueError: steps that are not positive.
    """
    if num_steps < 1 or not step_size > 0:
        raise ValueError(f"num_steps is {num_steps}, step_size {step_size}; both must be positive")

    def rebuild(variables: Variables, starts: Array, images: Array) -> Array:
        goal = features(variables, images)
        # The square has the same direction of descent, and a derivative at 0.
        gradient_of = jax.grad(lambda x: jnp.square(features(variables, x) - goal).sum())

        def one(_, x: Array) -> Array:
            gradient = gradient_of(x)
            length = jnp.sqrt(jnp.square(gradient).sum((1, 2, 3), keepdims=True))
            return jnp.clip(x - step_size * gradient / jnp.where(length > 0, length, 1.0), 0.0, 1.0)

        return jax.lax.fori_loop(0, num_steps, one, starts)

    return rebuild


def robust_features(
    features: ApplyFn,
    classifier: Classifier,
    train: Train,
    num_steps: int = 1000,
    step_size: float = 0.1,
    batch_size: int = 500,
) -> Defense:
    """Rebuilds every training image x from a robust network's features, then trains a fresh classifier on these as usual.

    x_r starts at another training image, drawn at random, and takes on the robust features of x (`robust_images`);
    it keeps the label of x. Features of the start that the robust network does not see are thereby paired with random labels,
    and training has no reason to use them: the classifier is robust to some degree though it never sees an attack.

    The target of this defense IS the robust network, adversarially trained beforehand: `fit` gets its variables.

    Args:
      features: of the robust network, its last hidden layer, `(variables, images) -> [B, F]`.
      classifier: the fresh network, of any architecture.
      train: trains the `classifier`.
      num_steps, step_size: of `robust_images`; 1000 and .1 are the authors', for CIFAR-10.
      batch_size: images that are rebuilt at once.

    Returns:
      A `Defense` whose state is the classifier's variables.

    Raises:
      ValueError: steps or a batch size that are not positive.
    """
    rebuild = jax.jit(robust_images(features, num_steps, step_size))
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; choose it >= 1")

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> Variables:
        order_key, learn_key = jax.random.split(key)
        starts = np.asarray(images)[np.asarray(jax.random.permutation(order_key, len(images)))]
        slices = [slice(start, start + batch_size) for start in range(0, len(images), batch_size)]
        rebuilt = [np.asarray(rebuild(variables, jnp.asarray(starts[s]), jnp.asarray(images[s]))) for s in slices]
        return learn_afresh(learn_key, "classifier", classifier, train, np.concatenate(rebuilt), labels)

    return replacing(classifier, fit)
