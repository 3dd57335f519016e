"""Votes of many mutants in PyTorch: a loop over mutants, and `torch.func.vmap`, each tuned as a good user would."""

import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from benchmarks import torch_networks
from benchmarks.torch_networks import Gates, TorchClassifier
from mgan_jax.types import Variables


class TorchMutants(NamedTuple):
    """A network and its mutants: weights with a leading axis M, and the gates of each mutant that differ from the network's."""

    model: TorchClassifier
    weights: dict[str, Tensor]
    gates: list[Gates]


def converted(name: str, image_shape: tuple[int, int, int], rest: Variables, mutants: Variables) -> TorchMutants:
    """Our mutants [M, ...] of the network with the variables `rest` in PyTorch."""
    num_classes = len(rest["params"]["output"]["bias"])
    model = TorchClassifier(name, image_shape, num_classes).to(torch_networks.device()).eval().requires_grad_(False)
    weights = torch_networks.weights(mutants, model.channels, leading=1)
    model.load_state_dict(torch_networks.weights(rest, model.channels))
    number = len(next(iter(weights.values())))
    structure = jax.tree.map(np.asarray, mutants.get("structure", {}))
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], structure) for i in range(number)]
    return TorchMutants(model, weights, [torch_networks.gates(one, rest.get("structure", {})) for one in each])


def first(mutants: TorchMutants, number: int) -> TorchMutants:
    """The first mutants of many."""
    return mutants._replace(weights={k: v[:number] for k, v in mutants.weights.items()}, gates=mutants.gates[:number])


def _prepared(images: np.ndarray, channels_last: bool) -> Tensor:
    form = torch.channels_last if channels_last else torch.contiguous_format
    return torch_networks.images(images).to(memory_format=form)


def loop(mutants: TorchMutants, images: np.ndarray, batch: int, channels_last: bool) -> Callable[[], np.ndarray]:
    """One mutant after the other.

    A mutant's weights are put in the network's place without being copied; conversions are done before, outside the time.

    Args:
      mutants: M of them.
      images: [N, H, W, C].
      batch: images at once.
      channels_last: whether images and kernels lie in memory channels last.

    Returns:
      A call that gives votes [M, N] int64 on the host.
    """
    model, batches = mutants.model, _prepared(images, channels_last).split(batch)
    form = torch.channels_last if channels_last else torch.contiguous_format
    parameters, number = dict(model.named_parameters()), len(mutants.gates)
    laid = lambda tensor: tensor.contiguous(memory_format=form) if tensor.ndim == 4 else tensor  # noqa: E731
    weights = [{name: laid(stacked[i]) for name, stacked in mutants.weights.items()} for i in range(number)]
    result = torch.empty(number, len(images), dtype=torch.int64, device=torch_networks.device())

    @torch.inference_mode()
    def votes() -> np.ndarray:
        before = {name: parameter.data for name, parameter in parameters.items()}
        for i, (mutant, changed) in enumerate(zip(weights, mutants.gates, strict=True)):
            for name, value in mutant.items():
                parameters[name].data = value
            model.gates = changed
            for row, images in zip(result[i].split(batch), batches, strict=True):
                torch.argmax(model(images), 1, out=row)
        for name, value in before.items():
            parameters[name].data = value
        model.gates = {}
        return result.cpu().numpy()

    return votes


def vmap(mutants: TorchMutants, images: np.ndarray, batch: int, together: int) -> Callable[[], np.ndarray]:
    """`torch.func.vmap` over stacked weights, `together` mutants at once; arguments and result as in `loop`.

    Raises:
      ValueError: a mutant has other layers, which one program cannot give to some mutants alone.
    """
    changed = [(layer, found) for one in mutants.gates for layer, found in one.items()]
    if any(set(found) != {"source"} for _, found in changed):
        raise ValueError("torch.func.vmap cannot change the layers of some mutants alone; use operators on weights or neurons")
    model, batches, number = mutants.model, _prepared(images, False).split(batch), len(mutants.gates)
    rest = {layer: torch.arange(len(found["source"]), device=torch_networks.device()) for layer, found in changed}
    own = lambda layer, one: one.get(layer, {"source": rest[layer]})["source"]  # noqa: E731
    sources = {layer: torch.stack([own(layer, one).long() for one in mutants.gates]) for layer in rest}

    def one(weights: dict[str, Tensor], sources: dict[str, Tensor], images: Tensor) -> Tensor:
        model.gates = {layer: {"source": source} for layer, source in sources.items()}
        return functional_call(model, weights, (images,)).argmax(-1)

    call = torch.func.vmap(one, in_dims=(0, 0, None))
    part = lambda tree, i: {name: stacked[i : i + together] for name, stacked in tree.items()}  # noqa: E731
    groups = [(part(mutants.weights, i), part(sources, i)) for i in range(0, number, together)]

    @torch.inference_mode()
    def votes() -> np.ndarray:
        try:
            return torch.cat([torch.cat([call(*group, images) for images in batches], 1) for group in groups]).cpu().numpy()
        finally:
            model.gates = {}

    return votes


def _best(candidates: Iterable[tuple[int, ...]], make: Callable[..., Callable[[], object]]) -> tuple[int, ...]:
    """The candidate whose call is fastest, the shorter of two times after a warm-up."""
    times = {}
    for candidate in candidates:
        call = make(*candidate)
        call()
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        times[candidate] = min(seconds)
    return min(times, key=lambda candidate: times[candidate])


def _sizes(most: int, number: int) -> list[int]:
    return sorted({min(size, number) for size in (50, 100, 200, 500, 1000, 2000, 10000) if size <= most})


def tuned_loop(mutants: TorchMutants, images: np.ndarray) -> tuple[Callable[[], np.ndarray], str]:
    """`loop` with the batch size and memory format that are fastest for two of the mutants on up to 2,000 images; and which.

    On an accelerator all images and batches of up to 10,000 are tried.
    """
    accelerator = torch_networks.device().type != "cpu"
    shown = images if accelerator else images[:2000]
    few = first(mutants, 2)
    candidates = [(size, last) for size in _sizes(10000 if accelerator else 2000, len(shown)) for last in (False, True)]
    batch, last = _best(candidates, lambda batch, last: loop(few, shown, batch, bool(last)))
    return loop(mutants, images, batch, bool(last)), f"batches of {batch}{', channels last' if last else ''}"


def tuned_vmap(mutants: TorchMutants, images: np.ndarray) -> tuple[Callable[[], np.ndarray], str]:
    """`vmap` with the numbers of images and mutants at once that are fastest on a part of the work; and which.

    On a CPU 20 mutants and 500 images are tried, on an accelerator 100 and 2,000.
    """
    accelerator = torch_networks.device().type != "cpu"
    tried, shown = (100, images[:2000]) if accelerator else (20, images[:500])
    some = first(mutants, tried)
    groups = sorted({min(size, len(some.gates)) for size in (5, 20, tried)})
    candidates = [(batch, together) for batch in _sizes(2000, len(shown)) for together in groups]
    batch, together = _best(candidates, lambda batch, together: vmap(some, shown, batch, together))
    return vmap(mutants, images, batch, together), f"batches of {batch} images, {together} mutants at once"
