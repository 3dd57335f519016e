"""What the operators share: which leaves hold neurons, and masks that select an exact number of things.

A neuron is an index of the last axis of a `kernel` leaf, true for Linen's Dense [in, out] and Conv [h, w, in, out]; the
`bias` beside the kernel belongs to it. So does its place in the gate `source` of `variables['structure']`, where the layer or
the module around it has one: it says whose output appears there, -1 for none. Residual layers of `mgan_jax.models` have it,
since there the input reaches the output around the weights; a residual layer of somebody else's needs one too.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import draws
from mgan_jax.inputs import as_variables
from mgan_jax.types import Array, Variables

SOURCE = "source"
"""The gate that says which neuron's output appears at each place of a layer."""


def count(rate: float, total: int, minimum: int = 1) -> int:
    """floor(rate * total), at least `minimum`: a mutant has at least one change. A rate of 0 gives 0."""
    return max(minimum, int(np.floor(rate * total + 1e-9))) if rate else 0


def check_rate(rate: float) -> None:
    """Raises ValueError unless 0 <= rate <= 1."""
    if not 0 <= rate <= 1:
        raise ValueError(f"mutation rate is {rate}; it is a share, so choose it between 0 and 1")


def random_mask(key: Array, size: int, chosen: int) -> Array:
    """A mask [size] with exactly `chosen` True, every such mask equally likely; `key` is consumed."""
    # Ties between uniform draws are frequent in large networks: a threshold alone would not keep the count exact.
    mask = lambda key: draws.largest(jax.random.uniform(key, (size,), jnp.float32), chosen)  # noqa: E731
    # A search reads its draws about ten times: one mutant after the other, they stay in a CPU's cache.
    return (jax.custom_batching.sequential_vmap(mask) if draws.is_searched(size) else mask)(key)


def masks(key: Array, sizes: list[int], rate: float, per_layer: bool) -> list[Array]:
    """One mask a layer: a share `rate` of all things of the network at once, or of each layer; `key` is consumed."""
    if per_layer:
        keys = jax.random.split(key, len(sizes))
        return [random_mask(k, size, count(rate, size)) for k, size in zip(keys, sizes, strict=True)]
    whole = random_mask(key, sum(sizes), count(rate, sum(sizes)))
    return jnp.split(whole, np.cumsum(sizes)[:-1])


def layers(variables: Variables, include_output: bool = True, output_layer: str = "output") -> list[tuple]:
    """Paths of the layers that hold neurons: those with a `kernel` leaf in `variables['params']`.

    Args:
      variables: of any Linen-like network: nested dicts with `params` on top.
      include_output: whether the layer that gives the logits counts.
      output_layer: a component of its path, needed only to leave it out.

    Raises:
      ValueError: no kernel, one that is not floating point or has no axis of neurons, or the output layer is to be left out and
        none has its name.
    """
    if not isinstance(variables, Mapping) or not isinstance(variables.get("params"), Mapping):
        raise ValueError("variables must be a dict of nested dicts with 'params' on top, as Linen gives them")
    paths = [path for path, _ in jax.tree_util.tree_flatten_with_path(variables["params"])[0]]
    if not all(isinstance(entry, jax.tree_util.DictKey) for path in paths for entry in path):
        raise ValueError("variables['params'] holds lists or other nodes that are no dicts; mutation operators need dicts alone")
    found = [tuple(entry.key for entry in path[:-1]) for path in paths if path[-1].key == "kernel"]
    if not found:
        raise ValueError("the network has no leaf named 'kernel': mutation operators find neurons by that name")
    for path in found:
        kernel = layer(variables, path)["kernel"]
        if kernel.ndim < 2 or not jnp.issubdtype(kernel.dtype, jnp.floating):
            raise ValueError(
                f"params/{'/'.join(path)}/kernel is {kernel.dtype} of the shape {kernel.shape}; a kernel is floating point, "
                "[..., inputs, neurons]"
            )
    if include_output:
        return found
    hidden = [path for path in found if output_layer not in path]
    if len(hidden) == len(found):
        raise ValueError(
            f"no layer is named {output_layer!r}, so the output layer cannot be left out; pass output_layer, one of "
            f"{sorted({path[-1] for path in found})}, or include_output=True"
        )
    return hidden


def layer(variables: Variables, path: tuple) -> dict[str, Array]:
    """The leaves (`kernel`, perhaps `bias`) of the layer at `path`."""
    tree = variables["params"]
    for name in path:
        tree = tree[name]
    return tree


def replace(tree, path: tuple, value):
    """A copy of nested dicts with `value` at `path`; everything else is the same object."""
    if not path:
        return value
    return {**tree, path[0]: replace(tree[path[0]], path[1:], value)}


