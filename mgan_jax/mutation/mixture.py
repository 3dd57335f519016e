"""Several operators as one, so that a mixed population is one compiled program."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from mgan_jax.inputs import as_variables
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
        variables = as_variables(variables)
        index_key, mutant_key = jax.random.split(key)
        index = jax.random.randint(index_key, (), 0, len(mutations), jnp.int32)
        # Under vmap a switch selects the operands of every branch, which the check for reused keys takes for reuse of this one.
        kind, data = jax.random.key_impl(mutant_key), jax.random.key_data(mutant_key)
        branches = [partial(_call, mutation, kind) for mutation in mutations]
        return jax.lax.switch(index, branches, data, variables)

    return mutate


def _call(mutation: Mutation, kind: str, data: Array, variables: Variables) -> Variables:
    return mutation(jax.random.wrap_key_data(data, impl=kind), variables)
