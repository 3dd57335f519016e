"""Transfer and destruction rates as text."""

import numpy as np

from mgan_jax.report.sizes import sized
from mgan_jax.report.tables import Table, measure, number, percent

UNITS = {"gaussian_noise": "standard deviation", "rotation": "degrees", "blur": "sigma, pixels", "rounding": "bits"}


def words(name: str) -> str:
    """A name of the configuration as it is read."""
    return name.replace("_", " ")


def ordered(rows: list[dict], *fields: str) -> list:
    """What the rows have in a field, or a tuple of several, each once and in their order."""
    return list(dict.fromkeys(row[fields[0]] if len(fields) == 1 else tuple(row[name] for name in fields) for row in rows))


def about(results: dict) -> str:
    """Networks and learners, how many, and the range of their accuracy."""
    kinds = [[one for one in results["destinations"] if one["kind"] == kind] for kind in ("network", "learner")]
    said = [
        f"{len(of)} {kind} of {percent(min(one['accuracy'] for one in of))} to {percent(max(one['accuracy'] for one in of))} %"
        for kind, of in zip(("networks", "learners"), kinds, strict=True)
        if of
    ]
    return f"{', '.join(said)} correct of n = {number(results['destinations'][0]['num_images'], 0)}"


def described(results: dict, attack: str) -> str:
    """An attack with its arguments."""
    arguments = results["config"]["attacks"][attack].get("arguments", {})
    return f"{attack}: {', '.join(f'{words(name)} {value}' for name, value in arguments.items())}" if arguments else attack


def counted(row: dict, name: str, count: str) -> str:
    """A share of a row in per cent with its n."""
    return f"{measure(row, name, 1, 100)} ({number(row[count], 0)})"


def matrix_table(results: dict, attack: str) -> Table:
    """The heatmap as text."""
    names = [one["name"] for one in results["destinations"]]
    cells = {(row["source"], row["destination"]): row for row in results["rows"] if row["attack"] == attack}
    lines = [
        [
            words(row["source"]), counted(row, "success_rate", "num_clean_correct"),
            *(counted(cells[row["source"], name], "transfer_rate", "num_transferable") for name in names),
        ]
        for row in results["source_rows"] if row["attack"] == attack
    ]  # fmt: skip
    return f"{attack}: share that fools the destination, % (n)", ["made against", "own success", *map(words, names)], lines


def cell_table(results: dict) -> Table:
    """A line a cell, with intervals."""
    heads = ["attack", "source", "destination", "transfers %", "n", "fooled %, also without success", "n"]
    lines = [
        [
            row["attack"], words(row["source"]), words(row["destination"]), measure(row, "transfer_rate", 1, 100, True),
            number(row["num_transferable"], 0), measure(row, "fooled_rate", 1, 100, True), number(row["num_both_correct"], 0),
        ]
        for row in results["rows"]
    ]  # fmt: skip
    return "Transfer", heads, lines


def everywhere_table(results: dict) -> Table:
    """A line an attack and source: what fools all at once."""
    heads = ["attack", "source", "own success %", "n", "fools every network %", "n", "and every learner %", "n"]
    lines = [
        [row["attack"], words(row["source"])] + [
            text for name, count in (("success", "num_clean_correct"), ("every_network", "num_every_network"),
                                     ("every_destination", "num_every_destination"))
            for text in (measure(row, f"{name}_rate", 1, 100, True), number(row[count], 0))
        ]
        for row in results["source_rows"]
    ]  # fmt: skip
    return "One image, many networks", heads, lines


def accuracy_table(results: dict) -> Table:
    """A line a destination."""
    lines = [
        [words(one["name"]), one["kind"], measure(one, "accuracy", 2, 100), number(one["num_images"], 0)]
        for one in results["destinations"]
    ]
    return "Clean images", ["destination", "kind", "accuracy %", "n"], lines


def destruction_table(results: dict) -> Table:
    """A line an attack, source, network that sees its images, transformation and strength, with intervals."""
    heads = [
        "attack",
        "source",
        "seen by",
        "transformation",
        "strength",
        "destroyed %",
        "n",
        "of readable %",
        "n",
        "clean kept %",
    ]
    lines = [
        [
            row["attack"], words(row["source"]), words(row["destination"]), words(row["transformation"]),
            f"{row['strength']:g}", measure(row, "destruction_rate", 1, 100, True), number(row["num_adversarial"], 0),
            measure(row, "readable_rate", 1, 100, True), number(row["num_readable"], 0),
            measure(row, "clean_kept", 1, 100),
        ]
        for row in results["destruction_rows"]
    ]  # fmt: skip
    return "Destruction rates", heads, lines


def destruction_summary(results: dict) -> Table:
    """A line an attack, transformation and strength: over the sources, on the source itself and on its siblings."""
    fields, rows, lines = ("attack", "transformation", "strength"), results["destruction_rows"], []
    for key in ordered(rows, *fields):
        chosen = [row for row in rows if tuple(row[field] for field in fields) == key]
        line = [key[0], words(key[1]), f"{key[2]:g}"]
        for own in (True, False):
            of = [row for row in chosen if (row["source"] == row["destination"]) == own]
            line += [spread(of, "destruction_rate"), spread(of, "readable_rate")]
        lines.append([*line, spread(chosen, "clean_kept")])
    heads = [*fields, "destroyed %", "of readable %", "on another seed %", "of readable %", "clean kept %"]
    return "Destruction rates, medians over sources (least to greatest)", heads, lines


def spread(rows: list[dict], name: str) -> str:
    """Median, least and greatest of a share over rows, in per cent."""
    values = [row[name] for row in rows if row[name] is not None]
    if not values:
        return "–"
    low, middle, high = (percent(value) for value in (min(values), float(np.median(values)), max(values)))
    return middle if low == high else f"{middle} ({low} to {high})"


def sentences(results: dict) -> list[str]:
    """What the numbers say."""
    kinds, found = {one["name"]: one["kind"] for one in results["destinations"]}, []
    for attack in ordered(results["rows"], "attack"):
        cells = [row for row in results["rows"] if row["attack"] == attack and row["source"] != row["destination"]]
        said = [
            f"{whom} in {spread(of, 'transfer_rate')} % of the cases, {sized(row['num_transferable'] for row in of)}"
            for kind, whom in (("network", "another network"), ("learner", "a learner of another technique"))
            if (of := [row for row in cells if kinds[row["destination"]] == kind])
        ]
        if said:
            found.append(
                f"{attack}: an image that fools the network it was made against fools {', '.join(said)} (median over the cells, "
                "least to greatest)."
            )
        own = [row for row in results["destruction_rows"] if row["attack"] == attack and row["source"] == row["destination"]]
        parts = []
        for transformation in ordered(own, "transformation"):
            of = [row for row in own if row["transformation"] == transformation]
            ends = dict.fromkeys((of[0]["strength"], of[-1]["strength"]))
            shares = [f"{middle([row for row in of if row['strength'] == end])} % at {end:g}" for end in ends]
            parts.append(f"{words(transformation)} ({UNITS.get(transformation, 'strength')}) {' and '.join(shares)}")
        if parts:
            images = sized(row["num_adversarial"] for row in own)
            found.append(f"{attack}: of its images, {images}, are destroyed by {'; by '.join(parts)} (medians over the sources).")
    return found


def middle(rows: list[dict]) -> str:
    """Median destruction rate in per cent."""
    values = [row["destruction_rate"] for row in rows if row["destruction_rate"] is not None]
    return percent(float(np.median(values))) if values else "–"
