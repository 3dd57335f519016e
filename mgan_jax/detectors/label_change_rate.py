"""Model mutation testing by label change rate (Wang et al. 2019, arXiv:1812.05793, definition 4)."""

from collections.abc import Collection

import numpy as np

from mgan_jax import engine, population
from mgan_jax.detectors.entry import checked
from mgan_jax.types import ApplyFn, Array, Classifier, Detector, Mutation, Variables


def label_change_rate(
    network: ApplyFn | Classifier,
    mutate: Mutation,
    num_mutants: int = 100,
    min_accuracy_ratio: float = 0.9,
    method: str = "auto",
    exclude: Collection[str] = (),
) -> Detector:
    """LCR(x) = |{f' : f'(x) != f(x)}| / M: the share of mutants that label x otherwise than the network itself does.

    Args:
      network: as a function, or as a `Classifier`, which is faster where most mutants begin with layers of the network's own.
      mutate: the operator.
      num_mutants: M.
      min_accuracy_ratio: share of the network's accuracy a mutant must keep on the data given to `fit`.
      method: as in `engine.outputs`.
      exclude: digests of mutants that it must not have, as in `population.qualified`.

    Returns:
      A `Detector`: `fit` draws the mutants, its state is their tree; `score` gives [B] in [0, 1], on the host,
      not under `jax.jit`; infinite for what the network reads as no class.

    Raises:
      ValueError: at `fit`, where no mutant qualifies.
    """

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> Variables:
        found = population.qualified(network, mutate, key, variables, images, labels, num_mutants, min_accuracy_ratio, exclude)
        if found.num_mutants == 0:
            raise ValueError(
                f"none of {found.tried} mutants both is new and keeps {min_accuracy_ratio} of the network's accuracy "
                f"({found.qualified} keep it); lower the mutation rate or min_accuracy_ratio, or choose another operator"
            )
        return found.variables

    def score(variables: Variables, state: Variables, images: Array) -> np.ndarray:
        votes = engine.votes(network, state, images, variables, method=method)
        decisions = engine.predictions(network, variables, images)
        return np.where(decisions == engine.NO_CLASS, np.inf, (votes != decisions).mean(0, dtype=np.float32))

    return checked(Detector(fit, score), network, answers_none=True)
