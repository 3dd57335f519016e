"""Evaluates many networks of one shape, mutants above all, on many images: the only place that maps over mutants."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from mgan_jax import devices
from mgan_jax.inputs import as_logits, as_mutants, as_variables, of_no_images, read_images
from mgan_jax.types import ApplyFn, Array, Classifier, Variables

METHODS = ("auto", "stages", "map", "vmap")


NO_CLASS = -1
"""The label of an image whose logits are not finite: no class, and so never the right one."""


def decide(logits: Array) -> Array:
    """[B, num_classes] -> labels [B] int32; a tie goes to the first class, logits that are not finite to `NO_CLASS`."""
    logits = as_logits(logits)
    return jnp.where(jnp.isfinite(logits).all(-1), logits.argmax(-1).astype(jnp.int32), NO_CLASS)


def chosen_method(method: str, network: ApplyFn | Classifier) -> str:
    """What "auto" stands for here.

    On a CPU a loop over mutants is 2 to 2.5 times faster than vmap, whose convolutions become grouped ones and whose gates
    become selects; with a classifier's stages it shares what mutants have in common. Accelerators take all mutants at once.

    Raises:
      ValueError: unknown, or "stages" of a network that is no `Classifier`.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}; choose one of {', '.join(METHODS)}")
    staged = isinstance(network, Classifier)
    if method == "stages" and not staged:
        raise ValueError("method is 'stages', which needs a Classifier with its stages, not a function alone")
    if method != "auto":
        return method
    if jax.default_backend() != "cpu":
        return "vmap"
    return "stages" if staged else "map"


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
      method: "map", one mutant after the other; "vmap", all at once; "auto", map on a CPU and vmap elsewhere.

    Returns:
      [M, ...], what `reduce` gives; [M, B, num_classes] by default.

    Raises:
      ValueError: another method, mutants without a common leading axis, or images of another shape or type; values are not
        looked at.
    """
    mapped, mutants = chosen_method(method, apply_fn) == "map", as_mutants(mutants)

    def of(images: Array) -> Array:
        one = lambda mutant: reduce(apply_fn(mutant, images))  # noqa: E731
        return jax.lax.map(one, mutants) if mapped else jax.vmap(one)(mutants)

    images = read_images(images, values=False)
    return of(images) if len(images) else of_no_images(of, images, axis=1)


def _stage_of(path: tuple, names: tuple[str, ...]) -> int:
    """The stage that reads the leaf at this path, variables[collection][stage]...; 0 where no stage has its name."""
    name = path[1].key if len(path) > 1 else None
    return names.index(name) if name in names else 0


@partial(jax.jit, static_argnames="classifier")
def changes(classifier: Classifier, variables: Variables, mutants: Variables) -> tuple[Array, Array, dict[str, Array]]:
    """Where mutants begin to differ from the network.

    Returns:
      (first [M], the index of the first stage with a changed leaf, the number of stages where there is none;
      narrow [M], whether no more than a quarter of that stage's neurons, or two, and nothing else of it is changed;
      neurons {stage: [M, K]}, indices of the changed neurons of each neuronwise stage, filled up with others).
    """
    names = tuple(name for name, _ in classifier.stages)
    number = len(jax.tree.leaves(mutants)[0])
    differs = jax.tree.map(lambda leaves, leaf: leaves != jnp.asarray(leaf)[None], mutants, variables)
    flat = [(path, leaf) for path, leaf in jax.tree_util.tree_flatten_with_path(differs)[0]]
    in_stage = [jnp.zeros(number, bool)] * len(names)
    narrow, neurons = list(in_stage), {}
    for s, name in enumerate(names):
        leaves = [leaf for path, leaf in flat if _stage_of(path, names) == s]
        in_stage[s] = in_stage[s] | jnp.stack([leaf.reshape(number, -1).any(1) for leaf in leaves] or in_stage[s : s + 1]).any(0)
        if name not in classifier.neuronwise:
            continue
        width = max(leaf.shape[-1] for leaf in leaves if leaf.ndim > 1)
        columns = [leaf.reshape(number, -1, width).any(1) for leaf in leaves if leaf.ndim > 1]
        changed, rest = jnp.stack(columns).any(0), [leaf for leaf in leaves if leaf.ndim == 1]
        room = min(width, max(2, width // 4))
        narrow[s] = (changed.sum(1) <= room) & ~jnp.stack(rest or in_stage[-1:]).any(0)
        neurons[name] = jax.lax.top_k(changed.astype(jnp.int32), room)[1]
    stages = jnp.stack(in_stage)
    first = jnp.where(stages.any(0), stages.argmax(0), len(names))
    chosen = jnp.take_along_axis(jnp.stack(narrow), jnp.minimum(first, len(names) - 1)[None], axis=0)[0]
    return first, chosen & (first < len(names)), neurons


def _some_neurons(variables: Variables, name: str, neurons: Array) -> Variables:
    """The network with the leaves [..., neurons] of a stage cut down to these neurons."""
    cut = jax.tree.map(lambda leaf: leaf[..., neurons], variables["params"][name])
    return {**variables, "params": {**variables["params"], name: cut}}


def _staged(
    classifier: Classifier, reduce: Callable, variables: Variables, mutants: Variables, plan: tuple, images: Array
) -> Array:
    """Mutants in the order of their first changed stage, each continued from the network's own activations there.

    Two loops a stage, of mutants with few changed neurons there, whose other neurons are the network's own, and of the rest.
    Their bounds are data: one program serves every population.
    """
    order, bounds, neurons = plan
    names = tuple(name for name, _ in classifier.stages)
    has_leaves = {_stage_of(path, names) for path, _ in jax.tree_util.tree_flatten_with_path(variables)[0]}

    def continued(first: int, mutant: Variables, x: Array) -> Array:
        for _, stage in classifier.stages[first:]:
            x = stage(mutant, x)
        return reduce(x)

    shape = jax.eval_shape(partial(continued, 0), variables, images)
    result = jax.tree.map(lambda leaf: jnp.zeros((len(order), *leaf.shape), leaf.dtype), shape)

    def loop(first: Array, last: Array, one: Callable[[Array, Variables], Array], result: Any) -> Any:
        def body(i, result):
            value = one(order[i], jax.tree.map(lambda leaf: leaf[order[i]], mutants))
            return jax.tree.map(lambda many, one: many.at[order[i]].set(one), result, value)

        return jax.lax.fori_loop(first, last, body, result)

    x = images
    for s, (name, stage) in enumerate(classifier.stages):
        following = stage(variables, x)
        if name in neurons:

            def narrow(i, mutant, s=s, x=x, following=following, name=name, stage=stage):
                part = stage(_some_neurons(mutant, name, neurons[name][i]), x)
                return continued(s + 1, mutant, following.at[neurons[name][i]].set(part))

            result = loop(bounds[2 * s], bounds[2 * s + 1], narrow, result)
        if s in has_leaves:
            result = loop(bounds[2 * s + 1], bounds[2 * s + 2], lambda i, mutant, s=s, x=x: continued(s, mutant, x), result)
        x = following
    same = reduce(x)
    return loop(bounds[-2], bounds[-1], lambda i, mutant: same, result)


@partial(jax.jit, static_argnames=("network", "reduce", "method", "mesh"))
def _batch(
    network: Any, reduce: Callable, method: str, mesh: Mesh | None, variables: Any, mutants: Variables, plan: Any, images: Array
) -> Array:
    def on_one_device(variables: Any, mutants: Variables, plan: Any, images: Array) -> Array:
        if method == "stages":
            return _staged(network, reduce, variables, mutants, plan, images)
        apply_fn = network.apply if isinstance(network, Classifier) else network
        return evaluate(apply_fn, mutants, images, reduce, method)

    if mesh is None:
        return on_one_device(variables, mutants, plan, images)
    everywhere, over_images = PartitionSpec(), PartitionSpec(devices.AXIS)
    specs = (everywhere, everywhere, everywhere, over_images)
    mapped = jax.shard_map(on_one_device, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(None, devices.AXIS), check_vma=False)
    return mapped(variables, mutants, plan, images)


def outputs(
    network: ApplyFn | Classifier,
    mutants: Variables,
    images: Array,
    variables: Variables | None = None,
    reduce: Callable[[Array], Array] = lambda logits: logits,
    batch_size: int | None = None,
    method: str = "auto",
    mesh: Mesh | None = None,
) -> np.ndarray:
    """What M mutants make of N images, on the host; no more than some batches are in memory beside the result.

    Args:
      network: the network as a function, or as a `Classifier`, whose stages before the first mutated one are then computed
        once for all mutants. Pass the same object again, and the same `reduce`, and nothing is compiled again.
      mutants: tree with a leading axis M.
      images: [N, H, W, C], any N.
      variables: the network's own, whose activations are shared; without them "auto" shares none.
      reduce: what is kept of a mutant's logits [B, num_classes]: [B, ...].
      batch_size: images at once on a device; None: 50 on a CPU, whose caches hold them, 100 on others. The last batch is
        filled up, so that one program serves all.
      mesh: devices that share the images, see `devices.make_mesh`; the result is the same bit for bit.
      method: "stages", "map", "vmap" or "auto", see `chosen_method`.

    Returns:
      [M, N, ...].

    Raises:
      ValueError: an unknown method, one that lacks what it needs, a batch size below 1, mutants that are not M of this network,
        or images that `inputs.as_images` refuses.
    """
    images, variables = read_images(images), as_variables(variables)
    mutants = as_mutants(mutants, variables)
    if variables is None and isinstance(network, Classifier):
        network = network.apply
    method, plan = chosen_method(method, network), None
    if method == "stages":
        plan = _plan(network, variables, mutants)
    if batch_size is None:
        batch_size = 50 if jax.default_backend() == "cpu" else 100
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; at least one image is evaluated at a time")
    if not len(images):
        apply_fn = network.apply if isinstance(network, Classifier) else network
        return np.asarray(of_no_images(lambda x: jax.vmap(lambda mutant: reduce(apply_fn(mutant, x)))(mutants), images, axis=1))
    number, size = len(images), min(batch_size, len(images)) * devices.size(mesh)
    shared = devices.replicated((variables if plan else None, mutants, plan), mesh)

    def part(start: int) -> np.ndarray:
        rows = devices.spread(images[np.arange(start, start + size) % number], mesh)
        return devices.fetched(_batch(network, reduce, method, mesh, *shared, rows))

    return np.concatenate(devices.in_threads(part, range(0, number, size)), axis=1)[:, :number]


def _plan(classifier: Classifier, variables: Variables, mutants: Variables) -> tuple[Array, Array, dict[str, Array]]:
    """Mutants [M] in the order of their first changed stage, those of few neurons before others, where in it each such group
    begins, [2 stages + 2], and the neurons.
    """
    first, narrow, neurons = changes(classifier, variables, mutants)
    group = 2 * np.asarray(first) + ~np.asarray(narrow)
    order, last = np.argsort(group, kind="stable"), 2 * len(classifier.stages) + 1
    group = np.where(group >= last - 1, last - 1, group)
    bounds = np.searchsorted(group[order], np.arange(last + 1))
    return jnp.asarray(order, jnp.int32), jnp.asarray(bounds, jnp.int32), neurons


def votes(
    network: ApplyFn | Classifier, mutants: Variables, images: Array, variables: Variables | None = None, **how
) -> np.ndarray:
    """The label each mutant gives each image, [M, N] int32, on the host; arguments as in `outputs`."""
    return outputs(network, mutants, images, variables, decide, **how)


@partial(jax.jit, static_argnames=("apply_fn",))
def _logits(apply_fn: ApplyFn, variables: Variables, images: Array) -> Array:
    return apply_fn(variables, images)


def logits(network: ApplyFn | Classifier, variables: Variables, images: Array, batch_size: int = 500) -> np.ndarray:
    """Logits of one network, [N, num_classes], on the host; batches and padding as in `outputs`.

    Raises:
      ValueError: a batch size below 1, or images that `inputs.as_images` refuses.
    """
    apply_fn = network.apply if isinstance(network, Classifier) else network
    variables, images = as_variables(variables), read_images(images)
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; at least one image is evaluated at a time")
    if not len(images):
        return np.asarray(of_no_images(lambda x: apply_fn(variables, x), images))
    size = min(batch_size, len(images))
    result = []
    for start in range(0, len(images), size):
        rows = np.arange(start, start + size) % len(images)
        result.append(np.asarray(_logits(apply_fn, variables, images[rows]))[: len(images) - start])
    return np.concatenate(result)


def predictions(network: ApplyFn | Classifier, variables: Variables, images: Array, batch_size: int = 500) -> np.ndarray:
    """The label one network gives each image, [N] int32, on the host, as `decide` has it."""
    return np.asarray(decide(logits(network, variables, images, batch_size)))


def probabilities(network: ApplyFn | Classifier, variables: Variables, images: Array, batch_size: int = 500) -> np.ndarray:
    """The softmax of one network's logits, [N, num_classes], on the host."""
    return np.asarray(jax.nn.softmax(logits(network, variables, images, batch_size)))
