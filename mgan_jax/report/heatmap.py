"""A matrix of shares, each cell with its value and how many images it is of."""

from typing import Any, NamedTuple

from mgan_jax.report.figures import INK


class Cell(NamedTuple):
    """A share or None, what is written in the cell, and below it."""

    share: float | None
    text: str
    below: str = ""


def words(name: str) -> str:
    """A name of the configuration as it is read."""
    return name.replace("_", " ")


def heatmap(
    cells: dict[tuple[str, str], Cell], rows: list[str], columns: list[str], axis_name: str = "", good: bool = True
) -> Any:
    """A Matplotlib figure; cells that are missing stay empty.

    Args:
      cells: {(row, column): Cell}.
      rows, columns: their names, in their order.
      axis_name: beside the rows.
      good: whether high shares are good, drawn in blue, or bad, in red.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    longest = max((len(words(name)) for name in rows), default=8)
    figure = Figure(figsize=(0.5 + 0.085 * longest + 1.02 * len(columns), 1.15 + 0.5 * len(rows)), layout="constrained")
    axis, colours = figure.subplots(), colormaps["PuBu" if good else "YlOrRd"]
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cell = cells.get((row, column), Cell(None, "–"))
            shade = "#f3f4f6" if cell.share is None else colours(0.04 + 0.82 * cell.share)
            ink = "white" if cell.share is not None and cell.share > 0.62 else INK
            axis.add_patch(Rectangle((j, i), 0.97, 0.95, facecolor=shade, edgecolor="white", linewidth=1.5))
            height = i + (0.40 if cell.below else 0.48)
            size = 10.5 if len(cell.text) < 7 else 8
            axis.text(j + 0.485, height, cell.text, ha="center", va="center", fontsize=size, color=ink, fontweight="bold")
            axis.text(j + 0.485, i + 0.76, cell.below, ha="center", va="center", fontsize=6.5, color=ink)
    axis.set_xticks([j + 0.485 for j in range(len(columns))], [words(name).replace(" ", "\n") for name in columns], fontsize=8)
    axis.set_yticks([i + 0.48 for i in range(len(rows))], [words(name) for name in rows], fontsize=8.5)
    axis.set_xlim(-0.03, len(columns))
    axis.set_ylim(len(rows), -0.03)
    axis.xaxis.tick_top()
    axis.tick_params(length=0, colors=INK)
    axis.spines[:].set_visible(False)
    axis.set_ylabel(axis_name, fontsize=9, color=INK)
    return figure
