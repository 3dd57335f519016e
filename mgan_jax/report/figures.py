"""Figures of the measurements; each returns a Matplotlib figure, drawn without global state."""

from typing import Any

import numpy as np

from mgan_jax.report.tables import paired

COLOURS = {"normal": "#6b7280", "mgan": "#d55e00", "advgan": "#0072b2", "advgan_margin": "#56b4e9", "pgd": "#009e73",
           "pgd_mutants": "#cc79a7", "target": "#374151"}  # fmt: skip
SPARE = ("#e69f00", "#7a4fbf", "#8c6d31", "#1b9e77", "#a6761d", "#525252")
INK, FAINT = "#374151", "#d1d5db"


def colour(name: str) -> str:
    """The fixed colour of an attack, safe for the colour-blind; an MGAN of one operator has MGAN's, others spare ones."""
    if name.split()[0] in COLOURS:
        return COLOURS[name.split()[0]]
    return SPARE[sum(name.encode()) % len(SPARE)]


def panels(count: int, columns: int, width: float, height: float, **shared: Any) -> tuple[Any, list]:
    """A figure and `count` axes in rows of at most `columns`."""
    from matplotlib.figure import Figure

    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    width = min(max(width, 10.8 / columns), 1.5 * width)
    figure = Figure(figsize=(columns * width, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, **shared).ravel()
    for axis in axes[count:]:
        axis.set_visible(False)
    for axis in axes[:count]:
        plain_axis(axis)
    return figure, list(axes[:count])


def plain_axis(axis: Any) -> None:
    """Left and bottom lines and a faint grid."""
    axis.spines[["top", "right"]].set_visible(False)
    axis.spines[["left", "bottom"]].set_color("#9ca3af")
    axis.tick_params(labelsize=8, colors=INK, length=2.5)
    axis.grid(color="#eef0f2", linewidth=0.8)
    axis.set_axisbelow(True)


def legend_above(figure: Any, axes: list) -> None:
    """One legend for all panels."""
    entries = {}
    for axis in axes:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            entries.setdefault(name, handle)
    if entries:
        breadth = 0.6 + 0.08 * max(map(len, entries))
        figure.legend(
            entries.values(), entries.keys(), loc="outside upper center", fontsize=9, frameon=False,
            ncols=max(1, min(len(entries), int(figure.get_figwidth() / breadth))),
        )  # fmt: skip


def known(lcr: dict[str, dict[str, np.ndarray]]) -> dict[str, dict[str, np.ndarray]]:
    """The populations that have mutants, each with the attacks worth a line: of MGANs of one operator, that operator's."""
    found = {}
    for name, rates in lcr.items():
        if len(rates.get("normal", ())):
            own = f"mgan {name.split()[0]}"
            drop = [a for a in rates if a.startswith("mgan ") and a != own and ({own, "mgan"} & set(rates))]
            found[name] = {attack: np.asarray(r) for attack, r in rates.items() if np.size(r) and attack not in drop}
    return found


def lcr_histograms(lcr: dict[str, dict[str, np.ndarray]]) -> Any:
    """Label change rates of normal, AdvGAN's and MGAN's images, a panel an operator."""
    from matplotlib.ticker import FuncFormatter, PercentFormatter

    lcr = {name: {a: r if a == "normal" else r[0] for a, r in rates.items()} for name, rates in known(lcr).items()}
    figure, axes = panels(len(lcr), 4, 2.7, 2.0, sharey=True)
    smallest = min((1 / len(r) for rates in lcr.values() for r in rates.values()), default=0.1)
    for axis, (name, rates) in zip(axes, lcr.items(), strict=True):
        reach = max(0.05, *(float(r.max()) for r in rates.values()))
        levels = len(np.unique(np.concatenate(list(rates.values())).round(6)))
        bins = np.linspace(0, reach * (1 + 1e-6), min(16, max(levels, 2)) + 1)
        for attack in [a for a in rates if a in ("normal", "advgan", "mgan") or a.startswith("mgan ")]:
            share = np.histogram(rates[attack], bins)[0] / len(rates[attack])
            axis.stairs(
                np.maximum(share, smallest / 2), bins, baseline=smallest / 2, fill=attack == "normal", linewidth=1.5,
                color="#c9cdd3" if attack == "normal" else colour(attack),
                label="mgan of the operator" if " " in attack else attack, linestyle="--" if " " in attack else "-",
            )  # fmt: skip
        axis.set_yscale("log")
        axis.set_ylim(smallest / 2, 1.3)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
        axis.set_title(name.split()[0], fontsize=10, fontweight="bold", color=INK)
    figure.supxlabel("label change rate of an image", fontsize=9, color=INK)
    figure.supylabel("share of images, log", fontsize=9, color=INK)
    legend_above(figure, axes)
    return figure


def roc_curves(lcr: dict[str, dict[str, np.ndarray]], areas: dict[str, dict[str, float | None]] | None = None) -> Any:
    """Detection against false positives, the label change rate as the score, a panel an operator; AUROCs in the corner.

    An MGAN of one operator is dashed.

    Args:
      lcr: as in `report.material`.
      areas: {operator: {attack: AUROC}} to be shown, as the table has them; those of the curves where it has none.
    """
    from mgan_jax.metrics import auroc

    lcr = known(lcr)
    figure, axes = panels(len(lcr), 4, 2.7, 2.7, sharex=True, sharey=True)
    for axis, (name, rates) in zip(axes, lcr.items(), strict=True):
        axis.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
        attacks = [attack for attack in rates if attack != "normal"]
        for place, attack in enumerate(reversed(attacks)):
            dashes = "--" if " " in attack else "-"
            thresholds = np.unique(rates[attack])[::-1]
            found, alarms = (rates[attack][:, None] >= thresholds[:, None]).mean(-1)
            axis.plot([0, *alarms], [0, *found], linewidth=1.5, color=colour(attack), linestyle=dashes)
            area = (areas or {}).get(name.split()[0], {}).get(attack)
            text = f"{attack}  {auroc(*rates[attack]) if area is None else area:.2f}"
            axis.text(0.98, 0.03 + 0.08 * place, text, ha="right", fontsize=7.5, color=colour(attack), transform=axis.transAxes)
        axis.set_title(name.split()[0], fontsize=10, fontweight="bold", color=INK)
        axis.set_aspect("equal")
        axis.set_xlim(-0.02, 1.02)
        axis.set_ylim(-0.02, 1.02)
    figure.supxlabel("false positive rate", fontsize=9, color=INK)
    figure.supylabel("true positive rate", fontsize=9, color=INK)
    return figure


def operator_ratios(protocols: dict[str, list[dict]]) -> Any:
    """LCR over normal LCR of every attack under every operator, a panel a protocol, with 95 % intervals where rows have them.

    Args:
      protocols: {title: rows}.
    """
    from matplotlib.ticker import FixedLocator, FormatStrFormatter, NullLocator

    figure, axes = panels(len(protocols), 2, 5.4, 3.6, sharey=True)
    for axis, (title, rows) in zip(axes, protocols.items(), strict=True):
        pairs = paired(rows)
        attacks = list(dict.fromkeys(attack for of in pairs.values() for attack in of))
        axis.axvspan(0.9, 1.1, color="#f3f4f6", zorder=0)
        axis.axvline(1, color="#9ca3af", linewidth=1)
        for place, of in enumerate(pairs.values()):
            for rank, attack in enumerate(attacks):
                row = of.get(attack, {})
                ratio, bounds = row.get("lcr_ratio"), row.get("lcr_ratio_ci95")
                height = place + 0.6 * (rank / max(len(attacks) - 1, 1) - 0.5)
                if not ratio:
                    continue
                if bounds and None not in bounds:
                    axis.plot(np.maximum(bounds, 0.02), [height] * 2, color=colour(attack), linewidth=1.4, alpha=0.55)
                size = 6 if attack == "mgan" else 4
                axis.plot(ratio, height, "o", color=colour(attack), markersize=size, markeredgecolor="white", label=attack)
        axis.set_xscale("log")
        axis.set_xlim(0.04, 20)
        axis.xaxis.set_major_locator(FixedLocator([0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]))
        axis.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.set_yticks(range(len(pairs)), list(pairs), fontsize=9)
        axis.set_ylim(len(pairs) - 0.5, -0.5)
        axis.set_title(title, fontsize=10, fontweight="bold", color=INK)
    figure.supxlabel(
        "LCR / normal LCR (logarithmic; 1 cannot be told from normal, the band is 0.9 to 1.1)", fontsize=9, color=INK
    )
    legend_above(figure, axes)
    return figure
