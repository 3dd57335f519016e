"""NEB: neuron effect blocking (DeepMutation, Ma et al. 2018, table III)."""

import jax.numpy as jnp

from mgan_jax.mutation.selection import change_neurons, check_rate
from mgan_jax.types import Array, Mutation, Variables


def neuron_effect_blocking(
    rate: float = 0.1, per_layer: bool = False, include_output: bool = True, output_layer: str = "output"
) -> Mutation:
    """Chosen neurons give 0, whatever the input, and the next layers see nothing of them.

    Incoming weights and bias become 0, whether an activation function follows or not. Where the layer's input reaches its
    output around them, x + relu(f(x)), that would leave x: there the neuron's place in the gate `source` becomes -1 instead.

    Args:
      rate: share of the neurons, floor(rate * neurons) and at least one; 0 is the identity.
      per_layer: whether the share is of each layer, or of the whole network at once.
      include_output: whether the neurons of the output layer count.
      output_layer: its name, needed to leave it out.

    Returns:
      `mutate(key, variables) -> variables`; at its first call it raises ValueError where the network has norms, which make
      another constant of 0.

    Raises:
      ValueError: a rate outside [0, 1].
    """
    check_rate(rate)

    def change(leaves: dict[tuple, Array]) -> dict[tuple, Array]:
        gates = {path: jnp.full_like(leaf, -1) for path, leaf in leaves.items() if path[0] == "structure"}
        return gates or {path: jnp.zeros_like(leaf) for path, leaf in leaves.items()}

    def mutate(key: Array, variables: Variables) -> Variables:
        return change_neurons(key, variables, change, rate, per_layer, include_output, output_layer, "NEB")

    return mutate
