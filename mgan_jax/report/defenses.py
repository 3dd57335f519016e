"""The report of defenses: matrices of attack and defense, checklists, curves, images before and after purification."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from mgan_jax.report.document import Block, Section, drawn, target_line, uncertainty, write_document
from mgan_jax.report.figures import INK, SPARE, legend_above, panels
from mgan_jax.report.heatmap import Cell, heatmap, words
from mgan_jax.report.material import PurifiedMaterial
from mgan_jax.report.pictures import show
from mgan_jax.report.results import plain
from mgan_jax.report.sanity import checked_table
from mgan_jax.report.sizes import sized
from mgan_jax.report.tables import Table, measure, number
from mgan_jax.report.terminal import print_table

LEAD = (
    "Every defense meets attacks made against the undefended target, which do not know it, and then attacks made against the "
    "defended network itself. Only the second kind says what a defense is worth."
)
NONE = "none"
KNOWS = {False: "does not know the defense", True: "knows the defense"}


def names(results: dict) -> list[str]:
    """The defenses in their order, the undefended target first."""
    return [one["defense"] for one in results["defenses"]]


def cell(row: dict, name: str) -> Cell:
    """A share of a row with its n."""
    return Cell(row[name], measure(row, name, 1, 100), f"n = {number(row['num_images'], 0)}")


def matrix_figure(results: dict, aware: bool) -> Any:
    """Robust accuracy, a row an attack, a column a defense; on top the clean images."""
    rows = [row for row in results["rows"] if row["aware"] == aware]
    cells = {(row["attack"], row["defense"]): cell(row, "robust_accuracy") for row in rows}
    cells |= {("clean", one["defense"]): cell(one, "clean_accuracy") for one in results["defenses"]}
    attacks = list(dict.fromkeys(row["attack"] for row in rows))
    return heatmap(cells, ["clean", *attacks], names(results), "robust accuracy, %")


def curve_figure(rows: list[dict], epsilon: float) -> Any:
    """Robust accuracy against epsilon at the most steps, and at one epsilon the loss against steps; a line a defense."""
    figure, (by_epsilon, by_steps) = panels(2, 2, 5.0, 3.4)
    for place, defense in enumerate(dict.fromkeys(row["defense"] for row in rows)):
        own = [row for row in rows if row["defense"] == defense]
        most = max(row["num_steps"] for row in own)
        dashes = ("-", ":", "-.")[place // len(SPARE) % 3]
        style = (
            {"color": INK, "linestyle": "--"} if defense == NONE else {"color": SPARE[place % len(SPARE)], "linestyle": dashes}
        )
        style |= {"marker": "osv^D*P"[place % 7], "markersize": 4, "linewidth": 1.7, "label": words(defense)}
        wide = sorted((row for row in own if row["num_steps"] == most), key=lambda row: row["epsilon"])
        by_epsilon.plot([row["epsilon"] for row in wide], [100 * row["robust_accuracy"] for row in wide], **style)
        long = sorted((row for row in own if row["epsilon"] == epsilon), key=lambda row: row["num_steps"])
        by_steps.plot([row["num_steps"] for row in long], [row["loss"] for row in long], **style)
    by_epsilon.set_xlabel("epsilon", fontsize=9, color=INK)
    by_epsilon.set_ylabel("robust accuracy, %", fontsize=9, color=INK)
    by_epsilon.set_ylim(-3, 103)
    by_steps.set_xlabel(f"steps at epsilon {epsilon:g}", fontsize=9, color=INK)
    by_steps.set_ylabel("loss, nats", fontsize=9, color=INK)
    by_steps.set_yscale("symlog", linthresh=1)
    legend_above(figure, [by_epsilon, by_steps])
    return figure


def rows_figure(lines: list[tuple[str, np.ndarray]]) -> Any:
    """Rows of images with their names before them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.5 + 0.85 * len(lines[0][1]), 0.9 * len(lines)), layout="constrained")
    axes = figure.subplots(len(lines), len(lines[0][1]), squeeze=False)
    for (name, images), line in zip(lines, axes, strict=True):
        for axis, image in zip(line, images, strict=True):
            show(axis, image)
        line[0].set_ylabel(name, fontsize=8.5, color=INK, rotation=0, ha="right", va="center")
    return figure


def purification_figure(material: PurifiedMaterial, defense: str) -> Any:
    """Images of each kind above what the defense makes of them."""
    pairs = [((words(kind), material.before[kind]), ("purified", after)) for kind, after in material.after[defense].items()]
    return rows_figure([line for pair in pairs for line in pair])


def summary_table(results: dict) -> Table:
    """A line a defense: what it costs, and the least robust accuracy within each bound."""
    bounds = list(dict.fromkeys((row["norm"], row["epsilon"]) for row in results["worst_cases"]))
    worst = {(row["defense"], row["norm"], row["epsilon"], row["aware"]): row for row in results["worst_cases"]}
    heads = ["defense", "clean %", "n", "fit s"]
    heads += [f"{norm} {epsilon:g}, {'aware' if aware else 'unaware'} %" for norm, epsilon in bounds for aware in (False, True)]
    lines = []
    for one in results["defenses"]:
        line = [words(one["defense"]), measure(one, "clean_accuracy", 1, 100, True), number(one["num_images"], 0)]
        line.append(measure(one, "fit_seconds", 0))
        for norm, epsilon in bounds:
            for aware in (False, True):
                line.append(measure(worst.get((one["defense"], norm, epsilon, aware), {}), "robust_accuracy", 1, 100))
        lines.append(line)
    return "Defenses", heads, lines


