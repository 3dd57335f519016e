"""WS: weight shuffling (DeepMutation, Ma et al. 2018, table III)."""

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import draws
from mgan_jax.inputs import as_variables
from mgan_jax.mutation.selection import check_rate, count, layer, layers, masks, replace_layers
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

    def orders(key: Array, chosen: list[Array], fan_ins: list[int], number: int) -> tuple[Array, Array]:
        """(Chosen neurons [number], counted through all layers; the index [number, most fan_in] each takes its weights from)."""
        neurons = jnp.flatnonzero(jnp.concatenate(chosen), size=number)
        limits = jnp.asarray(np.repeat(fan_ins, [mask.size for mask in chosen]))[neurons]
        # One sort serves all chosen neurons, whatever their fan-in: rows beyond a neuron's own weights stay last.
        own = jnp.arange(max(fan_ins))[:, None] < limits[None]
        return neurons, draws.order(jnp.where(own, jax.random.bits(key, own.shape, jnp.uint32), np.uint32(2**32 - 1)).T)

    def shuffled(weights: Array, neurons: Array, order: Array) -> Array:
        """Weights [fan_in, neurons] with those of the neurons of these indices, where they are the layer's, in their order."""
        fan_in, size = weights.shape
        inside = (neurons >= 0) & (neurons < size)
        taken = weights[:, jnp.where(inside, neurons, 0)]
        taken = jnp.take_along_axis(taken, order[:, :fan_in].T, axis=0, mode="clip")
        return weights.at[:, jnp.where(inside, neurons, size)].set(taken, mode="drop")

    def mutate(key: Array, variables: Variables) -> Variables:
        if not rate:
            return variables
        variables = as_variables(variables)
        paths = layers(variables, include_output, output_layer)
        kernels = [layer(variables, path)["kernel"] for path in paths]
        incoming = [kernel.reshape(-1, kernel.shape[-1]) for kernel in kernels]
        sizes = [kernel.shape[-1] for kernel in kernels]
        number = sum(count(rate, size) for size in sizes) if per_layer else count(rate, sum(sizes))
        mask_key, order_key = jax.random.split(key)
        chosen = masks(mask_key, sizes, rate, per_layer)
        neurons, order = orders(order_key, chosen, [len(weights) for weights in incoming], number)
        starts = np.cumsum([0, *sizes[:-1]])
        changed = {
            path: {**layer(variables, path), "kernel": shuffled(weights, neurons - start, order).reshape(kernel.shape)}
            for path, kernel, weights, start in zip(paths, kernels, incoming, starts, strict=True)
        }
        return replace_layers(variables, changed)

    return mutate
