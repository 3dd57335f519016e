"""The overpowered attack of the robust manifold defense (Jalal et al. 2019, arXiv:1712.09196v3): pairs of codes, not images."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mgan_jax.attacks.result import choose
from mgan_jax.inputs import exact
from mgan_jax.inversion import Decode
from mgan_jax.losses import OUTPUTS
from mgan_jax.types import ApplyFn, Array, Variables

HALVINGS = 12


class Pairs(NamedTuple):
    """Two codes each, whose images are no further apart than eta.

    Attributes:
      first, second: [B, K].
      class_distances: ||C(G(z)) - C(G(z'))||_2^2, [B].
      image_distances: ||G(z) - G(z')||_2, [B].
    """

    first: Array
    second: Array
    class_distances: Array
    image_distances: Array


def overpowered_pairs(
    apply_fn: ApplyFn,
    decode: Decode,
    eta: float = 1.5,
    num_steps: int = 100,
    learning_rate: float = 0.1,
    multiplier_rate: float = 0.1,
    initial_multiplier: float = 0.1,
    start_distance: float = 0.3,
    outputs: str = "softmax",
) -> Callable[..., Pairs]:
    """sup over z, z' of ||C(G(z)) - C(G(z'))||^2 subject to ||G(z) - G(z')||^2 <= eta^2.

    Descent and ascent on the Lagrangian -||C(G(z)) - C(G(z'))||^2 + m (||G(z) - G(z')||^2 - eta^2): Adam moves both codes, then
    m, one number a pair, moves by how far the constraint is broken, never below 0. Returned is the pair of the largest class
    distance that keeps the constraint; the last pair is drawn together, by bisection, until it does. This is stronger than any
    attack on a given image, which may choose only one of the two.

    Args:
      apply_fn: C, the classifier.
      decode: G.
      eta: largest 2-norm of the difference of the two images, in units of pixels in [0, 1].
      num_steps: of descent and ascent.
      learning_rate: of Adam on the codes.
      multiplier_rate: of the ascent in m, per eta^2.
      initial_multiplier: the first m.
      start_distance: standard deviation of what is added to z for the first z'.
      outputs: what of the classifier is compared, "softmax" or "logits".

    Returns:
      `search(key, variables, generator, codes [B, K]) -> Pairs`; codes are the first z.

    Raises:
      ValueError: other outputs, numbers or rates that are not positive.
    """
    if outputs not in OUTPUTS:
        raise ValueError(f"outputs is {outputs!r}; choose one of {', '.join(OUTPUTS)}")
    for name, value in {
        "eta": eta, "num_steps": num_steps, "learning_rate": learning_rate, "multiplier_rate": multiplier_rate,
        "start_distance": start_distance,
    }.items():  # fmt: skip
        if not value > 0:
            raise ValueError(f"{name} is {value}; choose it > 0")
    if not initial_multiplier >= 0:
        raise ValueError(f"initial_multiplier is {initial_multiplier}; choose it >= 0")
    transform = optax.adam(learning_rate)

    def search(key: Array, variables: Variables, generator: Variables, codes: Array) -> Pairs:
        def measured(first: Array, second: Array) -> tuple[Array, Array]:
            """Squared distances of the classes and of the images, [B] each."""
            made = decode(generator, jnp.concatenate([first, second]))
            classes = OUTPUTS[outputs](apply_fn(variables, made))

            def of_pairs(x: Array) -> Array:
                squares = jnp.square(exact(x[: len(codes)] - x[len(codes) :]))
                return squares.reshape(len(codes), -1).sum(-1).astype(codes.dtype)

            return of_pairs(classes), of_pairs(made)

        def lagrangian(pair: tuple[Array, Array], multiplier: Array) -> tuple[Array, tuple[Array, Array]]:
            classes, images = measured(*pair)
            return (multiplier * (images - eta**2) - classes).sum(), (classes, images)

        def keep(best: Any, pair: tuple[Array, Array], classes: Array, images: Array) -> Any:
            better = (images <= eta**2) & (classes > best[1])
            return choose(better, (pair, classes, images), best)

        def step(_, carry):
            pair, state, multiplier, best = carry
            slope, (classes, images) = jax.grad(lagrangian, has_aux=True)(pair, multiplier)
            best = keep(best, pair, classes, images)
            updates, state = transform.update(slope, state)
            multiplier = jnp.maximum(multiplier + multiplier_rate * (images / eta**2 - 1), 0.0)
            return optax.apply_updates(pair, updates), state, multiplier, best

        def halve(_, bounds):
            """Shares of the way from z to z' that keep the constraint, and that do not."""
            low, high = bounds
            middle = (low + high) / 2
            inside = measured(first, first + middle[:, None] * (second - first))[1] <= eta**2
            return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

        pair = codes, codes + start_distance * jax.random.normal(key, codes.shape, codes.dtype)
        nothing = jnp.zeros(len(codes), codes.dtype)
        carry = pair, transform.init(pair), nothing + initial_multiplier, ((codes, codes), nothing, nothing)
        (first, second), _, _, best = jax.lax.fori_loop(0, num_steps, step, carry)
        share, _ = jax.lax.fori_loop(0, HALVINGS, halve, (nothing, nothing + 1 + 2.0**-HALVINGS))
        nearer = first, first + share[:, None] * (second - first)
        (first, second), classes, images = keep(best, nearer, *measured(*nearer))
        return Pairs(first, second, classes, jnp.sqrt(images))

    return search
