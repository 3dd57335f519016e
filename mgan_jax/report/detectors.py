"""The report of detectors: matrices of attack and detector, ROC curves, attacks that know the detectors."""

import textwrap
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_curve

from mgan_jax.report.document import Block, Section, drawn, target_line, uncertainty, write_document
from mgan_jax.report.figures import INK, legend_above, panels
from mgan_jax.report.heatmap import Cell, heatmap, words
from mgan_jax.report.results import plain
from mgan_jax.report.sizes import sized
from mgan_jax.report.tables import Table, measure, number, part, percent
from mgan_jax.report.terminal import print_table

LEAD = (
    "Every detector sees the images with which an attack succeeds, and the same images clean; its threshold was taken on other "
    "clean images, at 5 % false positives. Then the attacks know the detectors: success is to fool the network and to pass."
)
JOINT = "joint"
PALETTE = ("#0072b2", "#56b4e9", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#7a4fbf", "#8c6d31")


def matrix_figure(results: dict, field: str) -> Any:
    """A row an attack, a column a detector: AUROC or detection rate."""
    cells = {}
    for row in results["rows"]:
        text = measure(row, field, 2) if field == "auroc" else measure(row, field, 1, 100)
        cells[row["attack"], row["detector"]] = Cell(row[field], text, f"n = {number(row['num_adversarial'], 0)}")
    if field == "detection_rate":
        for one in results["detectors"]:
            cells["clean (false positives)", one["detector"]] = Cell(
                one["false_positive_rate"], measure(one, "false_positive_rate", 1, 100), f"n = {number(one['num_images'], 0)}"
            )
    attacks = list(dict.fromkeys(row["attack"] for row in results["rows"]))
    first = ["clean (false positives)"] if field == "detection_rate" else []
    return heatmap(
        cells, [*first, *attacks], list(dict.fromkeys(row["detector"] for row in results["rows"] or results["detectors"]))
    )


def roc_figure(scores: dict[str, dict[str, np.ndarray]], attacks: list[str]) -> Any:
    """A panel an attack, a line a detector; the false positives on a logarithmic axis, where detectors are used."""
    figure, axes = panels(len(attacks), 4, 2.9, 2.7, sharey=True)
    for axis, attack in zip(axes, attacks, strict=True):
        for place, (name, parts) in enumerate(scores.items()):
            values = np.concatenate([parts[attack], parts["clean"]])
            positive = np.r_[np.ones(len(parts[attack])), np.zeros(len(parts["clean"]))]
            false, true, _ = roc_curve(positive, values)
            style = {"color": INK, "linestyle": "--"} if name == JOINT else {"color": PALETTE[place % len(PALETTE)]}
            axis.plot(np.maximum(false, 1e-3), 100 * true, linewidth=1.5, label=words(name), **style)
        axis.set_xscale("log")
        axis.set_xlim(1e-3, 1)
        axis.axvline(0.05, color="#d1d5db", linewidth=1)
        axis.set_title(words(attack), fontsize=9.5, fontweight="bold", color=INK)
        axis.set_xlabel("false positives", fontsize=8.5, color=INK)
    axes[0].set_ylabel("detected, %", fontsize=9, color=INK)
    legend_above(figure, axes)
    return figure


def cell_table(results: dict) -> Table:
    """A line a cell, with intervals."""
    heads = ["attack", "detector", "left out", "n", "AUROC", "detected %", "at 5 % of these clean images %", "by low scores %"]
    heads += ["false positives %", "of n", "threshold"]
    asked = any("mutants_used" in row for row in results["rows"])
    heads += ["mutants used", "on clean images"] if asked else []
    lines = []
    for row in results["rows"]:
        line = [row["attack"], words(row["detector"]), "yes" if row["left_out"] else "", number(row["num_adversarial"], 0)]
        line += [measure(row, "auroc", 3), measure(row, "detection_rate", 1, 100, True)]
        line += [measure(row, "tpr_at_5fpr", 1, 100), measure(row, "tpr_low_at_5fpr", 1, 100)]
        line += [measure(row, "false_positive_rate", 1, 100, True), number(row["num_images"], 0), f"{row['threshold']:.4g}"]
        used = [measure(row, field, 1) if field in row else "" for field in ("mutants_used", "mutants_used_clean")]
        lines.append(line + (used if asked else []))
    return "Attacks and detectors", heads, lines


def attack_table(results: dict) -> Table:
    """A line an attack: success, distance, and how much of it passes."""
    joint = any("passes_joint_rate" in row for row in results["attack_rows"])
    heads = ["attack", "n", "success %", "median L2", "L-inf", "succeeds and passes each detector %"]
    heads += ["succeeds and passes the joint rule %"] if joint else []
    lines = []
    for row in results["attack_rows"]:
        line = [row["attack"], number(row["num_images"], 0), measure(row, "success_rate", 1, 100, True)]
        line += [measure(row, "median_l2", 2), measure(row, "median_linf", 3), measure(row, "passes_all_rate", 1, 100, True)]
        lines.append(line + ([measure(row, "passes_joint_rate", 1, 100, True)] if joint else []))
    return "Attacks", heads, lines


def adaptive_table(results: dict) -> Table:
    """A line a detector that the attack's loss follows."""
    heads = ["detector attacked", "norm", "epsilon", "n", "fools %", "fools and passes it %", "fools and passes others %"]
    lines = [
        [words(row["detector"]), row["norm"], f"{row['epsilon']:g}", number(row["num_images"], 0),
         measure(row, "success_rate", 1, 100), measure(row, "undetected_rate", 1, 100, True),
         ", ".join(f"{words(name)} {part(row, 'others', name, 1, 100)}" for name in row["others"])]
        for row in results["adaptive_rows"]
    ]  # fmt: skip
    return "Attacks that know a detector", heads, lines


def grounds(row: dict) -> tuple[str, float, bool]:
    """What a worst case is taken over: norm, epsilon, and whether attacks that know detectors are among its own."""
    return row["norm"], row["epsilon"], row["aware"]


def worst_table(results: dict) -> Table:
    """A line a detector, two columns a bound."""
    columns = list(dict.fromkeys(map(grounds, results["worst_cases"])))
    cells = {(row["detector"], *grounds(row)): row for row in results["worst_cases"]}
    heads = ["detector", "n", *(f"{norm} {epsilon:g}, {'aware' if aware else 'unaware'} %" for norm, epsilon, aware in columns)]
    lines = []
    for detector in dict.fromkeys(row["detector"] for row in results["worst_cases"]):
        of = [cells.get((detector, *column), {}) for column in columns]
        count = next(row["num_images"] for row in of if row)
        lines.append([words(detector), number(count, 0), *(measure(row, "undetected_rate", 1, 100, True) for row in of)])
    return "Worst cases: some attack fools the network and passes", heads, lines


def worst_caption(results: dict) -> str:
    """The attacks of each bound."""
    attacks = {grounds(row): row["attacks"] for row in results["worst_cases"]}
    text = [f"{norm} {epsilon:g}, {'aware' if aware else 'unaware'}: {', '.join(map(words, of))}"
            for (norm, epsilon, aware), of in attacks.items()]  # fmt: skip
    return f"Shares of the first n images. {'; '.join(text)}."


def sentences(results: dict) -> list[str]:
    """What the numbers say."""
    found = []
    for row in results["adaptive_rows"]:
        mean = [one["detection_rate"] for one in results["rows"]
                if one["detector"] == row["detector"] and one["detection_rate"] is not None]  # fmt: skip
        span = " to ".join(dict.fromkeys(percent(end) for end in (min(mean), max(mean)))) if mean else ""
        least = f" detects {span} % of attacks that do not know it;" if mean else ":"
        passes, count = measure(row, "undetected_rate", 1, 100), sized([row["num_images"]])
        worst = next((one for one in results["worst_cases"] if one["aware"] and one["detector"] == row["detector"]
                      and (one["norm"], one["epsilon"]) == (row["norm"], row["epsilon"])), {})  # fmt: skip
        some = measure(worst, "undetected_rate", 1, 100)
        found.append(
            f"{words(row['detector'])}{least} of an attack that follows it {passes} % of {count} images fool the "
            f"network and pass ({row['norm']} {row['epsilon']:g}); some attack within that bound does so with {some} %."
        )
    for row in results["attack_rows"]:
        if row["attack"].startswith("mgan") and "passes_joint_rate" in row:
            fool, passes = (measure(row, name, 1, 100) for name in ("success_rate", "passes_joint_rate"))
            found.append(f"{row['attack']}: {fool} % of {sized([row['num_images']])} fool the network, {passes} % fool it "
                         "and pass the joint rule.")  # fmt: skip
    return found


def write_detectors(path: Path, results: dict, scores: dict[str, dict[str, np.ndarray]]) -> None:
    """Writes the page; results as `experiments.detectors` makes them.

    Args:
      path: of the page.
      results: all rows.
      scores: {detector: {"clean": scores [N], attack: scores of its successes}}.
    """
    results = plain(results)
    attacks = [row["attack"] for row in results["attack_rows"] if all(len(parts[row["attack"]]) for parts in scores.values())]
    known = (
        "Selective gradient descent (Bryniarski et al. 2021): the margin to fool until it fools, then the detector's score. "
        "In place of a detector that counts mutants' votes, alone or in the joint rule, it follows L_mutate of mutants of its "
        "own; the detector itself has to be passed."
    )
    caption, beside = uncertainty(results)
    auroc = [drawn(matrix_figure(results, "auroc"), "matrix of AUROC", "Of the successes beside the same images clean.", "AUROC"),
             Block(caption, cell_table(results), folded=f"Every cell with its {beside}", text_columns=3)]  # fmt: skip
    learned = "A detector that learns from attacks is shown, for each of these, as it is when that attack is left out."
    sections = [
        Section("Attack x detector", learned, [
            drawn(matrix_figure(results, "detection_rate"), "matrix of detection rates",
                  "Share in per cent of an attack's n successes whose score lies above the threshold.", "Detection rate, %"),
            *(auroc if results["rows"] else []),
        ]),
        Section("ROC", "Detection against false positives, logarithmic; the line is at 5 %.",
                [drawn(roc_figure(scores, attacks), "ROC curves", "Of each attack's successes.")] if attacks else []),
        Section("Attacks by themselves", "",
                [Block("Shares of all n images.", attack_table(results))] if results["attack_rows"] else []),
        Section("Attacks that know a detector", known,
                [Block("", adaptive_table(results), text_columns=2)] if results["adaptive_rows"] else []),
        Section("Worst case", "An image counts where some attack within the bound makes it fool the network and pass the "
                "detector, whichever detector that attack follows.",
                [Block(worst_caption(results), worst_table(results))] if results["worst_cases"] else []),
    ]  # fmt: skip
    write_document(path, results, "Detectors", LEAD, sentences(results), sections)


def print_detectors(results: dict) -> None:
    """Prints the tables."""
    results = plain(results)
    print(target_line(results))
    for table in (cell_table(results), attack_table(results), adaptive_table(results), worst_table(results)):
        if table[2]:
            print_table(table)
    print()
    for sentence in sentences(results):
        print(textwrap.fill(sentence, 118))
