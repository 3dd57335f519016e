"""The report of images that mislead by themselves."""

from pathlib import Path
from typing import Any

import numpy as np

from mgan_jax.report.document import Block, Section, drawn, write_document
from mgan_jax.report.figures import INK, SPARE, legend_above, panels
from mgan_jax.report.pictures import show
from mgan_jax.report.results import plain
from mgan_jax.report.sizes import sized
from mgan_jax.report.tables import Table, measure, number, percent
from mgan_jax.report.terminal import print_table

LEAD = (
    "A classifier answers for every image, also for what is no image of anything. From Gaussian noise, a step along the "
    "gradient's sign is often enough for confidence in a class; and a picture that people read as one digit can be drawn so "
    "that the network reads another."
)


def about(results: dict) -> str:
    """The networks and their accuracies."""
    shares = ", ".join(f"{one['name']} {measure(one, 'accuracy', 2, 100)} %" for one in results["networks"])
    return f"correct of n = {number(results['num_test_images'], 0)} test images: {shares}"


def forms(results: dict) -> dict[tuple, list[dict]]:
    """{(network, form, confidence): its rows, class by class}."""
    found: dict[tuple, list[dict]] = {}
    for row in results["rows"]:
        found.setdefault((row["network"], row["form"], row["confidence"]), []).append(row)
    return found


def hardest(rows: list[dict]) -> dict:
    """The row of the class of the smallest share; of equal ones the one that was found to be the hardest."""
    return min(rows, key=lambda row: (row["share"], not row["hardest"]))


def share_table(results: dict) -> Table:
    """A line a network, form and confidence: the share of each class."""
    classes = sorted({row["class"] for row in results["rows"]})
    lines = [
        [network, form, percent(confidence, 0), *(measure(row, "share", 0, 100) for row in rows), str(hardest(rows)["class"]),
         number(np.mean([row["steps"] for row in rows]), 1)]
        for (network, form, confidence), rows in forms(results).items()
    ]  # fmt: skip
    count = number(results["rows"][0]["num_images"], 0)
    heads = ["network", "form", "asked %", *(f"class {label}" for label in classes), "hardest", "steps"]
    return f"Share of {count} draws of noise a class that reach the confidence, %", heads, lines


def quadratic_table(results: dict) -> Table:
    """A line a goal and lambda: confidence and distance."""
    lines = [
        ["noise" if row["noise"] else "picture", str(row["goal"]), f"{row['distance_weight']:g}", measure(row, "confidence", 3),
         "–" if row["noise"] else measure(row, "l2", 2), "yes" if row["reached"] else "no"]
        for row in results["quadratic_rows"]
    ]  # fmt: skip
    asked = results["config"]["quadratic"]["confidence"]
    reached = f"{asked:g} reached" + (" by every seed" if "seeds" in results else "")
    return "The quadratic cost", ["start", "goal", "lambda", "confidence", "L2", reached], lines


def largest(results: dict) -> dict[int, dict | None]:
    """{goal: the row of the largest lambda at which the confidence asked for is reached, None where it never is}."""
    rows = [row for row in results["quadratic_rows"] if not row["noise"]]
    best: dict[int, dict | None] = {}
    for goal in dict.fromkeys(row["goal"] for row in rows):
        reached = [row for row in rows if row["goal"] == goal and row["reached"]]
        best[goal] = max(reached, key=lambda row: row["distance_weight"], default=None)
    return best


def sentences(results: dict) -> list[str]:
    """What the numbers say."""
    found = []
    for (network, form, confidence), rows in forms(results).items():
        least, shares = hardest(rows), [row["share"] for row in rows]
        worst = f"hardest is class {least['class']} with {measure(least, 'share', 1, 100)} %"
        images = sized([sum(row["num_images"] for row in rows)])
        reached = f"{percent(float(np.mean(shares)))} % of the noise, {images}, reaches {percent(confidence, 0)} % confidence"
        found.append(f"{network}, {form}: {reached}; {worst if min(shares) < 1 else 'in every class'}.")
    asked = results["config"]["quadratic"]["confidence"]
    said = [
        f"{goal} ({measure(row, 'confidence', 3)} at lambda {row['distance_weight']:g}, L2 {measure(row, 'l2', 2)})"
        if row
        else f"{goal} (nowhere)"
        for goal, row in largest(results).items()
    ]
    found.append(f"Quadratic cost, confidence {asked:g} at the largest lambda that allows it: goals {', '.join(said)}.")
    return found


def class_figure(images: dict[str, np.ndarray], class_names: tuple[str, ...]) -> Any:
    """A row a network: its fooling image of each class."""
    from matplotlib.figure import Figure

    count = len(next(iter(images.values())))
    figure = Figure(figsize=(1.02 * count + 0.9, 1.2 * len(images) + 0.1), layout="constrained")
    axes = figure.subplots(len(images), count, squeeze=False)
    for line, (name, made) in zip(axes, images.items(), strict=True):
        for axis, image, label in zip(line, made, class_names, strict=True):
            show(axis, image)
            axis.set_title(label, fontsize=9, pad=2, color=INK)
        line[0].set_ylabel(name, fontsize=10, fontweight="bold", color=INK)
    return figure


