"""The peers' networks: ours in PyTorch, as its user would write them, with weights copied from our variables.

PyTorch's own layouts are used throughout (images [B, C, H, W], kernels [out, in, h, w]); what differs is turned once, when
weights are copied, so that no peer pays for our layouts.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from mgan_jax.types import Variables


class Layer(NamedTuple):
    """A layer with ReLU: `size` of the kernel (0: a dense layer), `same` padding, and whether its input is added."""

    name: str
    width: int
    size: int = 0
    same: bool = True
    residual: bool = False


Gates = dict[str, dict[str, bool | Tensor]]
"""{layer: {gate: value}}, `source` a tensor [features] of indices, the others plain Python values."""
POOL = "pool"


def architecture(name: str, image_shape: tuple[int, int, int]) -> tuple[Layer | str, ...]:
    """The hidden layers of lenet, cnn or carlini_wagner_cnn, in order; KeyError for another name."""
    same = min(image_shape[:2]) < 16
    small = Layer("conv1", 6, 5), POOL, Layer("conv2", 16, 5, same)
    pairs = [Layer(f"conv{i + 1}", width, 3, same) for i, width in enumerate((32, 32, 64, 64))]
    return {
        "lenet": (*small, POOL, Layer("dense1", 120), Layer("dense2", 84)),
        "cnn": (*small, Layer("conv3", 16, 3, residual=True), POOL, Layer("dense1", 120), Layer("dense2", 120, residual=True)),
        "carlini_wagner_cnn": (*pairs[:2], POOL, *pairs[2:], POOL, Layer("dense1", 200), Layer("dense2", 200)),
    }[name]


class TorchClassifier(nn.Module):
    """One of our target networks, [B, C, H, W] -> logits [B, num_classes].

    `gates` holds those that a mutant changed: a PyTorch network is changed by running other code. `channels` counts the channels
    that are flattened.
    """

    def __init__(self, name: str, image_shape: tuple[int, int, int], num_classes: int):
        super().__init__()
        self.order = architecture(name, image_shape)
        self.gates: Gates = {}
        (height, breadth, channels), features = image_shape, 0
        for layer in self.order:
            if layer == POOL:
                height, breadth = height // 2, breadth // 2
            elif layer.size:
                lost = 0 if layer.same else layer.size - 1
                height, breadth = height - lost, breadth - lost
                convolution = nn.Conv2d(channels, layer.width, layer.size, padding=layer.size // 2 if layer.same else 0)
                self.add_module(layer.name, convolution)
                channels = self.channels = layer.width
            else:
                features = features or height * breadth * channels
                self.add_module(layer.name, nn.Linear(features, layer.width))
                features = layer.width
        self.output = nn.Linear(features, num_classes)

    def gated(self, layer: Layer, x: Tensor) -> Tensor:
        """The layer with its ReLU, its residual sum, and what its gates make of them."""
        module, gates = getattr(self, layer.name), self.gates.get(layer.name, {})
        activation = gates.get("activation", True)
        branch = lambda x: functional.relu(module(x), inplace=True) if activation else module(x)  # noqa: E731
        if not layer.residual:
            return branch(x)
        source = gates.get("source")

        def taken(y: Tensor) -> Tensor:
            """Each place's neuron, 0 where there is none."""
            if source is None:
                return y
            exists = (source >= 0).view(-1, *(1,) * (y.ndim - 2))
            return torch.where(exists, y.index_select(1, source.clamp(min=0)), 0.0)

        y = taken(x + branch(x) if gates.get("active", True) else x)
        return taken(y + branch(y)) if gates.get("repeated", False) else y

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.order:
            if layer == POOL:
                x = functional.max_pool2d(x, 2)
            else:
                x = self.gated(layer, x if layer.size or x.ndim == 2 else x.flatten(1))
        return self.output(x)


