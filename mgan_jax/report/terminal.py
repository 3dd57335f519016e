"""Progress bars and tables in the terminal."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import numpy as np


@contextlib.contextmanager
def progress(enabled: bool) -> Iterator[Callable[..., Callable[..., None]]]:
    """Progress bars with rate, remaining time and the last numbers; silent where disabled or without a terminal.

    Yields:
      `start(name, total, unit) -> update(done, **numbers)`.
    """
    if not (enabled and sys.stdout.isatty()):
        yield lambda name, total, unit: lambda done, **numbers: None
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = [
        TextColumn("{task.description:>20}"),
        BarColumn(bar_width=24),
        TextColumn("{task.completed:.0f}/{task.total:.0f} {task.fields[unit]}"),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[numbers]}"),
    ]
    with Progress(*columns) as display:

        def start(name: str, total: int, unit: str) -> Callable[..., None]:
            task = display.add_task(name, total=total, unit=unit, numbers="", rate="")

            def update(done: int, **numbers: float) -> None:
                shown = "  ".join(f"{key} {value:.3g}" for key, value in list(numbers.items())[:4])
                speed = next(t.speed for t in display.tasks if t.id == task)
                rate = f"{speed:.1f} {unit}/s" if speed else ""
                display.update(task, completed=done, numbers=shown, rate=rate)

            return update

        yield start


def percent(value: float | None, digits: int = 1) -> str:
    """A share in per cent; an en dash where there is none."""
    return "–" if value is None else f"{100 * value:.{digits}f}"


def number(value: float | None, digits: int = 2) -> str:
    """A number; an en dash where there is none."""
    return "–" if value is None else f"{value:.{digits}f}"


def difference(row: dict) -> float | None:
    """SPRT's detection rate minus its false positives."""
    found, false = row.get("sprt_detection_rate"), row.get("sprt_false_positive_rate")
    return None if found is None or false is None else found - false


def label(row: dict) -> str:
    """An attack's name, with the operators it was trained on where these are not all."""
    trained_on = row.get("trained_on")
    return row["attack"] if trained_on in (None, "all") else f"{row['attack']} {trained_on}"


def tables(results: dict) -> list[tuple[str, list[str], list[list[str]]]]:
    """The report's tables as (title, column names, rows of text)."""
    rows = results["rows"]
    attacks, seen = [], set()
    for row in rows:
        if row["attack"] != "clean" and label(row) not in seen:
            seen.add(label(row))
            attacks.append([
                label(row), percent(row["misclassification"], 2), f"{row['num_images']:.0f}",
                percent(row["success_rate"], 2), f"{row['num_clean_correct']:.0f}", number(row["linf"], 3),
                number(row["l2"]), number(row["l0"], 0), number(row["label_entropy"]),
                percent(row.get("judge_original_class")),
            ])  # fmt: skip
    heads = ["attack", "misclassified %", "n", "success %", "n", "L-inf", "L2", "L0", "label bits", "k-NN reads original %"]
    found = [("Attacks", heads, attacks)]
    for protocol in dict.fromkeys(row["protocol"] for row in rows if row.get("protocol")):
        tested = [row for row in rows if row.get("protocol") == protocol]
        first = tested[0]
        lines = [
            [
                row["operator"], label(row), f"{row['num_mutants']:.0f}", f"{row['num_adversarial']:.0f}",
                percent(row["lcr"], 2), percent(row["normal_lcr"], 2), percent(row["class_matched_normal_lcr"], 2),
                number(row.get("lcr_ratio")), number(row["auroc"]), percent(row["tpr_at_5fpr"]),
                percent(row["tpr_at_5fpr_low"]), percent(difference(row)),
            ]
            for row in tested
        ]  # fmt: skip
        heads = ["operator", "attack", "M", "N", "LCR %", "normal %", "class-matched %", "ratio", "AUROC",
                 "TPR high %", "TPR low %", "SPRT - FP"]  # fmt: skip
        kept = f", mutants of at least {first['min_accuracy_ratio']:g} of the target's accuracy"
        title = f"Mutation testing, {protocol}: rate {first['rate']:g}" + (
            kept if first["min_accuracy_ratio"] else ", all mutants"
        )
        found.append((title, heads, lines))
    return found


def slides_table(results: dict, protocol: str = "unfiltered") -> tuple[str, list[str], list[list[str]]]:
    """The table of MGAN's slides, a line an operator, from the rows of one protocol."""
    lines = []
    rows = [row for row in results["rows"] if row.get("protocol") == protocol]
    for operator in dict.fromkeys(row["operator"] for row in rows):
        of = {}
        for row in rows:
            if row["operator"] == operator and row.get("trained_on") in (None, "all", operator):
                of[row["attack"]] = row
        if "mgan" not in of or "advgan" not in of:
            continue
        lines.append([
            operator, *(percent(of[name]["misclassification"], 2) for name in ("mgan", "advgan")),
            *(percent(of[name]["lcr"], 2) for name in ("mgan", "advgan")), percent(of["mgan"]["normal_lcr"], 2),
            *(number(of[name].get("lcr_ratio")) for name in ("mgan", "advgan")),
        ])  # fmt: skip
    heads = ["operator", "MGAN accuracy %", "AdvGAN accuracy %", "MGAN LCR %", "AdvGAN LCR %", "normal LCR %",
             "MGAN / normal", "AdvGAN / normal"]  # fmt: skip
    return f"The slides' table, {protocol}", heads, lines


def mean_rates(results: dict, protocol: str = "unfiltered") -> dict[str, float]:
    """Each attack's mean LCR over the operators of one protocol, on the same mutants."""
    rates = {}
    for row in results["rows"]:
        if row.get("protocol") == protocol and row.get("lcr") is not None:
            rates.setdefault(label(row), []).append(row["lcr"])
    return {name: float(np.mean(values)) for name, values in rates.items()}


def verdict(results: dict) -> list[str]:
    """What the mean LCRs say, in sentences: MGAN against AdvGAN, and against the best control."""
    rates = mean_rates(results)
    sentences = []
    if "mgan" in rates and rates.get("advgan"):
        share = rates["mgan"] / rates["advgan"]
        sentences.append(f"MGAN's mean LCR over the operators is {share:.2f} of AdvGAN's on the same unfiltered mutants.")
    controls = {name: rate for name, rate in rates.items() if name in ("advgan_margin", "pgd", "pgd_mutants")}
    if "mgan" in rates and controls:
        best = min(controls, key=controls.get)
        sentence = (
            f"The most stable control is {best}: mean LCR {percent(controls[best], 2)} %, MGAN's {percent(rates['mgan'], 2)} %."
        )
        if controls[best] <= rates["mgan"]:
            sentence += " That is at least as stable, so what is stable here is confidence, not MGAN alone."
        sentences.append(sentence)
    return sentences


def print_tables(results: dict) -> None:
    """Prints the target, the slides' table and all others, aligned as plain text."""
    target = results["target"]
    print(f"target {target['name']}: {percent(target['test_accuracy'], 2)} % of {target['num_images']} test images")
    for title, heads, lines in [slides_table(results), *tables(results)]:
        if not lines:
            continue
        widths = [max(len(line[i]) for line in [heads, *lines]) for i in range(len(heads))]
        print(f"\n{title}")
        for line in [heads, *lines]:
            print(
                "  ".join(cell.ljust(w) if i < 1 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
            )
    print()
    for sentence in verdict(results):
        print(sentence)
