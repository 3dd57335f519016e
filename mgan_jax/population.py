"""Many mutants as one tree: sample them, qualify them, map over them. The only place that lifts one mutant to many."""

import hashlib
from collections.abc import Callable, Collection
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.types import ApplyFn, Array, Mutation, Variables

METHODS = ("auto", "map", "vmap")


class Population(NamedTuple):
    """Distinct mutants of one network and how they were found.

    Attributes:
      variables: the mutants as one tree, every leaf with a leading axis M; None where M = 0.
      digests: M hexadecimal digests of the mutants' contents.
      tried: how many mutants were drawn.
      qualified: how many of those drawn passed the filter, copies included.
    """

    variables: Variables | None
    digests: tuple[str, ...]
    tried: int
    qualified: int

    @property
    def num_mutants(self) -> int:
        """M; all of them differ from each other and from the target."""
        return len(self.digests)


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
    return jax.vmap(mutate, in_axes=(0, None))(keys, variables)


def evaluate(
    apply_fn: ApplyFn,
    mutants: Variables,
    images: Array,
    reduce: Callable[[Array], Array] = lambda logits: logits,
    method: str = "auto",
) -> Array:
    """Applies every mutant to every image; a plain function, to be jitted by the caller.

    Args:
      apply_fn: the network.
      mutants: tree with a leading axis M.
      images: [B, H, W, C].
      reduce: what is kept of a mutant's logits [B, num_classes].
      method: "map", one mutant after the other; "vmap", all at once; "auto", map on a CPU, where grouped convolutions
        are 2 to 2.5 times slower and gates become selects, and vmap elsewhere.

    Returns:
      [M, ...], what `reduce` gives; [M, B, num_classes] by default.

    Raises:
      ValueError: another method.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}")
    if method == "auto":
        method = "map" if jax.default_backend() == "cpu" else "vmap"
    one = lambda mutant: reduce(apply_fn(mutant, images))  # noqa: E731
    return jax.lax.map(one, mutants) if method == "map" else jax.vmap(one)(mutants)


@partial(jax.jit, static_argnames=("apply_fn", "method"))
def _votes(apply_fn: ApplyFn, mutants: Variables, images: Array, method: str) -> Array:
    return evaluate(apply_fn, mutants, images, lambda logits: logits.argmax(-1).astype(jnp.int32), method)


def votes(apply_fn: ApplyFn, mutants: Variables, images: Array, batch_size: int = 100, method: str = "auto") -> np.ndarray:
    """The label each mutant gives each image, [M, N] int32, on the host.

    Args:
      apply_fn: the network; pass the same function object again and nothing is compiled again.
      mutants: tree with a leading axis M.
      images: [N, H, W, C], any N.
      batch_size: images at once; the last batch is filled up, so that one program serves all.
      method: as in `evaluate`.
    """
    size = min(batch_size, len(images))
    result = []
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size) % len(images)
        result.append(np.asarray(_votes(apply_fn, mutants, images[rows], method))[:, : len(images) - start])
    return np.concatenate(result, axis=1)


@partial(jax.jit, static_argnames=("apply_fn",))
def _logits(apply_fn: ApplyFn, variables: Variables, images: Array) -> Array:
    return apply_fn(variables, images)


def logits(apply_fn: ApplyFn, variables: Variables, images: Array, batch_size: int = 500) -> np.ndarray:
    """Logits of one network, [N, num_classes], on the host; batches and padding as in `votes`."""
    size = min(batch_size, len(images))
    result = []
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size) % len(images)
        result.append(np.asarray(_logits(apply_fn, variables, images[rows]))[: len(images) - start])
    return np.concatenate(result)


def predictions(apply_fn: ApplyFn, variables: Variables, images: Array, batch_size: int = 500) -> np.ndarray:
    """The label one network gives each image, [N] int32, on the host."""
    return logits(apply_fn, variables, images, batch_size).argmax(-1).astype(np.int32)


def digests(mutants: Variables) -> tuple[str, ...]:
    """One digest a mutant, of the bytes of all its leaves: equal content, equal digest."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(mutants)]
    result = []
    for i in range(len(leaves[0])):
        digest = hashlib.sha256()
        for leaf in leaves:
            digest.update(np.ascontiguousarray(leaf[i]))
        result.append(digest.hexdigest())
    return tuple(result)