def quadratic_figure(results: dict, pictured: Any) -> Any:
    """The picture, then a row a goal: what each lambda makes of it; and noise read as a class."""
    from matplotlib.figure import Figure

    rows = [row for row in pictured.quadratic_rows if not row["noise"]]
    goals, weights = (list(dict.fromkeys(row[name] for row in rows)) for name in ("goal", "distance_weight"))
    noise = next(row for row in pictured.quadratic_rows if row["noise"])
    figure = Figure(figsize=(1.15 * (len(weights) + 1) + 0.3, 1.36 * len(goals) + 0.3), layout="constrained")
    axes = figure.subplots(len(goals), len(weights) + 1, squeeze=False)
    for axis in axes[:, 0]:
        axis.set_axis_off()
    own = ((pictured.picture, f"picture: {results['config']['quadratic']['picture']}"),
           (pictured.noise_read, f"noise as {noise['goal']}: {100 * noise['confidence']:.0f} %"))  # fmt: skip
    for axis, (image, title) in zip(axes[:, 0], own, strict=False):
        axis.set_axis_on()
        show(axis, image)
        axis.set_title(title, fontsize=8, pad=2, color=INK)
    for row in rows:
        g, k = goals.index(row["goal"]), weights.index(row["distance_weight"])
        axis = axes[g, k + 1]
        show(axis, pictured.quadratic[g, k])
        title = f"{row['goal']}: {100 * row['confidence']:.0f} %"
        axis.set_title(title, fontsize=8, pad=2, color="#b42318" if row["reached"] else INK)
        if g == len(goals) - 1:
            axis.set_xlabel(f"λ {row['distance_weight']:g}", fontsize=9, color=INK)
    return figure


def curve_figure(results: dict) -> Any:
    """Confidence and distance against lambda, a line a goal."""
    rows = [row for row in results["quadratic_rows"] if not row["noise"]]
    figure, axes = panels(2, 2, 4.6, 2.8)
    for place, goal in enumerate(dict.fromkeys(row["goal"] for row in rows)):
        own = sorted((row for row in rows if row["goal"] == goal), key=lambda row: row["distance_weight"])
        for axis, field in zip(axes, ("confidence", "l2"), strict=True):
            axis.plot([row["distance_weight"] for row in own], [row[field] for row in own], marker="o", markersize=4,
                      linewidth=1.6, color=SPARE[place % len(SPARE)], label=f"goal {goal}")  # fmt: skip
    axes[1].axhline(np.sqrt(2), color="#9ca3af", linestyle="--", linewidth=1)
    for axis, title in zip(axes, ("confidence in the goal", "L2 from the picture"), strict=True):
        axis.set_xscale("log")
        axis.set_xlabel("lambda, logarithmic", fontsize=9, color=INK)
        axis.set_title(title, fontsize=10, fontweight="bold", color=INK)
    legend_above(figure, [axes[0]])
    return figure


def write_fooling(path: Path, results: dict, pictured: Any, class_names: tuple[str, ...]) -> None:
    """Writes the page.

    Args:
      path: of the page.
      results: as `experiments.fooling` makes them.
      pictured: its images, `experiments.fooling.Pictured`.
      class_names: one a class.
    """
    results = plain(results)
    asked = results["config"]["confidences"][-1]
    sections = [
        Section("Noise that networks are sure of", "", [
            Block("No step: the noise itself. One step: a single step along the sign of the gradient, of noise that is not sure "
                  "enough already. Iterated: small steps until the confidence asked for. Steps: mean number.",
                  share_table(results), text_columns=2),
            drawn(class_figure(pictured.fooling, class_names), "a fooling image of each class",
                  f"Noise after iterated steps, asked for {percent(asked, 0)} % confidence in the class above each image; the "
                  "first draw of each class.", kind="png"),
        ]),
        Section("Pictures read as two classes", "From a random image, gradient descent on 1/2 ||y_goal - y(x)||² + lambda "
                "||x - x_target||². At lambda .5 anything beyond an L2 of 1.41 (dashed) costs more than giving up.", [
            drawn(quadratic_figure(results, pictured), "pictures by goal and lambda",
                  f"Network {results['config']['quadratic']['network']}. A row a goal, lambda falling to the right; above each "
                  "image the network's confidence in the goal, red where it is as sure as asked. Left: the picture itself, and "
                  "noise alone (lambda 0).", kind="png"),
            drawn(curve_figure(results), "confidence and distance against lambda",
                  f"The surest of {results['config']['quadratic']['num_starts']} random starts."),
            Block("Of all starts the surest.", quadratic_table(results), folded="All numbers", text_columns=2),
        ]),
    ]  # fmt: skip
    write_document(path, results, "Images that mislead by themselves", LEAD, sentences(results), sections, about(results))


def print_fooling(results: dict) -> None:
    """Prints the tables."""
    print(about(results))
    print_table(share_table(results))
    print_table(quadratic_table(results))
    print()
    for sentence in sentences(plain(results)):
        print(sentence)
