"""LA: layer addition (DeepMutation, Ma et al. 2018, table III)."""

from mgan_jax.mutation.selection import check_rate, flip_gates
from mgan_jax.types import Array, Mutation, Variables


def layer_addition(rate: float = 0.1) -> Mutation:
    """Repeats layers whose input and output shapes agree, with the same weights.

    Args:
      rate: share of the eligible layers, the residual ones; max(1, round(rate * eligible)) change, 0 is the identity.

    Returns:
      `mutate(key, variables) -> variables`, writing the gate `repeated` of `variables['structure']`; at its first call it
      raises ValueError where no layer has that gate.

    Raises:
      ValueError: a rate outside [0, 1].
    """
    check_rate(rate)

    def mutate(key: Array, variables: Variables) -> Variables:
        return flip_gates(key, variables, "repeated", rate, "LA")

    return mutate
