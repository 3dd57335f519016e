"""AFR: activation function removal (DeepMutation, Ma et al. 2018, table III)."""

from mgan_jax.mutation.selection import check_rate, flip_gates
from mgan_jax.types import Array, Mutation, Variables


def activation_function_removal(rate: float = 0.1) -> Mutation:
    """Removes the activation function of layers.

    Args:
      rate: share of the eligible layers, all that have one; max(1, round(rate * eligible)) change, 0 is the identity.

    Returns:
      `mutate(key, variables) -> variables`, writing the gate `activation` of `variables['structure']`; at its first call it
      raises ValueError where no layer has that gate.

    Raises:
      ValueError: a rate outside [0, 1].
    """
    check_rate(rate)

    def mutate(key: Array, variables: Variables) -> Variables:
        return flip_gates(key, variables, "activation", rate, "AFR")

    return mutate
