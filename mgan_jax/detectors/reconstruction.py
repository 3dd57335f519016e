"""An auxiliary decoder that reconstructs the image from the network's logits: what was said has to look like what was seen."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import engine
from mgan_jax.detectors.entry import checked
from mgan_jax.inputs import exact
from mgan_jax.types import ApplyFn, Array, Detector, Network, Train, Variables


def reconstructed(apply_fn: ApplyFn, decoder: Network, variables: Variables, state: dict[str, Any], images: Array) -> Array:
    """What the decoder makes of the logits of images [B, H, W, C], in their shape; `state` is that of `reconstruction`."""
    return decoder.apply(state["decoder"], _codes(state, apply_fn(variables, images)))


def _codes(state: dict[str, Any], logits: Array) -> Array:
    """Logits [B, num_classes] with mean 0 and deviation 1 in every class, as on the images of `fit`."""
    return (exact(logits) - state["mean"][None]) / state["deviation"][None]


def reconstruction(apply_fn: ApplyFn, decoder: Network, train: Train) -> Detector:
    """||x - d(f(x))||^2 / size, d trained to minimise it on clean images, f(x) the logits: a one-class score.

    An adversarial image gets logits of another class, from which d makes a picture of that class. Logits reach the decoder
    standardised by their mean and deviation on the images of `fit`.

    Args:
      apply_fn: the network f.
      decoder: d, `init(key, image_shape)` and `apply(variables, codes [B, num_classes]) -> [B, H, W, C]`, its codes as long as
        there are classes.
      train: how it is trained; the training is named "reconstruction".

    Returns:
      A `Detector`; `score` gives [B], the mean squared error, and can be jitted and differentiated. The state holds the decoder's
      variables as `decoder`, and `mean` and `deviation`, [num_classes], of the logits.
    """

    def loss(params: Variables, key: Array, step: Array, codes: Array, images: Array) -> tuple[Array, dict[str, Array]]:
        del key, step
        return jnp.square(decoder.apply(params, codes) - images).mean(), {}

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict[str, Any]:
        del labels
        init_key, train_key = jax.random.split(key)
        logits = np.asarray(exact(engine.logits(apply_fn, variables, np.asarray(images))))
        scale = {"mean": jnp.asarray(logits.mean(0)), "deviation": jnp.asarray(np.maximum(logits.std(0), 1e-6))}
        start = decoder.init(init_key, images.shape[1:])
        return {**scale, "decoder": train(train_key, "reconstruction", start, loss, (_codes(scale, logits), images))}

    def score(variables: Variables, state: dict[str, Any], images: Array) -> Array:
        made = reconstructed(apply_fn, decoder, variables, state, images)
        return jnp.square(exact(images) - made).mean((1, 2, 3))

    return checked(Detector(fit, score))
