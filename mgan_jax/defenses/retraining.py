"""What defenses share that put a classifier of their own, trained afresh, in the target's place."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mgan_jax.defenses.entry import checked
from mgan_jax.types import Array, Classifier, Defense, Train, Variables


def learn_afresh(
    key: Array, name: str, classifier: Classifier, train: Train, images: Array, goals: Array, temperature: float = 1.0
) -> Variables:
    """Trains a fresh classifier by the cross-entropy of softmax(z / T) with the goals, z the logits; on the host.

    Args:
      key: of its first weights and of `train`; consumed.
      name: of the training, for `train`.
      classifier: the network; of its variables only `params` are trained.
      train: trains it.
      images: [N, H, W, C].
      goals: labels [N] int, or probabilities [N, num_classes].
      temperature: T.

    Returns:
      Its variables.
    """
    init_key, train_key = jax.random.split(key)
    start = classifier.init(init_key)

    def loss(params, key, step, images, goals):
        del key, step
        logits = classifier.apply({**start, "params": params}, images)
        labels = goals if goals.ndim == 1 else goals.argmax(-1)
        goals = jax.nn.one_hot(goals, logits.shape[-1]) if goals.ndim == 1 else goals
        value = -(goals * jax.nn.log_softmax(logits / temperature)).sum(-1).mean()
        return value, {"accuracy": (logits.argmax(-1) == labels).mean()}

    return {**start, "params": train(train_key, name, start["params"], loss, (jnp.asarray(images), jnp.asarray(goals)))}


def replacing(classifier: Classifier, fit: Callable[..., Variables]) -> Defense:
    """A `Defense` whose state is the variables of this classifier, which answers alone: the target's are not looked at."""
    apply = lambda variables, images: classifier.apply(variables["defense"], images)  # noqa: E731
    return checked(Defense(fit, apply, network=classifier), classifier)
