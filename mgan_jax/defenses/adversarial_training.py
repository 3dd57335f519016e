"""Adversarial training (Goodfellow et al. 2015, arXiv:1412.6572, section 6; Madry et al. 2018, arXiv:1706.06083)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from mgan_jax.defenses.entry import checked
from mgan_jax.types import ApplyFn, Array, Attack, Classifier, Defense, Train, Variables


def adversarial_training(
    classifier: Classifier,
    train: Train,
    make_attack: Callable[[ApplyFn], Attack],
    clean_weight: float = 0.0,
    epsilon_warmup: int = 0,
) -> Defense:
    """Trains a network on adversarial images that are made against it anew in every step.

    The loss is clean_weight J(theta, x, y) + (1 - clean_weight) J(theta, x', y), x' the attack's images. Goodfellow et al. have
    FGSM and a weight of .5, Madry et al. PGD and 0.

    Args:
      classifier: the network that is trained, from new initial variables; that of the target or another.
      train: runs the training, which it calls "network".
      make_attack: gives the attack on a network's `ApplyFn`, untargeted. One that ignores the network, as a trained generator
        does, trains against a fixed opponent (Tramer et al. 2018, arXiv:1705.07204).
      clean_weight: share of the loss on clean images.
      epsilon_warmup: batches over which the attack's changes x' - x grow along a line from 0 to what they are, and the ball with
        them; where they are whole at once, a small network may stay at chance for good.

    Returns:
      A `Defense` whose state is the new network's variables; the target's are not used.

    Raises:
      ValueError: a clean weight outside [0, 1), or a negative warm-up.
    """
    if not 0 <= clean_weight < 1:
        raise ValueError(f"clean_weight is {clean_weight}; choose it from 0 to below 1")
    check_warmup(epsilon_warmup)
    attack = make_attack(classifier.apply)

    def craft(key: Array, step: Array, variables: Variables, images: Array, labels: Array) -> Array:
        adversarial = attack(key, variables, images, labels).adversarial
        # Added back, a whole change would be off by rounding.
        return images + warmed_up(step, epsilon_warmup) * (adversarial - images) if epsilon_warmup else adversarial

    return trained_on(classifier, train, craft, clean_weight)


def check_warmup(epsilon_warmup: int) -> None:
    """Whether it is a number of batches.

    Raises:
      ValueError: it is negative.
    """
    if epsilon_warmup < 0:
        raise ValueError(f"epsilon_warmup is {epsilon_warmup}; choose a number of batches, or 0 for none")


def warmed_up(step: Array, epsilon_warmup: int) -> Array | float:
    """The share of epsilon in this step, counted from 0: it grows along a line to 1; 1 at once where the warm-up is 0."""
    return jnp.minimum(1.0, (step + 1) / epsilon_warmup) if epsilon_warmup else 1.0


def trained_on(classifier: Classifier, train: Train, craft: Callable[..., Array], clean_weight: float = 0.0) -> Defense:
    """The defense behind every form of adversarial training.

    Args:
      classifier, train, clean_weight: as in `adversarial_training`.
      craft: `craft(key, step, variables, images, labels) -> adversarial [B, H, W, C]`, not differentiated; `step` counts from 0.
    """

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> Variables:
        init_key, train_key = jax.random.split(key)
        fresh = classifier.init(init_key)

        def loss(params, key, step, images, labels):
            network = {**fresh, "params": params}
            step_key = jax.random.fold_in(key, step)
            adversarial = jax.lax.stop_gradient(craft(step_key, step, jax.lax.stop_gradient(network), images, labels))
            cross_entropy = optax.softmax_cross_entropy_with_integer_labels
            logits = classifier.apply(network, adversarial)
            total = (1 - clean_weight) * cross_entropy(logits, labels).mean()
            if clean_weight:
                total += clean_weight * cross_entropy(classifier.apply(network, images), labels).mean()
            return total, {"robust_accuracy": (logits.argmax(-1) == labels).mean()}

        return {**fresh, "params": train(train_key, "network", fresh["params"], loss, (images, labels))}

    def apply(variables: Variables, images: Array) -> Array:
        return classifier.apply(variables["defense"], images)

    return checked(Defense(fit, apply, network=classifier), classifier)