def worst_table(results: dict) -> Table:
    """A line a defense, bound and knowledge, with the attacks whose worst case it is."""
    heads = ["defense", "norm", "epsilon", "the attacker", "attacks", "robust accuracy %", "n"]
    lines = [
        [words(row["defense"]), row["norm"], f"{row['epsilon']:g}", KNOWS[row["aware"]],
         ", ".join(map(words, row["attacks"])), measure(row, "robust_accuracy", 1, 100, True), number(row["num_images"], 0)]
        for row in results["worst_cases"]
    ]  # fmt: skip
    return "Worst cases", heads, lines


def compared_table(results: dict) -> Table:
    """A line a pair of defenses and attack."""
    heads = ["defense", "beside", "attack", "more robust accuracy, points", "n"]
    lines = [
        [words(row["defense"]), words(row["other"]), row["attack"], measure(row, "difference", 1, 100, True),
         number(row["num_images"], 0)]
        for row in results["compared"]
    ]  # fmt: skip
    return "Two defenses image by image", heads, lines


def cell_table(results: dict) -> Table:
    """A line a cell."""
    heads = ["defense", "attack", "the attacker", "norm", "epsilon", "robust accuracy %", "n", "success %", "of n", "median L2",
             "L-inf", "L0", "s per 1,000"]  # fmt: skip
    lines = [
        [words(row["defense"]), row["attack"], KNOWS[row["aware"]], row["norm"],
         "–" if row["epsilon"] is None else f"{row['epsilon']:g}", measure(row, "robust_accuracy", 1, 100, True),
         number(row["num_images"], 0), measure(row, "success_rate", 1, 100), number(row["num_clean_correct"], 0),
         measure(row, "median_l2", 2), measure(row, "median_linf", 3), measure(row, "median_l0", 0),
         measure(row, "seconds_per_1000", 1)]
        for row in results["rows"]
    ]  # fmt: skip
    return "Attacks on defenses", heads, lines


def sentences(results: dict) -> list[str]:
    """What the numbers say."""
    found = []
    for row in results["worst_cases"]:
        if row["aware"] and row["defense"] != NONE:
            other = next((one for one in results["worst_cases"] if not one["aware"]
                          and all(one[k] == row[k] for k in ("defense", "norm", "epsilon"))), None)  # fmt: skip
            own, less = (measure(one or {}, "robust_accuracy", 1, 100) for one in (row, other))
            beside = "" if other is None else f", {less} % those that do not know it"
            found.append(f"{words(row['defense'])}, {row['norm']} {row['epsilon']:g}: {own} % of "
                         f"{sized([row['num_images']])} withstand attacks that know it{beside}.")  # fmt: skip
    for name, lines in results["checklists"].items():
        broken = [line["claim"] for line in lines if line["holds"] is False]
        if broken:
            found.append(f"{words(name)}: does not hold: {'; '.join(broken)}. Gradients alone overrate it.")
    return found


def write_defenses(path: Path, results: dict, material: PurifiedMaterial) -> None:
    """Writes the page; results as `experiments.defenses` makes them."""
    results = plain(results)
    accuracy = "Share of the n images that are read correctly both clean and attacked; under each cell its n."
    matrices = [
        drawn(
            matrix_figure(results, aware),
            f"matrix of attacks whose maker {KNOWS[aware]}",
            accuracy,
            f"The attacker {KNOWS[aware]}",
        )
        for aware in (False, True)
    ]
    pictures = [
        drawn(
            purification_figure(material, name), f"images before and after {name}", "One image of each class.", words(name), "png"
        )
        for name in material.after
    ]
    rebuilt = [
        drawn(rows_figure(list(lines.items())), f"training images of {name}", "One image of each class.", words(name), "png")
        for name, lines in material.rebuilt.items()
    ]
    checked = []
    for name, lines in results["checklists"].items():
        if lines:
            table, broken = checked_table(words(name), lines)
            checked.append(Block("", table, heading=words(name), marked=broken))
    under = (
        f"Under {results['config']['masking']['attack']} made against the defended network; the checklist says what is stronger."
    )
    given, beside = uncertainty(results)
    caption = "Unaware: attacks made against the undefended target; aware: against the defended network, and those too."
    curves = []
    if results["curve_rows"]:
        figure = curve_figure(results["curve_rows"], results["config"]["masking"]["epsilon"])
        curves.append(drawn(figure, "robust accuracy against epsilon, loss against steps", under))
    sections = [
        Section("Summary", "", [Block(caption, summary_table(results))]),
        Section("Attack x defense", "", [*matrices, Block(f"{given} Distances: medians over successes.", cell_table(results),
                folded=f"Every cell with its {beside}", text_columns=4)]),
        Section("Worst case", "Of untargeted attacks of one norm within the bound: an image counts where every attack fails.",
                [Block("", worst_table(results), text_columns=5)]),
        Section("Image by image", "Each defense under the attack that knows it, of the same images.",
                [Block("", compared_table(results), text_columns=3)] if results["compared"] else []),
        Section("Against epsilon and steps", "", curves),
        Section("Before and after purification", "", pictures),
        Section("What was learned from", "Training images, and what stood in their place in training.", rebuilt),
        Section("Masked gradients?", "A line in red: the adaptive attack is not the strongest, so the numbers are too good. "
                "Comparisons allow two standard errors.", checked),
    ]  # fmt: skip
    write_document(path, results, "Defenses", LEAD, sentences(results), sections)


def print_defenses(results: dict) -> None:
    """Prints the tables."""
    results = plain(results)
    print(target_line(results))
    for table in (summary_table(results), cell_table(results), compared_table(results)):
        if table[2]:
            print_table(table)
    print()
    for sentence in sentences(results):
        print(textwrap.fill(sentence, 118))
