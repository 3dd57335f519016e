"""The report of transfer: matrices of source and destination, and destruction rates."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from mgan_jax.report.document import Block, Section, drawn, uncertainty, write_document
from mgan_jax.report.figures import INK, legend_above, panels
from mgan_jax.report.results import plain
from mgan_jax.report.tables import measure, number
from mgan_jax.report.terminal import print_table
from mgan_jax.report.transfer_tables import (
    UNITS,
    about,
    accuracy_table,
    cell_table,
    described,
    destruction_summary,
    destruction_table,
    everywhere_table,
    matrix_table,
    ordered,
    sentences,
    words,
)

COLOURS = ("#56b4e9", "#009e73", "#d55e00", "#e69f00", "#0072b2", "#cc79a7", "#374151")
LEAD = (
    "Adversarial images are made against one network, the source, and shown to others, the destinations: of other architectures, "
    "of another training seed, and of other learning techniques. Then they are noised, turned, blurred and rounded, and it is "
    "counted which of them work no longer."
)


def matrix_figure(results: dict, attack: str) -> Any:
    """A heatmap of one attack: a row a source, beside its own success a column a destination; each cell with its n."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    cells = {(row["source"], row["destination"]): row for row in results["rows"] if row["attack"] == attack}
    own = {row["source"]: row for row in results["source_rows"] if row["attack"] == attack}
    networks = [one["name"] for one in results["destinations"] if one["kind"] == "network"]
    learners = [one["name"] for one in results["destinations"] if one["kind"] == "learner"]
    # Places along the horizontal axis; gaps part the own success, the networks and the learners.
    places = {name: 1.35 + i for i, name in enumerate(networks)}
    places |= {name: 1.7 + len(networks) + i for i, name in enumerate(learners)}
    width = max(places.values()) + 1
    figure = Figure(figsize=(1.6 + 0.96 * width, 1.25 + 0.66 * len(networks)), layout="constrained")
    axis = figure.subplots()
    colours = colormaps["YlOrRd"]

    def draw(place: float, row: int, of: dict, name: str, count: str, outlined: bool = False) -> None:
        share, text = of[name], measure(of, name, 1, 100)
        edge = {"edgecolor": INK, "linewidth": 1.6} if outlined else {"edgecolor": "white", "linewidth": 1.5}
        shade = "#f3f4f6" if share is None else colours(0.04 + 0.82 * share)
        axis.add_patch(Rectangle((place, row), 0.97, 0.96, facecolor=shade, **edge))
        ink = "white" if share is not None and share > 0.66 else INK
        written = {"ha": "center", "va": "center", "color": ink}
        axis.text(place + 0.485, row + 0.41, text, fontsize=11 if len(text) < 7 else 8, fontweight="bold", **written)
        axis.text(place + 0.485, row + 0.76, f"n = {number(of[count], 0)}", fontsize=7, **written)

    for row, source in enumerate(networks):
        draw(0, row, own[source], "success_rate", "num_clean_correct")
        for name, place in places.items():
            draw(place, row, cells[source, name], "transfer_rate", "num_transferable", outlined=name == source)
    heads = {"own success": 0, **places}
    axis.set_xticks([place + 0.485 for place in heads.values()], [words(name).replace(" ", "\n") for name in heads], fontsize=8.5)
    axis.set_yticks([row + 0.48 for row in range(len(networks))], [words(name) for name in networks], fontsize=9)
    axis.set_xlim(-0.03, width)
    axis.set_ylim(len(networks), -0.03)
    axis.xaxis.tick_top()
    axis.tick_params(length=0, colors=INK)
    axis.spines[:].set_visible(False)
    axis.set_ylabel("made against", fontsize=9, color=INK)
    return figure


def destruction_figure(rows: list[dict]) -> Any:
    """Destruction rate against strength, a panel a transformation, a line a source and network that sees its images."""
    transformations = ordered(rows, "transformation")
    sources = ordered(rows, "source")
    figure, axes = panels(len(transformations), 4, 2.75, 2.7, sharey=True)
    for axis, name in zip(axes, transformations, strict=True):
        of = [row for row in rows if row["transformation"] == name]
        strengths = ordered(of, "strength")
        for source, destination in ordered(of, "source", "destination"):
            line = [row for row in of if (row["source"], row["destination"]) == (source, destination)]
            shares = [np.nan if row["destruction_rate"] is None else 100 * row["destruction_rate"] for row in line]
            own = source == destination
            axis.plot(range(len(strengths)), shares, marker="o", markersize=3.5, linewidth=1.6, linestyle="-" if own else ":",
                      color=COLOURS[sources.index(source) % len(COLOURS)],
                      label=words(source) if own else f"{words(source)} on {words(destination)}")  # fmt: skip
        axis.set_xticks(range(len(strengths)), [f"{strength:g}" for strength in strengths])
        axis.set_xlabel(UNITS.get(name, "strength"), fontsize=9, color=INK)
        axis.set_title(words(name), fontsize=10, fontweight="bold", color=INK)
        axis.set_ylim(-3, 103)
    axes[0].set_ylabel("destruction rate, %", fontsize=9, color=INK)
    legend_above(figure, axes)
    return figure


def write_transfer(path: Path, results: dict) -> None:
    """Writes the page; results as `experiments.transfer` makes them."""
    results = plain(results)
    attacks, destroyed = ordered(results["rows"], "attack"), results["destruction_rows"]
    cell = (
        "Bold: of the n images that source and destination both classify correctly and on which the attack succeeds on the "
        "source, the share in per cent that the destination misclassifies; outlined: the source itself. Own success: of the "
        "images that the source classifies correctly."
    )
    rate = (
        "Of the images classified correctly when clean and misclassified when adversarial, the share classified correctly after "
        "the transformation. Dotted: the images seen by a network that differs in its training seed alone."
    )
    matrices, curves = [], []
    for name in attacks:
        heading, own = described(results, name), [row for row in destroyed if row["attack"] == name]
        matrices.append(drawn(matrix_figure(results, name), f"transfer matrix of {name}", cell, heading))
        curves += [drawn(destruction_figure(own), f"destruction rates of {name}", rate, heading)] if own else []
    caption, beside = uncertainty(results)
    cells = Block(caption, cell_table(results), folded=f"Every cell with its {beside}", text_columns=3)
    together = (
        "Of the images on which the attack succeeds and that all of these classify correctly when clean, the share that each of "
        "them misclassifies."
    )
    readable = (
        "Of readable: only images whose clean form is still classified correctly after the transformation. Clean kept: share of "
        "the correctly classified clean images that remain so."
    )
    rates = Block(readable, destruction_table(results), folded=f"Every rate with its {beside}", text_columns=4)
    sections = [
        Section("Who fools whom", "", [*matrices, cells]),
        Section("One image, many networks", "", [Block(together, everywhere_table(results), text_columns=2)]),
        Section("After further perturbation", "Kurakin et al.'s destruction rate.", [*curves, rates] if destroyed else []),
        Section("Clean images", "", [Block("Of the same test images.", accuracy_table(results), text_columns=2)]),
    ]
    write_document(path, results, "Transfer between networks", LEAD, sentences(results), sections, about(results))


def print_transfer(results: dict) -> None:
    """Prints the tables."""
    results = plain(results)
    print(about(results))
    for name in ordered(results["rows"], "attack"):
        print_table(matrix_table(results, name))
    print_table(everywhere_table(results))
    if results["destruction_rows"]:
        print_table(destruction_summary(results))
    print()
    for sentence in sentences(results):
        print(textwrap.fill(sentence, 118))
