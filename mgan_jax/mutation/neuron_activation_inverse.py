"""NAI: neuron activation inverse (DeepMutation, Ma et al. 2018, table III)."""

import jax.numpy as jnp

from mgan_jax.mutation.selection import change_neurons, check_rate
from mgan_jax.types import Array, Mutation, Variables


def neuron_activation_inverse(
    rate: float = 0.1, per_layer: bool = False, include_output: bool = True, output_layer: str = "output"
) -> Mutation:
    """Changes the sign of incoming weights and bias of chosen neurons: what was inactive becomes active.

    That is the sign of a neuron's value before its activation function. In a residual layer x + relu(f(x)) becomes
    x + relu(-f(x)): x is added after that function and stays.

    Args:
      rate: share of the neurons, floor(rate * neurons) and at least one; 0 is the identity.
      per_layer: whether the share is of each layer, or of the whole network at once.
      include_output: whether the neurons of the output layer count.
      output_layer: its name, needed to leave it out.

    Returns:
      `mutate(key, variables) -> variables`; at its first call it raises ValueError where the network has norms, which undo a
      change of sign or shift it.

    Raises:
      ValueError: a rate outside [0, 1].
    """
    check_rate(rate)

    def change(leaves: dict[tuple, Array]) -> dict[tuple, Array]:
        return {path: jnp.negative(leaf) for path, leaf in leaves.items() if path[0] != "structure"}

    def mutate(key: Array, variables: Variables) -> Variables:
        return change_neurons(key, variables, change, rate, per_layer, include_output, output_layer, "NAI")

    return mutate
