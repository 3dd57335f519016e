"""Label change rate without the argmax: how far the mutants' softmaxes move (a detector that adapts to MGAN)."""

import jax
import jax.numpy as jnp

from mgan_jax import engine
from mgan_jax.detectors.entry import checked
from mgan_jax.detectors.label_change_rate import label_change_rate
from mgan_jax.inputs import exact
from mgan_jax.types import ApplyFn, Array, Detector, Mutation, Variables


def divergence(logits: Array, mutant_logits: Array) -> Array:
    """KL(softmax of the network || softmax of the mutant) of each image, in nats; both [B, num_classes] -> [B]."""
    log_p, log_q = (jax.nn.log_softmax(exact(x)) for x in (logits, mutant_logits))
    return (jnp.exp(log_p) * (log_p - log_q)).sum(-1)


def soft_label_change_rate(
    apply_fn: ApplyFn,
    mutate: Mutation,
    num_mutants: int = 100,
    min_accuracy_ratio: float = 0.9,
    method: str = "auto",
) -> Detector:
    """Mean over mutants f' of KL(f(x) || f'(x)): sees a decision that every mutant keeps, but with less confidence.

    Args:
      apply_fn, mutate, num_mutants, min_accuracy_ratio, method: as in `label_change_rate`.

    Returns:
      A `Detector`; its state is the tree of mutants, `score` gives [B] in nats, >= 0.

    Raises:
      ValueError: at `fit`, where no mutant qualifies.
    """
    sampler = label_change_rate(apply_fn, mutate, num_mutants, min_accuracy_ratio, method)

    def score(variables: Variables, state: Variables, images: Array) -> Array:
        logits = apply_fn(variables, images)
        return engine.evaluate(apply_fn, state, images, lambda mutant: divergence(logits, mutant), method).mean(0)

    return checked(Detector(sampler.fit, score), apply_fn)
