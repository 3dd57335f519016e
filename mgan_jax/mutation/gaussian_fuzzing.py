"""GF: Gaussian fuzzing (DeepMutation, Ma et al. 2018, table III)."""

import jax
import jax.numpy as jnp

from mgan_jax.inputs import as_variables
from mgan_jax.mutation.selection import check_rate, layer, layers, masks, replace_layers
from mgan_jax.types import Array, Mutation, Variables


def gaussian_fuzzing(
    rate: float = 0.1,
    per_layer: bool = False,
    scale: float = 1.0,
    center: str = "weight",
    include_biases: bool = False,
    include_output: bool = True,
    output_layer: str = "output",
) -> Mutation:
    """Adds noise to chosen weights: w becomes w + n, n ~ N(0, (scale * standard deviation of its leaf)^2).

    Args:
      rate: share of the weights, floor(rate * weights) and at least one; 0 is the identity.
      per_layer: whether the share is of each leaf, or of the whole network at once.
      scale: the noise in units of the leaf's standard deviation.
      center: "weight", around the weight; "layer_mean", around the mean of the leaf, as the code of Wang et al. 2019 does.
      include_biases: whether biases count as weights, as in that code.
      include_output: whether the output layer counts.
      output_layer: its name, needed to leave it out.

    Returns:
      `mutate(key, variables) -> variables`.

    Raises:
      ValueError: a rate outside [0, 1], a negative scale, or another center.
    """
    check_rate(rate)
    if scale < 0:
        raise ValueError(f"scale is {scale}; it multiplies a standard deviation, so choose it >= 0")
    if center not in ("weight", "layer_mean"):
        raise ValueError(f"center is {center!r}; choose 'weight' or 'layer_mean'")
    counted = ("kernel", "bias") if include_biases else ("kernel",)

    def mutate(key: Array, variables: Variables) -> Variables:
        variables = as_variables(variables)
        paths = layers(variables, include_output, output_layer)
        changed = {path: dict(layer(variables, path)) for path in paths}
        places = [(path, name) for path in paths for name in counted if name in changed[path]]
        mask_key, noise_key = jax.random.split(key)
        sizes = [changed[path][name].size for path, name in places]
        drawn = jax.random.normal(noise_key, (sum(sizes),), jnp.float32)
        noise = jnp.split(drawn, [sum(sizes[:i]) for i in range(1, len(sizes))])
        for (path, name), mask, n in zip(places, masks(mask_key, sizes, rate, per_layer), noise, strict=True):
            leaf = changed[path][name]
            exact = leaf.astype(jnp.promote_types(leaf.dtype, jnp.float32))
            mean = exact if center == "weight" else exact.mean()
            fuzzed = mean + scale * exact.std() * n.reshape(leaf.shape)
            changed[path][name] = jnp.where(mask.reshape(leaf.shape), fuzzed.astype(leaf.dtype), leaf)
        return replace_layers(variables, changed)

    return mutate
