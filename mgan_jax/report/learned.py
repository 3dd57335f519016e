"""Pictures of networks: weights, activations, saliency, and images of nothing."""

from typing import Any, NamedTuple

import numpy as np

from mgan_jax.engine import decide
from mgan_jax.report.figures import INK, legend_above, panels
from mgan_jax.report.pictures import WRONG, bare, read_as, show

MAX_WEIGHTS = 64
WIDTH, GAP = 10.8, 0.08
TILE = 28
SOFT = "#6b7280"
METHODS = {"gradient": "gradient", "gradient_times_input": "gradient x input", "smooth_grad": "SmoothGrad"}


class Pictured(NamedTuple):
    """What is shown of one network.

    Attributes:
      name: of the network.
      weights: [neurons, h, w, C] of its first layer.
      images: {"clean", "adversarial": [N, H, W, C]}.
      answers: {"clean", "adversarial": [N, num_classes]}, probabilities.
      layers: `rows`, indices of the images shown, and "clean LAYER", "adversarial LAYER", [rows, ...].
      maps: `rows`, and "clean METHOD", "adversarial METHOD" of saliency, [rows, H, W, C].
      fooling: {start: [num_classes, H, W, C]}.
    """

    name: str
    weights: np.ndarray
    images: dict[str, np.ndarray]
    answers: dict[str, np.ndarray]
    layers: dict[str, np.ndarray]
    maps: dict[str, np.ndarray]
    fooling: dict[str, np.ndarray]


def grid(rows: int, columns: int, side: float, title: float = 0.0, apart: int | None = None) -> tuple[Any, np.ndarray]:
    """A figure of square axes [rows, columns], each `side` inches, with `title` inches above it; wider apart before a column."""
    from matplotlib.figure import Figure

    step, more = side + GAP, 2 * GAP if apart else 0.0
    width, height = columns * step + GAP + more, rows * (step + title) + GAP
    figure = Figure(figsize=(width, height))
    axes = np.empty((rows, columns), object)
    for i in range(rows):
        for j in range(columns):
            bottom = height - (i + 1) * (step + title)
            left = GAP + j * step + (more if apart is not None and j >= apart else 0.0)
            axes[i, j] = figure.add_axes([left / width, (bottom + GAP / 2) / height, side / width, side / height], anchor="N")
            bare(axes[i, j])
    return figure, axes


def show_signed(axis: Any, values: np.ndarray, reach: float) -> None:
    """Draws [H, W, C] of either sign, zero white for one channel and grey for three."""
    reach = reach or 1.0
    if values.shape[-1] == 1:
        axis.imshow(values[..., 0], cmap="RdBu_r", vmin=-reach, vmax=reach, interpolation="nearest")
    else:
        axis.imshow(np.clip(0.5 + 0.5 * values[..., :3] / reach, 0, 1), interpolation="nearest")


