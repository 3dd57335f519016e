"""Model mutation testing by label change rate (Wang et al. 2019, arXiv:1812.05793, definition 4)."""

import jax.numpy as jnp

from mgan_jax import population
from mgan_jax.types import ApplyFn, Array, Detector, Mutation, Variables


def label_change_rate(
    apply_fn: ApplyFn,
    mutate: Mutation,
    num_mutants: int = 100,
    min_accuracy_ratio: float = 0.9,
    method: str = "auto",
) -> Detector:
    """LCR(x) = |{f' : f'(x) != f(x)}| / M: the share of mutants that label x otherwise than the network itself does.

    Args:
      apply_fn: the network.
      mutate: the operator.
      num_mutants: M.
      min_accuracy_ratio: share of the network's accuracy a mutant must keep on the data given to `fit`.
      method: as in `population.evaluate`.

    Returns:
      A `Detector`: `fit` draws the mutants, its state is their tree; `score` gives [B] in [0, 1].

    Raises:
      ValueError: at `fit`, where no mutant qualifies.
    """

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> Variables:
        found = population.qualified(apply_fn, mutate, key, variables, images, labels, num_mutants, min_accuracy_ratio)
        if found.num_mutants == 0:
            raise ValueError(
                f"none of {found.tried} mutants keeps {min_accuracy_ratio} of the network's accuracy; lower the mutation "
                "rate or min_accuracy_ratio"
            )
        return found.variables

    def score(variables: Variables, state: Variables, images: Array) -> Array:
        decisions = apply_fn(variables, images).argmax(-1)
        labels = population.evaluate(apply_fn, state, images, lambda logits: logits.argmax(-1), method)
        return (labels != decisions[None]).mean(0, dtype=jnp.float32)

    return Detector(fit, score)
