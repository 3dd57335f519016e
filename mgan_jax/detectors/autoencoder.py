"""MagNet's detector (Meng and Chen 2017, arXiv:1705.09064): how far an image lies from what an autoencoder makes of it."""

import jax
import jax.numpy as jnp

from mgan_jax.detectors.entry import checked
from mgan_jax.inputs import exact
from mgan_jax.types import ApplyFn, Array, Detector, Network, Train, Variables

DISTANCES = ("l1", "l2", "jensen_shannon")


def jensen_shannon(logits: Array, others: Array) -> Array:
    """Jensen-Shannon divergence of two softmaxes in nats, [B], from 0 to log 2; both [B, num_classes] of logits."""
    log_p, log_q = (jax.nn.log_softmax(exact(x)) for x in (logits, others))
    log_m = jnp.logaddexp(log_p, log_q) - jnp.log(2.0)
    return 0.5 * (jnp.exp(log_p) * (log_p - log_m) + jnp.exp(log_q) * (log_q - log_m)).sum(-1)


def autoencoder(
    network: Network,
    train: Train,
    distance: str = "l1",
    apply_fn: ApplyFn | None = None,
    temperature: float = 10.0,
    noise: float = 0.1,
) -> Detector:
    """The reconstruction error ||x - ae(x)||_p^p / size, or the divergence of f(x) and f(ae(x)) (sections 4.2.1 and 4.2.2).

    The autoencoder learns to minimise ||x - ae(clip(x + noise))||^2 on clean images. One that can copy its input, such as one
    with connections around its middle, sees little in the error; noise is what keeps it from copying.

    Args:
      network: ae, as `models.autoencoder`, its output of the images' shape.
      train: how it is trained; the training is named "autoencoder".
      distance: "l1", the mean absolute error; "l2", the mean squared error; "jensen_shannon", the Jensen-Shannon divergence of
        the network's softmaxes at a temperature, reconstructions cut to [0, 1].
      apply_fn: the network f; only "jensen_shannon" looks at it.
      temperature: what logits are divided by; 10 and 40 in the paper. Only for "jensen_shannon".
      noise: standard deviation in training, in units of pixels in [0, 1].

    Returns:
      A `Detector`; its state is the autoencoder's variables, `score` gives [B] >= 0, and can be jitted and differentiated.

    Raises:
      ValueError: another distance, "jensen_shannon" without apply_fn, a temperature that is not positive or noise that is
        negative.
    """
    if distance not in DISTANCES:
        raise ValueError(f"distance is {distance!r}; choose one of {', '.join(DISTANCES)}")
    if apply_fn is None and distance == "jensen_shannon":
        raise ValueError("distance is 'jensen_shannon' with no apply_fn, whose answers it compares")
    if not 0 < temperature < float("inf") or not 0 <= noise < float("inf"):
        raise ValueError(f"temperature is {temperature}, noise {noise}; choose it positive, and noise >= 0")

    def loss(params: Variables, key: Array, step: Array, images: Array) -> tuple[Array, dict[str, Array]]:
        drawn = jax.random.normal(jax.random.fold_in(key, step), images.shape, images.dtype)
        noisy = jnp.clip(images + noise * drawn, 0.0, 1.0)
        return jnp.square(network.apply(params, noisy) - images).mean(), {}

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> Variables:
        del variables, labels
        init_key, train_key = jax.random.split(key)
        return train(train_key, "autoencoder", network.init(init_key, images.shape[1:]), loss, (images,))

    def score(variables: Variables, state: Variables, images: Array) -> Array:
        made = network.apply(state, images)
        if distance == "l1":
            return jnp.abs(exact(images) - made).mean((1, 2, 3))
        if distance == "l2":
            return jnp.square(exact(images) - made).mean((1, 2, 3))
        answers = (apply_fn(variables, shown) / temperature for shown in (images, jnp.clip(made, 0.0, 1.0)))
        return jensen_shannon(*answers)

    return checked(Detector(fit, score))
