"""A chain of named Linen layers as a `Classifier`, a tuple of pure functions."""

from collections.abc import Callable, Sequence
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.models.layers import Conv, Dense, Gated, swap_batch
from mgan_jax.types import Array, Classifier, Variables

MOVED = ("batch_last", "batch_first")
"""Names of the first and the last stage, which move the batch axis."""
MOVED_WITHIN = ("images_first", "images_last")
"""Names of stages in between that move it where layers are computed with the batch first."""


class Chain(nn.Module):
    """Layers applied one after the other; `first` and `last` cut a piece out.

    Attributes:
      layers: Linen modules with names of their own, or plain functions.
    """

    layers: Sequence[Callable[[Array], Array]]
    preserve_adopted_names: ClassVar[bool] = True

    def __call__(self, x: Array, first: int = 0, last: int | None = None) -> Array:
        for layer in self.layers[first:last]:
            x = layer(x)
        return x


def draw_kernels(key: Array, variables: Variables) -> Variables:
    """Fills every `kernel` leaf with N(0, 2 / fan_in) values (He et al. 2015) from a single draw, float32 under x64 too.

    Args:
      key: consumed.
      variables: a tree whose kernels, [..., in, out], are still zero.

    Returns:
      The same tree; leaves that are no kernel keep their values.
    """
    leaves, treedef = jax.tree_util.tree_flatten_with_path(variables)
    sizes = [leaf.size if path[-1].key == "kernel" else 0 for path, leaf in leaves]
    values = jnp.split(jax.random.normal(key, (sum(sizes),), jnp.float32), np.cumsum(sizes)[:-1])
    drawn = [
        value.reshape(leaf.shape) * np.sqrt(2.0 * leaf.shape[-1] / leaf.size) if value.size else leaf
        for value, (_, leaf) in zip(values, leaves, strict=True)
    ]
    single = [leaf.astype(jnp.float32) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf for leaf in drawn]
    return jax.tree.unflatten(treedef, single)


def initialise(key: Array, module: nn.Module, *inputs: Array) -> Variables:
    """Variables of any network of this package for inputs of these shapes; `key` is consumed."""

    @jax.jit
    def init(key, *inputs):
        return draw_kernels(key, module.init(key, *inputs))

    return init(key, *inputs)


def _neuronwise(layer: Callable[[Array], Array]) -> bool:
    """Whether each neuron's output depends on its own weights alone; in a residual layer places count.

    The neurons are then the first axis of the output.
    """
    inner = layer.layer if isinstance(layer, Gated) and not layer.residual else layer
    return isinstance(inner, Dense) or (isinstance(inner, Conv) and not inner.batch_first)


def _chain(layers: dict[str, Callable[[Array], Array]]) -> tuple[Chain, Callable[[int, int | None], Callable]]:
    """The layers as a module, and `piece(first, last)`, the function of some of them."""
    chain = Chain(tuple(layer.clone(name=name) if isinstance(layer, nn.Module) else layer for name, layer in layers.items()))

    def piece(first: int, last: int | None) -> Callable[[Variables, Array], Array]:
        return lambda variables, x: chain.apply(variables, x, first, last)

    return chain, piece


def classifier(
    layers: dict[str, Callable[[Array], Array]],
    image_shape: tuple[int, int, int],
    staged: dict[str, Callable[[Array], Array]] | None = None,
) -> Classifier:
    """Turns an ordered chain {name: layer} into a `Classifier`; its features are what the last layer gets.

    Args:
      layers: Linen modules, which get their name as parameter name, and plain functions, the batch their last axis; the last
        gives the logits and is named `output`.
      image_shape: (H, W, C).
      staged: layers of the same parameters that compute the same faster where nothing is differentiated; None: `layers`.

    Returns:
      A `Classifier` of stages between "batch_last" and "batch_first", which move that axis.
    """
    ends = {MOVED[0]: swap_batch}, {MOVED[1]: swap_batch}
    layers, staged = ({**ends[0], **chosen, **ends[1]} for chosen in (layers, staged or layers))
    (chain, piece), (_, stage) = _chain(layers), _chain(staged)
    return Classifier(
        init=lambda key: initialise(key, chain, jnp.zeros((1, *image_shape))),
        apply=piece(0, None),
        features=lambda variables, x: swap_batch(piece(0, len(layers) - 2)(variables, x)),
        stages=tuple((name, stage(i, i + 1)) for i, name in enumerate(staged)),
        neuronwise=tuple(name for name, layer in staged.items() if _neuronwise(layer)),
    )


def activations(network: Classifier, variables: Variables, images: Array) -> dict[str, Array]:
    """What each stage of a network gives, {stage: [B, ...]}, the batch first; `output` is the logits.

    Left out are stages that only move axes.

    Args:
      network: built by `classifier`.
      variables: its.
      images: [B, H, W, C].
    """
    x, found, batch_first = images, {}, True
    for name, stage in network.stages:
        x = stage(variables, x)
        if name in (*MOVED, *MOVED_WITHIN):
            batch_first = not batch_first
        elif name != "flatten":
            found[name] = x if batch_first else swap_batch(x)
    return found


def first_weights(network: Classifier, variables: Variables, image_shape: tuple[int, int, int]) -> Array:
    """What each neuron of the first layer with weights weighs, as pictures.

    Args:
      network: built by `classifier`.
      variables: its.
      image_shape: (H, W, C).

    Returns:
      A convolution's filters [neurons, h, w, C]; a dense layer's weights [neurons, H, W, C].
    """
    first = next(name for name, _ in network.stages if name in variables["params"])
    leaves = jax.tree_util.tree_leaves_with_path(variables["params"][first])
    kernel = next(leaf for path, leaf in leaves if path[-1].key == "kernel")
    return jnp.moveaxis(kernel, -1, 0).reshape(-1, *(kernel.shape[:-1] if kernel.ndim == 4 else image_shape))
