"""Invert-and-classify against the same loop in PyTorch: the same generator, starts and steps, seconds for all images.

python -m benchmarks.defenses --size=small|paper|large [--json=FILE] [--rows=REGEX] [--data_dir=FOLDER]
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import command_line, material
from benchmarks.command_line import Settings
from benchmarks.timing import Row, alternate, compared, timed
from benchmarks.votes import AnswersDiffer
from mgan_jax.inversion import Descent, invert
from mgan_jax.models.decoder import decoder
from mgan_jax.types import Variables

CODE_SIZE = 32
STEPS = {"small": 3, "paper": 200, "large": 200}
RESTARTS = {"small": 2, "paper": 10, "large": 10}
LEARNING_RATE, MOMENTUM = 10.0, 0.7
TOLERANCE = 1e-2
"""How far the mean errors may differ, relative: in 200 steps rounding can lead a code elsewhere."""


class Work(NamedTuple):
    """Inversion of some images.

    Attributes:
      form: of the decoder.
      widths: its layers.
      num_images: how many.
    """

    form: str
    widths: tuple[int, ...]
    num_images: int


def works(size: str) -> list[Work]:
    """What is measured."""
    dense, convolutional = {"small": (8, 4), "paper": (1000, 200), "large": (1000, 200)}[size]
    return [Work("dense", (256,), dense), Work("convolutional", (32, 16), convolutional)]


def torch_decoder(form: str, variables: Variables, widths: tuple[int, ...]) -> Any:
    """`models.decoder` in PyTorch, [B, K] -> [B, C, H, W], with our weights."""
    import torch
    from torch import nn

    from benchmarks import torch_networks

    params, (height, breadth, channels) = variables["params"], material.IMAGE_SHAPE
    tensor = lambda array: torch.from_numpy(np.array(array, order="C")).to(torch_networks.device())  # noqa: E731
    offset = tensor(np.moveaxis(np.asarray(params["offset"]), -1, 0)[None])
    kernel = np.asarray(params["kernel"])
    dense = nn.Linear(CODE_SIZE, params["Dense_0"]["bias"].size)
    dense.load_state_dict({"weight": tensor(params["Dense_0"]["kernel"].T), "bias": tensor(params["Dense_0"]["bias"])})
    if form == "dense":
        last = tensor(kernel.reshape(-1, height, breadth, channels).transpose(3, 1, 2, 0).reshape(-1, kernel.shape[0]))
        shape = (-1, channels, height, breadth)
        return lambda codes: torch.sigmoid((torch.relu(dense(codes)) @ last.T).reshape(shape) + offset)

    def turned(kernel: Any) -> Any:
        return tensor(np.moveaxis(np.asarray(kernel), (-1, -2), (0, 1)))

    last, small = turned(kernel), (widths[0], -(-height // 2 ** len(widths)), -(-breadth // 2 ** len(widths)))
    between = [(turned(params[f"Conv_{i}"]["kernel"]), tensor(params[f"Conv_{i}"]["bias"])) for i in range(len(widths) - 1)]

    def doubled(x: Any, weight: Any, bias: Any = None) -> Any:
        return torch.nn.functional.conv2d(torch.nn.functional.interpolate(x, scale_factor=2), weight, bias, padding=1)

    def apply(codes: Any) -> Any:
        x = torch.relu(dense(codes)).reshape(-1, *small)
        for weight, bias in between:
            x = torch.relu(doubled(x, weight, bias))
        return torch.sigmoid(doubled(x, last)[..., :height, :breadth] + offset)

    return apply


def torch_invert(decode: Any, images: Any, starts: Any, num_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """All restarts of all images one batch, `torch.optim.SGD`; codes [B, K] and errors [B]."""
    import torch

    restarts, batch = len(starts), len(images)
    codes = starts[:, None].expand(-1, batch, -1).reshape(restarts * batch, -1).clone().requires_grad_(True)
    targets = images.repeat(restarts, 1, 1, 1)
    optimizer = torch.optim.SGD([codes], LEARNING_RATE, MOMENTUM)
    for _ in range(num_steps):
        optimizer.zero_grad(set_to_none=True)
        (decode(codes) - targets).square().mean((1, 2, 3)).sum().backward()
        optimizer.step()
    with torch.no_grad():
        errors = (decode(codes) - targets).square().mean((1, 2, 3)).reshape(restarts, batch)
        best = errors.argmin(0)
        found = codes.reshape(restarts, batch, -1)[best, torch.arange(batch)]
        return found.cpu().numpy(), errors.min(0).values.cpu().numpy()


def rows(settings: Settings) -> Iterator[Row]:
    """A row for every form of the decoder, its weights as drawn.

    Raises:
      votes.AnswersDiffer: PyTorch reconstructs otherwise.
    """
    num_steps, restarts = STEPS[settings.size], RESTARTS[settings.size]
    for work in works(settings.size):
        name = f"invert and classify: {work.form}, {work.num_images} images, R = {restarts}, L = {num_steps}"
        if not settings.wanted(name):
            continue
        import torch

        from benchmarks import torch_networks

        images = material.data(settings.size, settings.data_dir)[2].images[: work.num_images]
        made = decoder(CODE_SIZE, work.widths, work.form)
        variables = made.init(jax.random.key(0), material.IMAGE_SHAPE)
        starts = jax.random.normal(jax.random.key(1), (restarts, CODE_SIZE))
        descent = Descent(num_steps, LEARNING_RATE, MOMENTUM, "momentum")
        call = jax.jit(lambda v, x, s, made=made, descent=descent: invert(made.apply, v, x, s, descent))
        compile_s, compiled = timed(call.lower(variables, jnp.asarray(images), starts).compile)
        peer, inputs = torch_decoder(work.form, variables, work.widths), torch_networks.images(images)
        torch_starts = torch.from_numpy(np.array(starts)).to(inputs.device)

        on_device = jnp.asarray(images)

        def ours(compiled=compiled, variables=variables, images=on_device, starts=starts) -> Any:
            return compiled(variables, images, starts)

        def theirs(peer=peer, inputs=inputs, torch_starts=torch_starts) -> Any:
            return torch_invert(peer, inputs, torch_starts, num_steps)

        errors, peers_errors = np.asarray(ours().errors), theirs()[1]
        differing = float(abs(errors.mean() / peers_errors.mean() - 1))
        if differing > TOLERANCE:
            raise AnswersDiffer(f"mean squared errors are {errors.mean()} and in PyTorch {peers_errors.mean()}")
        seconds = alternate({"ours": ours, "theirs": theirs}, settings.rounds)
        row = compared(name, "PyTorch loop", seconds["ours"], seconds["theirs"], None, differing=differing)
        note = f"compiled in {compile_s:.1f} s; mean squared errors {errors.mean():.5f} and {peers_errors.mean():.5f}"
        yield row._replace(images_per_s=work.num_images / row.ours_s, num_images=work.num_images, note=note)


if __name__ == "__main__":
    command_line.run("defenses", command_line.parse(__doc__), rows)