def weights_figure(weights: np.ndarray, class_names: tuple[str, ...] | None = None) -> Any:
    """Weights [neurons, h, w, C] as tiles on one scale, at most 64 of them.

    Args:
      weights: of a layer.
      class_names: of the neurons, where each stands for a class.
    """
    weights = weights[:MAX_WEIGHTS]
    columns = len(weights) if len(weights) <= 10 else 16
    figure, axes = grid(-(-len(weights) // columns), columns, min(1.25, WIDTH / columns - GAP), 0.2 if class_names else 0.0)
    reach = float(np.abs(weights).max())
    for place, axis in enumerate(axes.ravel()):
        if place >= len(weights):
            axis.set_visible(False)
            continue
        show_signed(axis, weights[place], reach)
        if class_names:
            axis.set_title(class_names[place], fontsize=9, pad=2, color=INK)
    return figure


def mosaic(values: np.ndarray) -> np.ndarray:
    """Activations [H, W, channels] or [neurons] as one picture: a tile a channel, parted by lines of NaN; a square a neuron.

    Small tiles are enlarged, so that the lines between them stay thin.
    """
    if values.ndim == 1:
        columns = int(np.ceil(np.sqrt(len(values))))
        filled = np.full(columns * -(-len(values) // columns), np.nan)
        filled[: len(values)] = values
        return filled.reshape(-1, columns)
    times = -(-TILE // max(values.shape[:2]))
    values = values.repeat(times, 0).repeat(times, 1)
    height, width, channels = values.shape
    columns = int(np.ceil(np.sqrt(channels)))
    rows = -(-channels // columns)
    made = np.full((rows * (height + 1) - 1, columns * (width + 1) - 1), np.nan)
    for channel in range(channels):
        top, left = channel // columns * (height + 1), channel % columns * (width + 1)
        made[top : top + height, left : left + width] = values[..., channel]
    return made


def activations_figure(one: Pictured, place: int, class_names: tuple[str, ...]) -> Any:
    """Every layer's activations for one image, clean above and adversarial below, a column a layer.

    Args:
      one: the network.
      place: which of the images shown.
      class_names: one a class.
    """
    names = [key.removeprefix("clean ") for key in one.layers if key.startswith("clean ") and key != "clean output"]
    columns, row = len(names) + 2, one.layers["rows"][place]
    figure, axes = grid(2, columns, min(1.6, WIDTH / columns - GAP), 0.22)
    own = int(decide(one.answers["clean"][row : row + 1])[0])
    for i, kind in enumerate(("clean", "adversarial")):
        answer = one.answers[kind][row]
        show(axes[i, 0], one.images[kind][row])
        axes[i, 0].set_title(kind, fontsize=8.5, pad=3, color=INK)
        for j, name in enumerate(names, 1):
            both = [one.layers[f"{side} {name}"][place] for side in ("clean", "adversarial")]
            reach = max(float(max(values.max() for values in both)), 1e-12)
            axes[i, j].imshow(mosaic(both[i]), cmap="magma", vmin=0, vmax=reach, interpolation="nearest")
            axes[i, j].set_title(name, fontsize=8.5, pad=3, color=INK if i == 0 else SOFT)
        bars = axes[i, -1]
        shades = [INK if label == own else WRONG for label in range(len(answer))]
        bars.barh(range(len(answer)), answer, color=shades, height=0.8)
        bars.set_xlim(0, 1)
        bars.set_ylim(len(answer) - 0.5, -0.5)
        bars.set_yticks([])
        if len(answer) <= 12:
            for label, name in enumerate(class_names):
                inside = answer[label] > 0.85
                side, ink = ("right", "white") if inside else ("left", INK)
                bars.text(answer[label] + (-0.03 if inside else 0.03), label, name, fontsize=6, va="center", ha=side, color=ink)
        bars.set_title(read_as(answer, class_names), fontsize=8.5, pad=3, color=INK if decide(answer[None])[0] == own else WRONG)
    return figure


def saliency_figure(one: Pictured, class_names: tuple[str, ...]) -> Any:
    """An image a row: clean and its maps, then adversarial and its maps."""
    rows = one.maps["rows"]
    figure, axes = grid(len(rows), 2 * (1 + len(METHODS)), WIDTH / 8 - GAP, 0.2, 1 + len(METHODS))
    for place, row in enumerate(rows):
        for half, kind in enumerate(("clean", "adversarial")):
            first = half * (1 + len(METHODS))
            answer = one.answers[kind][row]
            show(axes[place, first], one.images[kind][row])
            wrong = half and decide(answer[None])[0] != decide(one.answers["clean"][row : row + 1])[0]
            axes[place, first].set_title(read_as(answer, class_names), fontsize=8, pad=2, color=WRONG if wrong else INK)
            for j, (method, name) in enumerate(METHODS.items(), 1):
                values, axis = one.maps[f"{kind} {method}"][place], axes[place, first + j]
                reach = float(np.percentile(np.abs(values), 99))
                if method == "gradient_times_input":
                    show_signed(axis, values, reach)
                else:
                    axis.imshow(np.abs(values).max(-1), cmap="magma", vmin=0, vmax=reach or 1.0, interpolation="nearest")
                if place == 0:
                    axis.set_title(name, fontsize=8, pad=2, color=SOFT)
    return figure


def fooling_figure(images: dict[str, np.ndarray], confidences: dict[str, list[float]], class_names: tuple[str, ...]) -> Any:
    """A row a start and a column a class, at most 20: the image, the class and the confidence.

    Args:
      images: {start: [num_classes, H, W, C]}.
      confidences: {start: [num_classes]}.
      class_names: one a class.
    """
    columns = min(len(class_names), 20)
    figure, axes = grid(len(images), columns, WIDTH / columns - GAP, 0.22)
    for i, (name, of) in enumerate(images.items()):
        for label in range(columns):
            show(axes[i, label], of[label])
            sure = confidences[name][label]
            axes[i, label].set_title(f"{class_names[label]}  {100 * sure:.1f} %", fontsize=8, pad=2, color=INK)
    return figure


def change_figure(rows: list[dict]) -> Any:
    """Relative change of each layer's activations, a panel a network: under the attack and under noise of the same size."""
    figure, axes = panels(len(rows), 3, 3.4, 2.6)
    for axis, row in zip(axes, rows, strict=True):
        names = [one["layer"] for one in row["changes"]]
        for field, label, colour in (
            ("attack_change", row["attack"], "#d55e00"),
            ("noise_change", "noise of the same size", SOFT),
        ):
            shares = [100 * one[field] for one in row["changes"]]
            axis.plot(range(len(names)), shares, marker="o", markersize=4, linewidth=1.7, color=colour, label=label)
        axis.set_xticks(range(len(names)), names, rotation=35, ha="right")
        axis.set_ylim(bottom=0)
        axis.set_title(row["network"], fontsize=10, fontweight="bold", color=INK)
    axes[0].set_ylabel("activations moved, %", fontsize=9, color=INK)
    legend_above(figure, axes)
    return figure
