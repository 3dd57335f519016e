"""The page of what networks learned."""

import textwrap
from pathlib import Path

import numpy as np

from mgan_jax.report import learned
from mgan_jax.report.document import Block, Section, drawn, write_document
from mgan_jax.report.learned import Pictured
from mgan_jax.report.results import plain
from mgan_jax.report.sizes import sized
from mgan_jax.report.tables import Table, measure, number, part
from mgan_jax.report.terminal import print_table

LEAD = (
    "Networks looked into: what their first layer weighs, what each layer makes of an image and of the same image after an "
    "attack, which pixels the answer hangs on, and which images of nothing they are sure of."
)


def about(results: dict) -> str:
    """The networks and their accuracy."""
    said = ", ".join(f"{row['network']} {measure(row, 'test_accuracy', 2, 100)} %" for row in results["rows"])
    return f"{said} correct of n = {number(results['rows'][0]['num_test_images'], 0)}"


def network_table(results: dict) -> Table:
    """A line a network."""
    sure, digits, lines = results["config"]["fooling"]["confidence"], 1 if "seeds" in results else 0, []
    for row in results["rows"]:
        classes = {start: len(of["confidences"]) for start, of in row["fooling"].items()}
        lines.append([
            row["network"], measure(row, "test_accuracy", 2, 100), number(row["num_test_images"], 0), row["attack"],
            measure(row, "success_rate", 1, 100), number(row["num_images"], 0),
            *(f"{part(row, 'sure', start, digits)} of {count}" for start, count in classes.items()),
        ])  # fmt: skip
    starts = [f"classes sure at {sure:g}, from {name}" for name in results["rows"][0]["fooling"]]
    return "Networks", ["network", "accuracy %", "n", "attack", "success %", "n", *starts], lines


def change_table(results: dict) -> Table:
    """A line a network and layer: how far its activations move."""
    lines = [
        [row["network"], one["layer"], measure(one, "attack_change", 1, 100), measure(one, "noise_change", 1, 100),
         number(one["attack_change"] / one["noise_change"]) if one["noise_change"] else "–", number(one["num_images"], 0)]
        for row in results["rows"] for one in row["changes"]
    ]  # fmt: skip
    return "Activations moved", ["network", "layer", "by the attack %", "by noise %", "ratio", "n"], lines


def sentences(results: dict) -> list[str]:
    """What the numbers say."""
    found = []
    for row in results["rows"]:
        ends = row["changes"][0], row["changes"][-1]
        images, logits = (measure(one, "attack_change", 0, 100) for one in ends)
        noisy = " and ".join(measure(one, "noise_change", 0, 100) for one in ends)
        found.append(
            f"{row['network']}: {row['attack']} moves the images by {images} % of their length and the logits by {logits} %; "
            f"noise of the same size moves them by {noisy} %; {sized([row['num_images']])}."
        )
    return found


def network_sections(one: Pictured, row: dict, class_names: tuple[str, ...]) -> list[tuple[str, Block]]:
    """(section, figure) for everything shown of a network."""
    is_dense = one.weights.shape[1:] == one.images["clean"].shape[1:]
    classes = class_names if len(one.weights) == len(class_names) and is_dense else None
    scale = f"Red positive, blue negative, white zero; the largest weight is {np.abs(one.weights).max():.2g}."
    count = min(len(one.weights), learned.MAX_WEIGHTS)
    kind = (
        "Weights of each class."
        if classes
        else f"{'Weights' if is_dense else 'Filters'} of {count} of {len(one.weights)} neurons."
    )
    figure = learned.weights_figure(one.weights, classes)
    found = [("weights", drawn(figure, f"first layer of {one.name}", f"{kind} {scale}", one.name, "png"))]
    for place in range(len(one.layers["rows"])):
        caption = (
            "Above clean, below adversarial. Each tile of a convolution is a channel, each square of a dense layer a neuron; one "
            "scale a column, black is zero or less. Right: probabilities, red where the class is not the image's own."
        )
        figure = learned.activations_figure(one, place, class_names)
        found.append(
            ("activations", drawn(figure, f"activations of {one.name}", caption, one.name if not place else None, "png"))
        )
    caption = (
        "Left clean, right adversarial, of the class that the network answers. Gradient: absolute value. Gradient times input: "
        "red for the class, blue against it. SmoothGrad: absolute value of the mean gradient at noisy copies. Each map has a "
        "scale of its own, cut at its 99th percentile."
    )
    found.append(
        ("saliency", drawn(learned.saliency_figure(one, class_names), f"saliency of {one.name}", caption, one.name, "png"))
    )
    confidences = {name: of["confidences"] for name, of in row["fooling"].items()}
    used = " and ".join(f"{np.mean(of['used']):.0f} from {name}" for name, of in row["fooling"].items())
    rows = ", then ".join(f"from {name}" for name in one.fooling)
    caption = f"Rows: {rows}. Above each the class aimed at and the network's confidence in it. Gradients an image: {used}."
    figure = learned.fooling_figure(one.fooling, confidences, class_names)
    return [*found, ("fooling", drawn(figure, f"images of nothing for {one.name}", caption, one.name, "png"))]


def write_visualize(path: Path, results: dict, shown: list[Pictured], class_names: tuple[str, ...]) -> None:
    """Writes the page; results as `experiments.visualize` makes them, and what is shown of each network."""
    results = plain(results)
    blocks: dict[str, list[Block]] = {"weights": [], "activations": [], "saliency": [], "fooling": []}
    for one, row in zip(shown, results["rows"], strict=True):
        for section, block in network_sections(one, row, class_names):
            blocks[section].append(block)
    moved = (
        "||a(x') - a(x)|| / ||a(x)|| of each layer's activations a, mean over n = "
        f"{number(results['rows'][0]['num_images'], 0)} images; noise adds or subtracts, at random, the attack's greatest "
        "change to each value."
    )
    sections = [
        Section("Networks", "", [Block("Success: of correctly classified images.", network_table(results))]),
        Section("What the first layer weighs", "", blocks["weights"]),
        Section("What the layers make of an image", "", blocks["activations"]),
        Section("A small change grows", "", [
            drawn(learned.change_figure(results["rows"]), "relative change of activations", moved),
            Block(moved, change_table(results), folded="Every layer", text_columns=2),
        ]),
        Section("Which pixels the answer hangs on", "", blocks["saliency"]),
        Section("Images of nothing that the network is sure of",
                "Gradient ascent from noise and from a black image, no further than needed.", blocks["fooling"]),
    ]  # fmt: skip
    write_document(path, results, "What the networks learned", LEAD, sentences(results), sections, about(results))


def print_visualize(results: dict) -> None:
    """Prints the tables."""
    results = plain(results)
    print(about(results))
    print_table(network_table(results))
    print_table(change_table(results))
    print()
    for sentence in sentences(results):
        print(textwrap.fill(sentence, 118))
