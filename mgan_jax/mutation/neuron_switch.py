"""NS: neuron switch (DeepMutation, Ma et al. 2018, table III)."""

import jax
import jax.numpy as jnp

from mgan_jax.inputs import as_variables
from mgan_jax.mutation.selection import check_norms, check_rate, count, layer, layers, masks, neurons, replace
from mgan_jax.types import Array, Mutation, Variables


def neuron_switch(
    rate: float = 0.1,
    per_layer: bool = True,
    min_neurons: int = 10,
    include_output: bool = False,
    output_layer: str = "output",
) -> Mutation:
    """Neurons of a layer exchange roles: incoming weights and biases change places, outgoing weights stay.

    In a residual layer, x + relu(f(x)), each neuron's own x is an incoming connection too and goes with it: their places in
    the gate `source` are exchanged, and so is all that they give.

    Args:
      rate: share of the neurons; 0 is the identity.
      per_layer: True: in each layer a cycle over max(2, floor(rate * neurons of the layer)) random neurons. False: of the
        whole network max(1, floor(rate * neurons / 2)) disjoint random pairs, each within a layer, change places.
      min_neurons: layers of fewer neurons are left alone, as in the code of Wang et al. 2019: two of the six filters of a
        LeNet would be a third of its first layer, not a tenth.
      include_output: whether the neurons of the output layer count.
      output_layer: its name, needed to leave it out.

    Returns:
      `mutate(key, variables) -> variables`; at its first call it raises ValueError where the network has norms, whose numbers
      would have to be exchanged too, or no layer wide enough.

    Raises:
      ValueError: a rate outside [0, 1].
    """
    check_rate(rate)

    def moves(key: Array, sizes: list[int]) -> list[tuple[Array, Array]]:
        """For each layer (the neurons that change, those whose weights they take)."""
        order_key, pair_key = jax.random.split(key)
        keys = jax.random.split(order_key, len(sizes))
        orders = [jax.random.permutation(k, size) for k, size in zip(keys, sizes, strict=True)]
        if per_layer:
            lengths = [min(size, count(rate, size, minimum=2)) for size in sizes]
            cycles = [order[:length] for order, length in zip(orders, lengths, strict=True)]
            return [(cycle, jnp.roll(cycle, -1)) for cycle in cycles]
        # Neighbours in a random order are a random matching; the mask says which pairs of it change places.
        chosen = masks(pair_key, [size // 2 for size in sizes], rate, per_layer=False)
        pairs = [order[: 2 * len(mask)].reshape(-1, 2) for order, mask in zip(orders, chosen, strict=True)]
        exchanged = [jnp.where(mask[:, None], pair[:, ::-1], pair) for pair, mask in zip(pairs, chosen, strict=True)]
        return [(before.ravel(), after.ravel()) for before, after in zip(pairs, exchanged, strict=True)]

    def mutate(key: Array, variables: Variables) -> Variables:
        variables = as_variables(variables)
        found = layers(variables, include_output, output_layer)
        check_norms(variables, "NS")
        paths = [path for path in found if layer(variables, path)["kernel"].shape[-1] >= max(min_neurons, 2)]
        if not paths:
            raise ValueError(f"NS needs a layer of at least {max(min_neurons, 2)} neurons, and there is none; lower min_neurons")
        sizes = [layer(variables, path)["kernel"].shape[-1] for path in paths]
        mutant = variables
        for leaves, (to, source) in zip(neurons(variables, paths), moves(key, sizes), strict=True):
            gates = {path: leaf for path, leaf in leaves.items() if path[0] == "structure"}
            for path, leaf in (gates or leaves).items():
                mutant = replace(mutant, path, leaf.at[..., to].set(leaf[..., source]))
        return mutant

    return mutate
