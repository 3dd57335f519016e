"""WS: weight shuffling (DeepMutation, Ma et al. 2018, table III)."""

import jax

from mgan_jax.mutation.selection import change_neurons, check_rate
from mgan_jax.types import Array, Mutation, Variables


def weight_shuffling(
    rate: float = 0.1, per_layer: bool = False, include_output: bool = True, output_layer: str = "output"
) -> Mutation:
    """Permutes the incoming weights of chosen neurons, for a convolution the whole filter; biases stay.

    Args:
      rate: share of the neurons, floor(rate * neurons) and at least one; 0 is the identity.
      per_layer: whether the share is of each layer, or of the whole network at once.
      include_output: whether the neurons of the output layer count.
      output_layer: its name, needed to leave it out.

    Returns:
      `mutate(key, variables) -> variables`.

    Raises:
      ValueError: a rate outside [0, 1].
    """
    check_rate(rate)

    def change(key: Array, layer: dict[str, Array]) -> dict[str, Array]:
        kernel = layer["kernel"]
        incoming = kernel.reshape(-1, kernel.shape[-1])
        shuffled = jax.random.permutation(key, incoming, axis=0, independent=True)
        return {**layer, "kernel": shuffled.reshape(kernel.shape)}

    def mutate(key: Array, variables: Variables) -> Variables:
        return change_neurons(key, variables, change, rate, per_layer, include_output, output_layer)

    return mutate