def digest(variables: Variables) -> str:
    """The digest of one network, comparable with `digests`."""
    return digests(jax.tree.map(lambda leaf: np.asarray(leaf)[None], variables))[0]


@partial(jax.jit, static_argnames=("apply_fn",))
def _accuracies(apply_fn: ApplyFn, mutants: Variables, images: Array, labels: Array) -> Array:
    return evaluate(apply_fn, mutants, images, lambda logits: (logits.argmax(-1) == labels).mean())


def qualified(
    apply_fn: ApplyFn,
    mutate: Mutation,
    key: Array,
    variables: Variables,
    images: Array,
    labels: Array,
    num_mutants: int,
    min_accuracy_ratio: float = 0.9,
    exclude: Collection[str] = (),
    batch: int = 50,
) -> Population:
    """Finds M distinct mutants whose accuracy is at least a share of the target's (Wang et al. 2019, section III-B).

    Mutants are drawn in batches and judged on the device; copies of the target, of each other and of `exclude` are drawn
    again, never counted. The search ends after 100 M tries, or where 10 batches in a row bring nothing new, since LD, LA
    and AFR have only a few distinct mutants.

    Args:
      apply_fn: the network.
      mutate: the operator.
      key: consumed.
      variables: the target's.
      images, labels: validation data, [N, H, W, C] and [N].
      num_mutants: M wanted.
      min_accuracy_ratio: share of the target's accuracy a mutant keeps; 0 keeps all.
      exclude: digests of mutants that must not appear, those of other streams.
      batch: mutants drawn at once.

    Returns:
      A `Population` of at most M mutants.

    Raises:
      ValueError: M < 1, or a ratio outside [0, 1].
    """
    if num_mutants < 1:
        raise ValueError(f"num_mutants is {num_mutants}; mutation testing needs at least one mutant")
    if not 0 <= min_accuracy_ratio <= 1:
        raise ValueError(f"min_accuracy_ratio is {min_accuracy_ratio}; choose a share between 0 and 1")
    batch = min(batch, num_mutants)
    accuracy = (predictions(apply_fn, variables, images) == np.asarray(labels)).mean() if min_accuracy_ratio else 0.0
    # What each content was judged to be, so that a batch of nothing but copies, the rule under LD, LA and AFR, costs no test.
    verdicts: dict[str, bool] = {}
    seen, kept, names = {digest(variables), *exclude}, [], []
    tried = passed = stale = 0
    while len(names) < num_mutants and tried < 100 * num_mutants and stale < 10:
        mutants = made(mutate, jax.random.split(jax.random.fold_in(key, tried), batch), variables)
        drawn = digests(mutants)
        if not verdicts.keys() >= set(drawn):
            good = np.ones(batch, bool)
            if min_accuracy_ratio:
                good = np.asarray(_accuracies(apply_fn, mutants, images, labels)) >= min_accuracy_ratio * accuracy - 1e-9
            verdicts.update(zip(drawn, good.tolist(), strict=True))
        qualifies = [verdicts[name] for name in drawn]
        tried, passed, stale = tried + batch, passed + sum(qualifies), stale + any(qualifies)
        for i, name in enumerate(drawn):
            if qualifies[i] and name not in seen and len(names) < num_mutants:
                seen.add(name)
                names.append(name)
                kept.append(jax.tree.map(lambda leaf, i=i: np.asarray(leaf[i]), mutants))
                stale = 0
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *kept) if kept else None
    return Population(stacked, tuple(names), tried, passed)
