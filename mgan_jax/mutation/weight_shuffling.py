"""WS: weight shuffling (DeepMutation, Ma et al. 2018, table III)."""

import jax
import jax.numpy as jnp
import numpy as np

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

    def orders(key: Array, chosen: list[Array], fan_ins: list[int], number: int) -> list[Array]:
        """For each layer the index [fan_in, neurons] from which each weight is taken, in place but for chosen neurons."""
        sizes, whole = [mask.size for mask in chosen], jnp.concatenate(chosen)
        limits = jnp.asarray(np.repeat(fan_ins, sizes))[jnp.flatnonzero(whole, size=number)]
        # One sort serves all chosen neurons, whatever their fan-in: rows beyond a neuron's own weights stay last.
        own = jnp.arange(max(fan_ins))[:, None] < limits[None]
        order = jnp.argsort(jnp.where(own, jax.random.bits(key, own.shape), np.uint32(2**32 - 1)), axis=0)
        places = jnp.split(jnp.cumsum(whole) - 1, np.cumsum(sizes)[:-1])
        return [
            jnp.where(mask[None], order[:fan_in, place], jnp.arange(fan_in)[:, None])
            for mask, place, fan_in in zip(chosen, places, fan_ins, strict=True)
        ]

    def mutate(key: Array, variables: Variables) -> Variables:
        if not rate:
            return variables
        paths = layers(variables, include_output, output_layer)
        kernels = [layer(variables, path)["kernel"] for path in paths]
        incoming = [kernel.reshape(-1, kernel.shape[-1]) for kernel in kernels]
        sizes = [kernel.shape[-1] for kernel in kernels]
        number = sum(count(rate, size) for size in sizes) if per_layer else count(rate, sum(sizes))
        mask_key, order_key = jax.random.split(key)
        found = orders(order_key, masks(mask_key, sizes, rate, per_layer), [len(weights) for weights in incoming], number)
        changed = {
            path: {**layer(variables, path), "kernel": jnp.take_along_axis(weights, order, axis=0).reshape(kernel.shape)}
            for path, kernel, weights, order in zip(paths, kernels, incoming, found, strict=True)
        }
        return replace_layers(variables, changed)

    return mutate