def strided(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    """A 3 x 3 convolution of stride 2 that pads as XLA's "SAME" does: an even side at its end alone."""
    height, breadth = x.shape[-2:]
    if height % 2 and breadth % 2:
        return functional.conv2d(x, convolution.weight, convolution.bias, 2, 1)
    return convolution(functional.pad(x, (breadth % 2, 1, height % 2, 1)))


class TorchGenerator(nn.Module):
    """`models.generator`, [B, C, H, W] -> perturbations of the same shape within epsilon."""

    def __init__(self, channels: int, epsilon: float = 0.3, widths: tuple[int, ...] = (8, 16, 32), num_residual_blocks: int = 4):
        super().__init__()
        self.epsilon, self.widths, self.blocks = epsilon, widths, num_residual_blocks
        same = [(widths[-1], widths[-1])] * (2 * num_residual_blocks)
        decoder = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        pairs = [*zip((channels, *widths[:-1]), widths, strict=True), *same, *decoder]
        encoder = [nn.Conv2d(i, o, 3, 2 if n else 1, padding=0 if n else 1) for n, (i, o) in enumerate(pairs[: len(widths)])]
        others = [nn.Conv2d(i, o, 3, padding=1) for i, o in [*pairs[len(widths) :], (widths[0], channels)]]
        self.convs = nn.ModuleList([*encoder, *others])
        self.norms = nn.ModuleList(nn.InstanceNorm2d(o, eps=1e-6, affine=True) for _, o in pairs)

    def forward(self, x: Tensor) -> Tensor:
        layers, sizes = iter(zip(self.convs, self.norms, strict=False)), []
        for i in range(len(self.widths)):
            sizes.append(x.shape[2:])
            convolution, norm = next(layers)
            x = functional.relu(norm(strided(convolution, x) if i else convolution(x)), inplace=True)
        for _ in range(self.blocks):
            (first, first_norm), (second, second_norm) = next(layers), next(layers)
            x = x + second_norm(second(functional.relu(first_norm(first(x)), inplace=True)))
        for height, breadth in sizes[:0:-1]:
            convolution, norm = next(layers)
            x = convolution(functional.interpolate(x, scale_factor=2, mode="nearest"))[..., :height, :breadth]
            x = functional.relu(norm(x), inplace=True)
        return self.epsilon * torch.tanh(self.convs[-1](x))


class TorchDiscriminator(nn.Module):
    """`models.discriminator`, [B, C, H, W] -> scores [B]."""

    def __init__(self, image_shape: tuple[int, int, int], widths: tuple[int, ...] = (8, 16, 32)):
        super().__init__()
        height, breadth, channels = image_shape
        pairs = zip((channels, *widths[:-1]), widths, strict=True)
        self.convs = nn.ModuleList(nn.Conv2d(i, o, 3, 2) for i, o in pairs)
        self.norms = nn.ModuleList(nn.InstanceNorm2d(width, eps=1e-6, affine=True) for width in widths[1:])
        self.channels = widths[-1]
        shrink = 2 ** len(widths)
        self.dense = nn.Linear(-(-height // shrink) * -(-breadth // shrink) * widths[-1], 1)

    def forward(self, x: Tensor) -> Tensor:
        for i, convolution in enumerate(self.convs):
            x = strided(convolution, x)
            x = functional.leaky_relu(self.norms[i - 1](x) if i else x, 0.2, inplace=True)
        return self.dense(x.flatten(1))[:, 0]


def device() -> torch.device:
    """Where the peers run: where we do."""
    return torch.device("cpu" if jax.default_backend() == "cpu" else "cuda")


def images(values: np.ndarray) -> Tensor:
    """Images [N, H, W, C] as PyTorch has them, [N, C, H, W], on its device."""
    return torch.from_numpy(np.array(np.moveaxis(np.asarray(values), -1, 1), order="C")).to(device())


def module_name(layer: str) -> str:
    """Where PyTorch's network holds a layer of ours: Conv_3 -> convs.3, Dense_0 -> dense, conv1 -> conv1."""
    kind, _, number = layer.partition("_")
    return {"Conv": f"convs.{number}", "InstanceNorm": f"norms.{number}", "Dense": "dense"}.get(kind, layer)


def weights(variables: Variables, channels: int, leading: int = 0) -> dict[str, Tensor]:
    """Our weights as PyTorch's `state_dict`, copied, on its device.

    Args:
      variables: of one network, or of many with leading axes.
      channels: of the images that are flattened before the first dense layer, which PyTorch flattens channels first.
      leading: how many leading axes every leaf has; 1 for mutants.
    """
    converted, flattened = {}, False
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"]):
        name, value = module_name(path[0].key), np.asarray(leaf)
        if path[-1].key == "kernel" and value.ndim - leading == 4:
            value = np.moveaxis(value, (-1, -2), (leading, leading + 1))
        elif path[-1].key == "kernel":
            value = value.swapaxes(-1, -2)
            if not flattened:  # Leaves are in alphabetic order, and so are the dense layers of all our networks.
                outer, (out, features) = value.shape[:leading], value.shape[leading:]
                value = value.reshape(*outer, out, features // channels, channels).swapaxes(-1, -2).reshape(*outer, out, features)
                flattened = True
        kind = "bias" if path[-1].key == "bias" else "weight"
        converted[f"{name}.{kind}"] = torch.from_numpy(np.array(value, order="C")).to(device())
    return converted


def gates(structure: Mapping, rest: Mapping) -> Gates:
    """The gates of one mutant that differ from those of the network at rest."""
    value = lambda gate: torch.tensor(np.asarray(gate), device=device()) if np.ndim(gate) else bool(gate)  # noqa: E731
    changed = {
        layer: {name: value(gate) for name, gate in found.items() if np.any(np.asarray(gate) != np.asarray(rest[layer][name]))}
        for layer, found in structure.items()
    }
    return {layer: found for layer, found in changed.items() if found}
