"""What the seeds of a run say beside one another: of every number the mean and, in brackets, the least and the largest.

python -m mgan_jax.report.over_seeds RESULTS.json [ATTACK ...]    the tables as Markdown, of these attacks alone
"""

import sys
from pathlib import Path

from mgan_jax.report.results import read_results
from mgan_jax.report.tables import Table, described, label, number, protocol_rows


def ranged(row: dict, name: str, digits: int, scale: float = 1.0) -> str:
    """A measure's mean over the seeds times `scale`, and its range; an en dash where no seed has it."""
    mean, bounds = row.get(name), row.get(f"{name}_range")
    if mean is None or bounds is None:
        return number(None if mean is None else scale * mean, digits)
    return f"{scale * mean:.{digits}f} ({' to '.join(f'{scale * bound:.{digits}f}' for bound in bounds)})"


def over_seeds(results: dict) -> list[Table]:
    """A line an attack, then for each protocol a line an operator and attack; no table of one seed.

    Args:
      results: as `report.results.mean_and_spread` joins them.
    """
    if "seeds" not in results:
        return []
    beside, first = f"over the seeds {', '.join(map(str, results['seeds']))}: mean (least to largest)", {}
    for row in results["rows"]:
        first.setdefault(label(row), row)
    lines = [
        [name, ranged(row, "misclassification", 2, 100), ranged(row, "label_entropy", 2), ranged(row, "mean_margin", 1)]
        for name, row in first.items()
    ]
    found = [(f"Attacks {beside}", ["attack", "misclassified %", "label entropy, bits", "margin"], lines)]
    for protocol, rows in protocol_rows(results).items():
        lines = [
            [
                row["operator"], label(row), number(row.get("num_mutants"), 0), *(ranged(row, name, 2) for name in
                ("lcr_ratio", "class_matched_ratio", "auroc")), ranged(row, "sprt_excess", 1, 100),
            ]
            for row in rows
        ]  # fmt: skip
        heads = ["operator", "attack", "M", "ratio", "class-matched ratio", "AUROC", "SPRT - FP"]
        found.append((f"{described(protocol, rows)}, {beside}", heads, lines))
    return found


def trials_tables(results: dict) -> list[Table]:
    """A line a trial, of one seed or of several: what needs no mutants, then for each protocol and measure every operator's.

    Args:
      results: of `experiments.trials`, as one seed's or as joined.
    """
    seeds = results.get("seeds") or [results["seed"]]
    beside, by_trial = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}", {}
    for row in results["rows"]:
        if row.get("operator"):
            by_trial.setdefault(f"{row['trial']}, {label(row)}", []).append(row)
    lines = [
        [
            name,
            ranged(rows[0], "misclassification", 1, 100),
            ranged(rows[0], "label_entropy", 2),
            ranged(rows[0], "mean_margin", 1),
        ]
        for name, rows in by_trial.items()
    ]
    found = [(f"Trials, {beside}", ["trial", "misclassified %", "label entropy, bits", "margin"], lines)]
    for protocol, rows in protocol_rows(results).items():
        operators = list(dict.fromkeys(row["operator"] for row in rows))
        for measured, said in (("lcr_ratio", "ratio"), ("class_matched_ratio", "class-matched ratio"), ("auroc", "AUROC")):
            lines = []
            for name, of in by_trial.items():
                values = {row["operator"]: ranged(row, measured, 2) for row in of if row["protocol"] == protocol}
                lines.append([name, *(values.get(operator, "–") for operator in operators)])
            found.append((f"{said}, {described(protocol, rows)}, {beside}", ["trial", *operators], lines))
    return found


def markdown(table: Table) -> str:
    """A table as Markdown, its title above it."""
    title, heads, lines = table
    rows = [heads, ["---"] * len(heads), *lines]
    return "\n".join([f"{title}:", "", *(f"| {' | '.join(row)} |" for row in rows)])


if __name__ == "__main__":
    path, *attacks = sys.argv[1:]
    joined = read_results(Path(path))
    joined["rows"] = [row for row in joined["rows"] if not attacks or row["attack"] in attacks]
    found = trials_tables(joined) if any("trial" in row for row in joined["rows"]) else over_seeds(joined)
    print("\n\n".join(map(markdown, found)))
