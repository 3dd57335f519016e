"""The peers' mutants: a PyTorch network is copied and chosen neurons, weights or layers of the copy are edited in place.

That is how the public code of mutation testing makes a mutant (Wang et al. 2019, Ma et al. 2018). What is edited is chosen by
NumPy; what happens to the neurons of a layer is one indexed operation, faster than the loop over neurons usual there.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmarks.torch_networks import POOL, TorchClassifier

Parameters = dict[str, Tensor]


def _count(rate: float, total: int, minimum: int = 1) -> int:
    return max(minimum, int(rate * total + 1e-9))


def _layers(parameters: Parameters) -> list[str]:
    return [name.removesuffix(".weight") for name in parameters if name.endswith(".weight")]


def _neurons(parameters: Parameters, rng: np.random.Generator, rate: float) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(weight, bias, indices) of each layer that holds chosen neurons: a share of all neurons of the network at once."""
    names = _layers(parameters)
    ends = np.cumsum([len(parameters[f"{name}.bias"]) for name in names])
    chosen = np.sort(rng.choice(ends[-1], _count(rate, ends[-1]), replace=False))
    found, starts = [], [0, *ends[:-1]]
    for name, start, end in zip(names, starts, ends, strict=True):
        indices = chosen[(chosen >= start) & (chosen < end)] - start
        if len(indices):
            weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
            found.append((weight, bias, torch.from_numpy(indices).to(weight.device)))
    return found


def neuron_activation_inverse(parameters: Parameters, rng: np.random.Generator, rate: float) -> None:
    """NAI: chosen neurons change the sign of their weights and bias."""
    for weight, bias, indices in _neurons(parameters, rng, rate):
        weight[indices], bias[indices] = -weight[indices], -bias[indices]


def neuron_effect_blocking(parameters: Parameters, rng: np.random.Generator, rate: float) -> None:
    """NEB: chosen neurons get weights and bias 0."""
    for weight, bias, indices in _neurons(parameters, rng, rate):
        weight[indices], bias[indices] = 0.0, 0.0


def weight_shuffling(parameters: Parameters, rng: np.random.Generator, rate: float) -> None:
    """WS: each chosen neuron's weights are permuted."""
    for weight, _, indices in _neurons(parameters, rng, rate):
        flat = weight[indices].flatten(1)
        order = np.argsort(rng.random(tuple(flat.shape)), axis=1)
        weight[indices] = flat.gather(1, torch.from_numpy(order).to(flat.device)).view_as(weight[indices])


def neuron_switch(parameters: Parameters, rng: np.random.Generator, rate: float) -> None:
    """NS: in each hidden layer of at least 10 neurons, chosen ones exchange weights and biases along a cycle."""
    for name in _layers(parameters)[:-1]:
        weight, bias = parameters[f"{name}.weight"], parameters[f"{name}.bias"]
        if len(bias) >= 10:
            indices = rng.choice(len(bias), _count(rate, len(bias), 2), replace=False)
            target, source = (torch.from_numpy(array).to(weight.device) for array in (indices, np.roll(indices, -1)))
            weight[target], bias[target] = weight[source], bias[source]


def gaussian_fuzzing(parameters: Parameters, rng: np.random.Generator, rate: float) -> None:
    """GF: chosen weights get noise of their layer's standard deviation."""
    weights = [parameters[f"{name}.weight"] for name in _layers(parameters)]
    ends = np.cumsum([weight.numel() for weight in weights])
    chosen = np.sort(rng.choice(ends[-1], _count(rate, ends[-1]), replace=False))
    for weight, start, end in zip(weights, [0, *ends[:-1]], ends, strict=True):
        low, high = np.searchsorted(chosen, (start, end))
        indices = torch.from_numpy(chosen[low:high] - start).to(weight.device)
        noise = torch.from_numpy(rng.standard_normal(high - low, np.float32)).to(weight.device)
        weight.view(-1)[indices] += weight.std(correction=0) * noise


EDITS: dict[str, Callable[[Parameters, np.random.Generator, float], None]] = {
    "GF": gaussian_fuzzing,
    "WS": weight_shuffling,
    "NEB": neuron_effect_blocking,
    "NAI": neuron_activation_inverse,
    "NS": neuron_switch,
}
"""Abbreviations of the operators on weights, and their edits of `named_parameters`, in place."""
GATES = {"LD": ("active", False), "LA": ("repeated", True), "AFR": ("activation", False)}
"""Abbreviations of the operators on layers, and the gate each writes."""


def mutant(model: TorchClassifier, operator: str, rng: np.random.Generator, rate: float) -> TorchClassifier:
    """A copy of the network, mutated: as many neurons, weights or layers change as in our operator of that abbreviation.

    Args:
      model: left as it is; its parameters need no gradients.
      operator: abbreviation of one of the eight.
      rng: what is chosen.
      rate: share of the neurons, weights or layers.
    """
    copied = copy.deepcopy(model)
    if operator in EDITS:
        EDITS[operator](dict(copied.named_parameters()), rng, rate)
        return copied
    gate, value = GATES[operator]
    eligible = [layer.name for layer in model.order if layer != POOL and (layer.residual or gate == "activation")]
    number = max(1, round(rate * len(eligible)))
    copied.gates = {name: {gate: value} for name in rng.choice(eligible, number, replace=False)}
    return copied
