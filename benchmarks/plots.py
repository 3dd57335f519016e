"""Draws the scaling rows of a JSON file: `python -m benchmarks.plots RESULTS.json FIGURE.png` (or .svg, .pdf)."""

import json
import sys
from collections import defaultdict
from pathlib import Path


def scaling_lines(rows: list[dict]) -> dict[str, list[tuple[int, float, float]]]:
    """The lines of the figure, {label: [(M, seconds, peak in MiB), ...]} with M rising, from rows of `benchmarks.scaling`.

    Args:
      rows: of the JSON; others than those of scaling are passed over.
    """
    lines = defaultdict(list)
    for row in rows:
        if row["name"].startswith("scaling") and row["ours_s"] is not None:
            label = f"{row['num_images']:,} images, {row['devices']} device{'s' if row['devices'] > 1 else ''}"
            lines[label].append((row["num_mutants"], row["ours_s"], row["peak_bytes"] / 2**20))
    return {label: sorted(points) for label, points in lines.items()}


def draw(results: dict, path: Path) -> None:
    """Two axes, seconds and peak memory against M, one line an N and number of devices.

    Raises:
      ValueError: the results hold no scaling rows.
    """
    from matplotlib.figure import Figure

    lines = scaling_lines(results["rows"])
    if not lines:
        raise ValueError("the results hold no scaling rows; run benchmarks.mutants")
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for label, points in lines.items():
        mutants, seconds, peaks = zip(*points, strict=True)
        time.plot(mutants, seconds, marker="o", label=label)
        memory.plot(mutants, peaks, marker="o", label=label)
    time.set(xlabel="mutants", ylabel="seconds", xscale="log", yscale="log")
    largest = max(peak for points in lines.values() for _, _, peak in points)
    memory.set(xlabel="mutants", ylabel="peak memory, MiB", xscale="log", ylim=(0, 1.1 * largest))
    numbers = sorted({mutants for points in lines.values() for mutants, _, _ in points})
    for axis in (time, memory):
        axis.set_xticks(numbers, labels=[str(number) for number in numbers])
        axis.set_xticks([], minor=True)
    time.legend(frameon=False)
    figure.suptitle(f"votes of a LeNet: {results['device']}", fontsize="medium")
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m benchmarks.plots RESULTS.json FIGURE")
    draw(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")), Path(sys.argv[2]))
