"""A network that learns from an image and its reconstruction from the logits whether it is adversarial."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mgan_jax.detectors.entry import checked
from mgan_jax.detectors.reconstruction import reconstructed, reconstruction
from mgan_jax.types import ApplyFn, Array, Attack, Detector, Network, Train, Variables


def supervised_reconstruction(
    apply_fn: ApplyFn,
    decoder: Network,
    classifier: Network,
    train: Train,
    attacks: Sequence[Attack],
    batch_size: int = 200,
) -> Detector:
    """log p - log(1 - p), p = P(adversarial | x, d(f(x))), learned from the successes of some attacks and the same images clean.

    d is the decoder of `reconstruction`. Attacks that it has not learned from are what it has to be tested on: leave one out.

    Args:
      apply_fn: the network f.
      decoder: d, as in `reconstruction`.
      classifier: as `models.discriminator`: `init(key, (H, W, 2 C))` and `apply(variables, [B, H, W, 2 C]) -> [B]`, logits of p;
        it is given the image and, in further channels, the image less its reconstruction.
      train: how both are trained; the trainings are named "reconstruction" and "supervised_reconstruction".
      attacks: run by `fit` on its clean images, without targets; on the device, jitted.
      batch_size: images at once in `fit`.

    Returns:
      A `Detector`; `score` gives [B], of which the sigmoid is p, and can be jitted and differentiated. The state holds that of
      `reconstruction` as `reconstruction`, and the classifier's variables as `classifier`.

    Raises:
      ValueError: no attack; at `fit`, an attack that fools the network on none of the images.
    """
    if not attacks:
        raise ValueError("attacks is empty; choose at least one to learn from")
    inner = reconstruction(apply_fn, decoder, train)

    def seen(variables: Variables, state: dict[str, Any], images: Array) -> Array:
        return jnp.concatenate([images, images - reconstructed(apply_fn, decoder, variables, state, images)], axis=-1)

    def loss(params: Variables, key: Array, step: Array, shown: Array, adversarial: Array) -> tuple[Array, dict[str, Array]]:
        del key, step
        answers = classifier.apply(params, shown)
        correct = ((answers > 0) == (adversarial > 0.5)).mean()
        return optax.sigmoid_binary_cross_entropy(answers, adversarial).mean(), {"accuracy": correct}

    def successes(key: Array, number: int, attack: Attack, variables: Variables, images: Array, labels: Array) -> np.ndarray:
        """Pairs of images that an attack makes fool the network, clean and adversarial, [2, S, H, W, C]."""
        run, found, size = jax.jit(attack), [], min(batch_size, len(images))
        for start in range(0, len(images), size):
            # Whole batches, so that one program serves all; those that come twice are left out.
            rows = np.arange(start, start + size) % len(images)
            result = run(jax.random.fold_in(key, start), variables, images[rows], labels[rows])
            kept = np.asarray(result.success) & (np.arange(start, start + size) < len(images))
            found.append(np.stack([images[rows][kept], np.asarray(result.adversarial)[kept]]))
        pairs = np.concatenate(found, axis=1)
        if not pairs.shape[1]:
            raise ValueError(f"attack {number} fools the network on none of {len(images)} images; there is nothing to learn from")
        return pairs

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict[str, Any]:
        inner_key, attack_key, init_key, train_key = jax.random.split(key, 4)
        images, labels = np.asarray(images), np.asarray(labels)
        state = inner.fit(inner_key, variables, images, labels)
        keys = jax.random.split(attack_key, len(attacks))
        pairs = np.concatenate([successes(keys[i], i, a, variables, images, labels) for i, a in enumerate(attacks)], axis=1)
        every = pairs.reshape(-1, *images.shape[1:])
        look = jax.jit(seen)
        shown = np.concatenate([look(variables, state, every[i : i + batch_size]) for i in range(0, len(every), batch_size)])
        adversarial = np.repeat(np.float32([0, 1]), pairs.shape[1])
        start = classifier.init(init_key, shown.shape[1:])
        learned = train(train_key, "supervised_reconstruction", start, loss, (shown, adversarial))
        return {"reconstruction": state, "classifier": learned}

    def score(variables: Variables, state: dict[str, Any], images: Array) -> Array:
        return classifier.apply(state["classifier"], seen(variables, state["reconstruction"], images))

    return checked(Detector(fit, score), apply_fn)
