"""Several operators as one, so that a mixed population is one compiled program."""

from collections.abc import Sequence

import jax

from mgan_jax.types import Array, Mutation, Variables


def mixture(mutations: Sequence[Mutation]) -> Mutation:
    """Each mutant is made by one of the operators, all equally likely: a `lax.switch`, a branch on a CPU.

    Args:
      mutations: the operators.

    Raises:
      ValueError: no operator.
    """
    if not mutations:
        raise ValueError("mutations is empty; a mixture needs at least one operator")

    def mutate(key: Array, variables: Variables) -> Variables:
        index_key, mutant_key = jax.random.split(key)
        index = jax.random.randint(index_key, (), 0, len(mutations))
        return jax.lax.switch(index, tuple(mutations), mutant_key, variables)

    return mutate
