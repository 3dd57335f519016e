"""Iterating many images, each until it is finished, in a few slots: work is spent on the images that still need it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mgan_jax.attacks.result import choose
from mgan_jax.types import Array


def take(tree: Any, index: Array) -> Any:
    """Rows `index` [S] of every leaf [B, ...]; indices from B on give the last row."""
    return jax.tree.map(lambda leaf: jnp.take(leaf, index, axis=0, mode="clip"), tree)


def default_slots() -> int:
    """As few as keep the hardware busy: 16 on a CPU, whose caches hold them and whose vectors they fill; else 256, a guess."""
    return 16 if jax.default_backend() == "cpu" else 256


def in_slots(step: Callable[[Array, Any], Any], finished: Callable[[Any], Array], states: Any, num_slots: int) -> Any:
    """Applies `step` to the state of every image until it is finished; a slot whose image is, goes on with the next one.

    An attack that stops image by image needs very different numbers of steps for them. A loop over the whole batch would take
    the largest number for all; this one takes about their sum over num_slots. What happens to an image depends on its own
    state and index alone, so that num_slots changes the speed and nothing else.

    Args:
      step: `(index [S], states [S, ...]) -> states`, one step of S = min(num_slots, B) images, `index` saying which of the
        batch they are; indices from B on are slots without an image, whatever becomes of them.
      finished: `states -> [S] bool`; must become true.
      states: a tree of arrays [B, ...].
      num_slots: images iterated at a time; best as few as keep the hardware busy.

    Returns:
      The states [B, ...] in which the images finished.
    """
    count = jax.tree.leaves(states)[0].shape[0]

    def refill(states, index, slots, ahead):
        over = finished(slots) & (index < count)
        kept = jax.tree.map(lambda all_, s: all_.at[jnp.where(over, index, count)].set(s, mode="drop"), states, slots)
        index = jnp.where(over, ahead + jnp.cumsum(over) - 1, index)
        return kept, index, choose(over, take(kept, index), slots), ahead + over.sum()

    def one(carry):
        states, index, slots, ahead = carry
        return refill(states, index, choose(finished(slots), slots, step(index, slots)), ahead)

    index = jnp.arange(min(num_slots, count))
    start = refill(states, index, take(states, index), index.size)
    return jax.lax.while_loop(lambda carry: (carry[1] < count).any(), one, start)[0]
