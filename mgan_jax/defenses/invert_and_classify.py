"""Invert and classify: images are replaced by the closest ones that a generator can make.

Ilyas et al. (2017, arXiv:1712.09196) and Defense-GAN (Samangouei et al. 2018, arXiv:1805.06605).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mgan_jax.defenses.purification import purifying
from mgan_jax.inversion import Decode, Descent, check_descent, invert
from mgan_jax.types import ApplyFn, Array, Defense, Variables


def invert_and_classify(
    apply_fn: ApplyFn,
    decode: Decode,
    train_generator: Callable[[Array, Array], Variables],
    code_size: int = 32,
    num_restarts: int = 10,
    num_steps: int = 200,
    learning_rate: float = 10.0,
    momentum: float = 0.7,
    optimizer: str = "momentum",
    start_scale: float = 1.0,
) -> Defense:
    """Classifies G(z*), z* = argmin over z of ||G(z) - x||_2^2, by gradient descent from R starts.

    Attacks get the derivative of the identity in place of its own (Athalye et al. 2018, arXiv:1802.00420, section 5.4.2).

    Args:
      apply_fn: the target.
      decode: G, `(variables, codes [B, K]) -> images [B, H, W, C]`, as `models.decoder` applies it.
      train_generator: `(key, images [N, H, W, C]) -> variables` of G.
      code_size: K, numbers in a code.
      num_restarts: R.
      num_steps: L of each restart.
      learning_rate: of the mean squared difference of the pixels.
      momentum: of the descent.
      optimizer: "momentum" or "adam".
      start_scale: standard deviation of the normal distribution that the starts are drawn from.

    Returns:
      A `Defense`. Its state is `{'generator': variables of G, 'starts': [R, K]}`; all images have the same starts.

    Raises:
      ValueError: sizes, numbers or rates that are not positive, momentum outside [0, 1), another optimiser.
    """
    descent = Descent(num_steps, learning_rate, momentum, optimizer)
    check_descent(descent)
    if code_size < 1 or num_restarts < 1 or not start_scale > 0:
        raise ValueError(f"code_size is {code_size}, num_restarts {num_restarts}, start_scale {start_scale}; choose them > 0")

    def draw(key: Array) -> Array:
        return start_scale * jax.random.normal(key, (num_restarts, code_size), jnp.float32)

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict[str, Any]:
        del variables, labels
        generator_key, start_key = jax.random.split(key)
        return {"generator": train_generator(generator_key, images), "starts": draw(start_key)}

    def purify(variables: Variables, images: Array) -> Array:
        state = variables["defense"]
        return decode(state["generator"], invert(decode, state["generator"], images, state["starts"], descent).codes)

    def redraw(key: Array, variables: Variables) -> Variables:
        return {**variables, "defense": {**variables["defense"], "starts": draw(key)}}

    return purifying(apply_fn, fit, purify)._replace(redraw=redraw)
