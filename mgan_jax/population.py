"""Many mutants as one tree: sample them, qualify them, vote by them. The only place that lifts one mutant to many."""

import hashlib
from collections.abc import Collection, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import draws, engine
from mgan_jax.inputs import as_labels, read_images
from mgan_jax.types import ApplyFn, Array, Classifier, Mutation, Variables

BLOCK = 50
"""Mutants that are in memory at once."""


class Population(NamedTuple):
    """Distinct mutants of one network, kept as the keys they are made of, and how they were found.

    Attributes:
      mutate: the operator.
      target: the network's variables.
      key_data: [M, ...] uint32, the data of the keys; `mutate(jax.random.wrap_key_data(data), target)` is a mutant.
      digests: M hexadecimal digests of the mutants' contents.
      tried: how many mutants were drawn.
      qualified: how many of those drawn passed the filter, copies included.
    """

    mutate: Mutation
    target: Variables
    key_data: np.ndarray
    digests: tuple[str, ...]
    tried: int
    qualified: int

    @property
    def num_mutants(self) -> int:
        """M; all of them differ from each other and from the target."""
        return len(self.digests)

    @property
    def variables(self) -> Variables | None:
        """All mutants as one tree, every leaf with a leading axis M; None where M = 0."""
        return self.members(np.arange(self.num_mutants)) if self.digests else None

    def members(self, indices: np.ndarray) -> Variables:
        """Mutants of these indices [K] as one tree, made again from their keys."""
        return made(self.mutate, jax.random.wrap_key_data(self.key_data[indices]), self.target)

    def blocks(self, size: int = BLOCK) -> Iterator[Variables]:
        """The mutants, `size` at a time, the last block filled up with the first mutants again."""
        size = min(size, max(1, self.num_mutants))
        for start in range(0, self.num_mutants, size):
            yield self.members(np.arange(start, start + size) % self.num_mutants)


def sample(mutate: Mutation, key: Array, variables: Variables, num_mutants: int) -> Variables:
    """Draws M mutants at once; copies and bad ones are not sorted out, which `qualified` does.

    Args:
      mutate: the operator.
      key: consumed; split into one key a mutant.
      variables: the target's.
      num_mutants: M.

    Returns:
      A tree like `variables`, every leaf with a leading axis M.

    Raises:
      ValueError: M < 1.
    """
    if num_mutants < 1:
        raise ValueError(f"num_mutants is {num_mutants}; mutation testing needs at least one mutant")
    return made(mutate, jax.random.split(key, num_mutants), variables)


@partial(jax.jit, static_argnames="mutate")
def made(mutate: Mutation, keys: Array, variables: Variables) -> Variables:
    """The mutants of these keys [M], jitted: a tree like `variables`, every leaf with a leading axis M."""
    return jax.vmap(mutate, in_axes=(0, None))(draws.quick(keys), variables)


def digests(mutants: Variables) -> tuple[str, ...]:
    """One digest a mutant, of the bytes of all its leaves: equal content, equal digest; -0.0 is 0.0."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(mutants)]
    leaves = [leaf + leaf.dtype.type(0) if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf for leaf in leaves]
    result = []
    for i in range(len(leaves[0])):
        digest = hashlib.sha256()
        for leaf in leaves:
            digest.update(leaf[i].tobytes())
        result.append(digest.hexdigest())
    return tuple(result)


def digest(variables: Variables) -> str:
    """The digest of one network, comparable with `digests`."""
    return digests(jax.tree.map(lambda leaf: np.asarray(leaf)[None], variables))[0]


def qualified(
    network: ApplyFn | Classifier,
    mutate: Mutation,
    key: Array,
    variables: Variables,
    images: Array,
    labels: Array,
    num_mutants: int,
    min_accuracy_ratio: float = 0.9,
    exclude: Collection[str] = (),
    batch: int = BLOCK,
    **how,
) -> Population:
    """Finds M distinct mutants whose accuracy is at least a share of the target's (Wang et al. 2019, section III-B).

    Mutants are drawn in batches and judged on the device; copies of the target, of each other and of `exclude` are drawn
    again, never counted. The search ends after 100 M tries, or where 10 batches in a row bring nothing new, since LD, LA
    and AFR have only a few distinct mutants.

    Args:
      network: as in `engine.outputs`.
      mutate: the operator.
      key: consumed.
      variables: the target's.
      images, labels: validation data, [N, H, W, C] and [N].
      num_mutants: M wanted.
      min_accuracy_ratio: share of the target's accuracy a mutant keeps; 0 keeps all.
      exclude: digests of mutants that must not appear, those of other streams.
      batch: mutants drawn at once.
      **how: of `engine.outputs`.

    Returns:
      A `Population` of at most M mutants.

    Raises:
      ValueError: M < 1, a ratio outside [0, 1], images or labels that `inputs` refuses, or none where accuracy is asked for.
    """
    if num_mutants < 1:
        raise ValueError(f"num_mutants is {num_mutants}; mutation testing needs at least one mutant")
    if not 0 <= min_accuracy_ratio <= 1:
        raise ValueError(f"min_accuracy_ratio is {min_accuracy_ratio}; choose a share between 0 and 1")
    batch, images = min(batch, num_mutants), read_images(images)
    labels = np.asarray(as_labels(labels, images, network, variables))
    if min_accuracy_ratio and not len(labels):
        raise ValueError(f"images are of the shape {images.shape}, and accuracy on none is none; give some to qualify mutants by")
    accuracy = (engine.predictions(network, variables, images) == labels).mean() if min_accuracy_ratio else 0.0
    # What each content was judged to be, so that a batch of nothing but copies, the rule under LD, LA and AFR, costs no test.
    verdicts: dict[str, bool] = {}
    seen, members, names = {digest(variables), *exclude}, [], []
    tried = passed = stale = 0
    while len(names) < num_mutants and tried < 100 * num_mutants and stale < 10:
        keys = jax.random.split(jax.random.fold_in(key, tried), batch)
        data, mutants = np.asarray(jax.random.key_data(keys)), made(mutate, keys, variables)
        drawn = digests(mutants)
        if not verdicts.keys() >= set(drawn):
            good = np.ones(batch, bool)
            if min_accuracy_ratio:
                kept = (engine.votes(network, mutants, images, variables, **how) == labels).mean(1)
                good = kept >= min_accuracy_ratio * accuracy - 1e-9
            verdicts.update(zip(drawn, good.tolist(), strict=True))
        qualifies = [verdicts[name] for name in drawn]
        tried, passed, stale = tried + batch, passed + sum(qualifies), stale + any(qualifies)
        for i, name in enumerate(drawn):
            if qualifies[i] and name not in seen and len(names) < num_mutants:
                seen.add(name)
                names.append(name)
                members.append(data[i])
                stale = 0
    return Population(mutate, variables, np.array(members), tuple(names), tried, passed)


def votes(network: ApplyFn | Classifier, population: Population, images: Array, block_size: int = BLOCK, **how) -> np.ndarray:
    """The label each mutant gives each image, [M, N] int32, on the host; [0, N] where there are no mutants.

    Mutants are made again from their keys, a block at a time, so that memory does not grow with M.

    Args:
      network: as in `engine.outputs`.
      population: M mutants.
      images: [N, H, W, C].
      block_size: mutants that are in memory at once.
      **how: of `engine.outputs`.
    """
    images = read_images(images)
    blocks = [engine.votes(network, block, images, population.target, **how) for block in population.blocks(block_size)]
    return np.concatenate([np.zeros((0, len(images)), np.int32), *blocks])[: population.num_mutants]
