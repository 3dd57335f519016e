"""Figures of the measurements; each returns a Matplotlib figure, drawn without global state."""

from typing import Any

import numpy as np
from scipy.stats import rankdata

COLOURS = {"normal": "#6b7280", "mgan": "#d55e00", "advgan": "#0072b2", "advgan_margin": "#56b4e9", "pgd": "#009e73",
           "pgd_mutants": "#cc79a7"}  # fmt: skip
SPARE = ("#e69f00", "#7a4fbf", "#8c6d31", "#1b9e77", "#a6761d", "#525252")


def colour(name: str) -> str:
    """The fixed colour of an attack, safe for the colour-blind; others take spare ones."""
    return COLOURS.get(name, SPARE[sum(name.encode()) % len(SPARE)])


def panels(count: int, columns: int, width: float, height: float) -> tuple[Any, list]:
    """A figure and `count` axes in rows of at most `columns`."""
    from matplotlib.figure import Figure

    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[:count]:
        axis.spines[["top", "right"]].set_visible(False)
        axis.tick_params(labelsize=8)
    return figure, list(axes[:count])


def legend_below(figure: Any, axes: list) -> None:
    """One legend for all panels."""
    entries = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    figure.legend(
        entries.values(), entries.keys(), loc="outside upper center", ncols=min(6, len(entries)), fontsize=8, frameon=False
    )


def lcr_histograms(lcr: dict[str, dict[str, np.ndarray]]) -> Any:
    """Label change rates of normal and adversarial images, a panel an operator and protocol."""
    lcr = {name: rates for name, rates in lcr.items() if len(rates.get("normal", ()))}
    figure, axes = panels(len(lcr), 4, 3.0, 2.1)
    for axis, (name, rates) in zip(axes, lcr.items(), strict=True):
        bins = np.linspace(0, max(0.05, *(float(np.max(r, initial=0)) for r in rates.values())) + 1e-6, 16)
        for attack in [a for a in ("normal", "advgan", "mgan") if a in rates] + [a for a in rates if a.startswith("mgan ")]:
            if len(rates[attack]):
                weights = np.full(len(rates[attack]), 1 / len(rates[attack]))
                axis.hist(
                    rates[attack], bins, weights=weights, histtype="step", linewidth=1.4, color=colour(attack), label=attack
                )
        axis.set_yscale("log")
        axis.set_title(name, fontsize=9)
    figure.supxlabel("label change rate of an image", fontsize=9)
    figure.supylabel("share of images", fontsize=9)
    legend_below(figure, axes)
    return figure


def roc_curves(lcr: dict[str, dict[str, np.ndarray]]) -> Any:
    """Detection against false positives, the label change rate as the score, a panel an operator and protocol."""
    lcr = {name: rates for name, rates in lcr.items() if len(rates.get("normal", ()))}
    figure, axes = panels(len(lcr), 4, 2.6, 2.6)
    for axis, (name, rates) in zip(axes, lcr.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="#d1d5db", linewidth=1)
        for attack, scores in rates.items():
            if attack == "normal" or not len(scores):
                continue
            thresholds = np.unique(np.concatenate([scores, rates["normal"]]))[::-1]
            share = lambda values: np.concatenate([[0], [(values >= t).mean() for t in thresholds]])  # noqa: B023, E731
            axis.plot(share(rates["normal"]), share(scores), linewidth=1.3, color=colour(attack), label=attack)
        if "mgan" in rates and len(rates["mgan"]):
            n, ranks = len(rates["mgan"]), rankdata(np.concatenate([rates["mgan"], rates["normal"]]))
            area = (ranks[:n].sum() - n * (n + 1) / 2) / (n * len(rates["normal"]))
            axis.text(0.97, 0.04, f"MGAN {area:.2f}", ha="right", fontsize=8, color=colour("mgan"))
        axis.set_title(name, fontsize=9)
        axis.set_aspect("equal")
    figure.supxlabel("false positive rate", fontsize=9)
    figure.supylabel("true positive rate", fontsize=9)
    legend_below(figure, axes)
    return figure


def epsilon_curves(rows: list[dict]) -> Any:
    """Success, and label change rate over the normal one, against epsilon."""
    figure, (success, ratio) = panels(2, 2, 4.2, 2.8)
    for attack in dict.fromkeys(row["attack"] for row in rows):
        own = [row for row in rows if row["attack"] == attack]
        style = {"color": colour(attack), "marker": "o", "markersize": 3, "linewidth": 1.4, "label": attack}
        success.plot([row["epsilon"] for row in own], [100 * row["success_rate"] for row in own], **style)
        known = [row for row in own if row["lcr"] is not None and row["normal_lcr"]]
        ratio.plot([row["epsilon"] for row in known], [row["lcr"] / row["normal_lcr"] for row in known], **style)
    ratio.axhline(1, color="#d1d5db", linewidth=1)
    for axis, text in ((success, "success %"), (ratio, "LCR / normal LCR")):
        axis.set_xlabel("epsilon (L-inf)", fontsize=9)
        axis.set_title(text, fontsize=9)
    legend_below(figure, [success])
    return figure


def training_curves(history: dict[str, dict[str, np.ndarray]]) -> Any:
    """Every metric of every training, averaged over a hundredth of its steps."""
    curves = [(stage, name, values) for stage, metrics in history.items() for name, values in metrics.items()]
    figure, axes = panels(len(curves), 6, 1.9, 1.5)
    for axis, (stage, name, values) in zip(axes, curves, strict=True):
        width = max(1, len(values) // 100)
        usable = len(values) // width * width
        smooth = np.asarray(values[:usable]).reshape(-1, width).mean(1)
        axis.plot(np.arange(1, len(smooth) + 1) * width, smooth, color=colour(stage), linewidth=1)
        axis.set_title(f"{stage}\n{name.replace('_', ' ')}", fontsize=7)
        axis.tick_params(labelsize=6)
    return figure


def label_histograms(rows: list[dict], class_names: tuple[str, ...]) -> Any:
    """Which labels the adversarial images get, an attack a panel, with the entropy of the histogram."""
    figure, axes = panels(len(rows), 4, 2.6, 1.8)
    for axis, row in zip(axes, rows, strict=True):
        counts = np.asarray(row["label_histogram"], float)
        axis.bar(range(len(counts)), 100 * counts / max(counts.sum(), 1), color=colour(row["attack"]))
        axis.set_xticks(range(len(counts)), class_names, fontsize=6)
        axis.set_title(f"{row['name']}: {row['label_entropy']:.2f} bits", fontsize=8)
    figure.supylabel("% of adversarial images", fontsize=8)
    return figure