def replace_layers(variables: Variables, changed: dict[tuple, dict[str, Array]]) -> Variables:
    """`variables` with the layers at these paths replaced."""
    params = variables["params"]
    for path, value in changed.items():
        params = replace(params, path, value)
    return {**variables, "params": params}


def neurons(variables: Variables, paths: list[tuple]) -> list[dict[tuple, Array]]:
    """What describes the neurons of each layer, {path in variables: leaf}, their axis the last: kernel, bias, gate `source`.

    Args:
      variables: the network.
      paths: of the layers, from `layers`.

    Raises:
      ValueError: a gate `source` of two layers, or of another number of neurons.
    """
    gates = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables.get("structure", {})):
        if path[-1] == jax.tree_util.DictKey(SOURCE):
            gates["structure", *(entry.key for entry in path)] = leaf
    found, owners = [], {}
    for path in paths:
        leaves = {("params", *path, name): leaf for name, leaf in layer(variables, path).items()}
        number = layer(variables, path)["kernel"].shape[-1]
        for gate in (("structure", *path, SOURCE), ("structure", *path[:-1], SOURCE)):
            if gate in gates and (gate in owners or gates[gate].shape != (number,)):
                raise ValueError(f"the gate {'/'.join(gate)} must be of the {number} neurons of {'/'.join(path)} alone")
            if gate in gates:
                leaves[gate], owners[gate] = gates[gate], path
                break
        found.append(leaves)
    return found


def check_norms(variables: Variables, operator: str) -> None:
    """Raises ValueError where norms stand between a neuron's weights and what it gives, since the tree does not say which."""
    trees = {name: variables[name] for name in ("params", "batch_stats") if name in variables}
    paths = [tuple(entry.key for entry in path) for path, _ in jax.tree_util.tree_leaves_with_path(trees)]
    scales = [path for path in paths if path[-1] == "scale" and (*path[:-1], "kernel") not in paths]
    norms = scales + [path for path in paths if path[0] == "batch_stats"]
    if norms:
        names = ", ".join("/".join(path) for path in norms[:4]) + (", ..." if len(norms) > 4 else "")
        raise ValueError(
            f"{operator} cannot keep its promise in a network with norms ({names}), since variables do not say which layers they "
            "follow; use an operator on weights or layers"
        )


def change_neurons(
    key: Array,
    variables: Variables,
    change: Callable[[dict[tuple, Array]], dict[tuple, Array]],
    rate: float,
    per_layer: bool,
    include_output: bool,
    output_layer: str,
    operator: str,
) -> Variables:
    """Applies `change` to an exact number of randomly chosen neurons.

    Args:
      key: consumed.
      variables: the network.
      change: from the leaves of a layer's neurons, as in `neurons`, to those of them that change, as they were if all its
        neurons did; only the chosen ones keep it.
      rate: share of the neurons; per_layer: of each layer, else of the whole network at once.
      include_output, output_layer: as in `layers`.
      operator: abbreviation for errors.

    Raises:
      ValueError: as `layers`, `neurons` and `check_norms`.
    """
    variables = as_variables(variables)
    paths = layers(variables, include_output, output_layer)
    check_norms(variables, operator)
    sizes = [layer(variables, path)["kernel"].shape[-1] for path in paths]
    mask_key, _ = jax.random.split(key)
    mutant = variables
    for leaves, mask in zip(neurons(variables, paths), masks(mask_key, sizes, rate, per_layer), strict=True):
        for path, after in change(leaves).items():
            chosen = mask.reshape((1,) * (after.ndim - 1) + (-1,))
            mutant = replace(mutant, path, jnp.where(chosen, after, leaves[path]))
    return mutant


def flip_gates(key: Array, variables: Variables, gate: str, rate: float, operator: str) -> Variables:
    """Flips max(1, round(rate * eligible)) gates of one kind, chosen at random; `key` is consumed.

    Args:
      key: consumed.
      variables: a network whose collection `structure` has scalar gates of that name.
      gate: name of the gate; the layers that have it are eligible.
      rate: share of the eligible layers.
      operator: abbreviation for the error.

    Raises:
      ValueError: no layer has such a gate.
    """
    variables = as_variables(variables)
    structure = variables.get("structure", {})
    leaves, treedef = jax.tree_util.tree_flatten_with_path(structure)
    eligible = [i for i, (path, _) in enumerate(leaves) if path[-1].key == gate]
    if not eligible:
        raise ValueError(
            f"{operator} needs a layer with the gate {gate!r} in variables['structure'], and this network has none; "
            "use a model of mgan_jax.models with such layers, or a weight or neuron operator"
        )
    chosen = max(1, round(rate * len(eligible))) if rate else 0
    mask = random_mask(key, len(eligible), chosen)
    values = [leaf for _, leaf in leaves]
    for i, flipped in zip(eligible, mask, strict=True):
        values[i] = values[i] ^ flipped
    return {**variables, "structure": jax.tree.unflatten(treedef, values)}
