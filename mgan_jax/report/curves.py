"""Figures of what runs along an axis: epsilon, training steps, labels."""

from typing import Any

import numpy as np

from mgan_jax.report.figures import FAINT, INK, colour, legend_above, panels, plain_axis

MARKERS = "svD^<>*P"
WORDS = {"adversarial": "adv.", "discriminator": "discr.", "label change rate": "LCR"}


def percentage(share: float | None) -> float:
    """A share in per cent; NaN, which is not drawn, where there is none."""
    return np.nan if share is None else 100 * share


def epsilon_curves(rows: list[dict]) -> Any:
    """Success, and label change rate over the normal one, against epsilon; rows as in `report.material`."""
    figure, (success, ratio) = panels(2, 2, 5.0, 3.0)
    variants = 0
    for attack in dict.fromkeys(row["attack"] for row in rows):
        own = sorted((row for row in rows if row["attack"] == attack), key=lambda row: row["epsilon"])
        style = {"color": colour(attack), "marker": "o", "markersize": 4, "linewidth": 1.7, "label": attack}
        if attack.startswith("mgan "):
            style |= {"marker": MARKERS[variants % len(MARKERS)], "linewidth": 1, "linestyle": "--", "alpha": 0.7}
            variants += 1
        success.plot([row["epsilon"] for row in own], [percentage(row["success_rate"]) for row in own], **style)
        measured = [row for row in own if row["lcr"] is not None and row["normal_lcr"]]
        ratio.plot([row["epsilon"] for row in measured], [row["lcr"] / row["normal_lcr"] for row in measured], **style)
    ratio.axhline(1, color="#9ca3af", linewidth=1, zorder=0)
    success.set_ylim(-3, 103)
    for axis, text in ((success, "success, %"), (ratio, "LCR / normal LCR")):
        axis.set_xticks(sorted({row["epsilon"] for row in rows}))
        axis.set_xlabel("epsilon (L-inf)", fontsize=9, color=INK)
        axis.set_title(text, fontsize=10, fontweight="bold", color=INK)
    legend_above(figure, [success])
    return figure


def training_curves(history: dict[str, dict[str, np.ndarray]]) -> Any:
    """A row a training, a panel a metric: means over a hundredth of its steps, not finite values left out."""
    from matplotlib.figure import Figure

    history = {stage: metrics for stage, metrics in history.items() if metrics}
    columns = 6
    heights = {stage: -(-len(metrics) // columns) for stage, metrics in history.items()}
    figure = Figure(figsize=(11, 1.4 * sum(heights.values())), layout="constrained")
    parts = figure.subfigures(len(history), 1, squeeze=False, height_ratios=list(heights.values()))[:, 0]
    for part, (stage, metrics) in zip(parts, history.items(), strict=True):
        part.supylabel(
            stage, fontsize=9, fontweight="bold", color=colour(stage.replace("_", " ") if stage[:5] == "mgan_" else stage)
        )
        axes = part.subplots(heights[stage], columns, squeeze=False).ravel()
        for axis in axes[len(metrics) :]:
            axis.set_visible(False)
        for axis, (name, values) in zip(axes, metrics.items(), strict=False):
            values = np.asarray(values, float)
            parted = np.array_split(np.where(np.isfinite(values), values, np.nan), min(100, max(len(values), 1)))
            means = [np.nanmean(one) if np.isfinite(one).any() else np.nan for one in parted]
            ends = np.cumsum([len(one) for one in parted])
            plain_axis(axis)
            axis.plot(ends, means, color=colour(stage.replace("_", " ") if stage[:5] == "mgan_" else stage), linewidth=1.3)
            axis.tick_params(labelsize=6.5)
            title = name.replace("_", " ")
            for long, short in WORDS.items():
                title = title.replace(long, short)
            axis.set_title(title, fontsize=8, color=INK, pad=3)
    return figure


def label_histograms(rows: list[dict], class_names: tuple[str, ...]) -> Any:
    """Which labels the adversarial images get, an attack a panel, with the entropy of the histogram.

    Args:
      rows: one an attack, with `name`, `label_histogram` and `label_entropy`.
      class_names: one a class.
    """
    figure, axes = panels(len(rows), 3, 3.6, 1.9, sharey=True)
    for axis, row in zip(axes, rows, strict=True):
        counts = np.asarray(row["label_histogram"], float)
        axis.bar(range(len(counts)), 100 * counts / max(counts.sum(), 1), color=colour(row["name"]), width=0.72)
        axis.axhline(100 / len(counts), color=FAINT, linewidth=1, linestyle="--")
        if len(counts) <= 20:
            axis.set_xticks(range(len(counts)), class_names, fontsize=8, rotation=90 if max(map(len, class_names)) > 3 else 0)
        axis.grid(axis="x", visible=False)
        entropy = "–" if row.get("label_entropy") is None else f"{row['label_entropy']:.2f}"
        axis.set_title(f"{row['name']}: {entropy} bits, N = {counts.sum():.0f}", fontsize=9, fontweight="bold", color=INK)
    figure.supylabel("% of adversarial images", fontsize=9, color=INK)
    return figure
