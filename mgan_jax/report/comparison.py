"""The report of a comparison of attacks."""

from pathlib import Path
from typing import Any

import numpy as np

from mgan_jax.report import pictures
from mgan_jax.report.document import Block, Section, drawn, target_line, write_document
from mgan_jax.report.figures import INK, SPARE, legend_above, panels
from mgan_jax.report.material import Material
from mgan_jax.report.results import plain
from mgan_jax.report.sanity import checked_table
from mgan_jax.report.sizes import sized
from mgan_jax.report.tables import Table, measure, number, percent
from mgan_jax.report.terminal import print_table

ATTACKS_A_GRID = 5
LEAD = (
    "Every attack meets the same network and the same images, all of which the network classifies correctly. Bounded attacks are "
    "compared by success within the same norm, bound and knowledge; unbounded ones, which nearly always succeed, by distance."
)


def attack_rows(results: dict) -> list[dict]:
    """One row an attack: the first, which says all that needs no mutants."""
    first: dict[str, dict] = {}
    for row in results["rows"]:
        first.setdefault(row["attack"], row)
    return list(first.values())


def named(row: dict) -> str:
    """An attack's name, with what it aims at; of how many images, where they are not all."""
    of = f" (n = {number(row['num_images'], 0)})" if row["some_classes"] else ""
    aimed = row["targeted"] and not row["attack"].endswith("_targeted")
    return row["attack"] + (" (targeted)" if aimed else "") + of


def success_table(results: dict) -> Table:
    """A line an attack: success, distances and cost."""
    heads = ["attack", "knows", "norm", "epsilon", "success %", "8 bits %", "median L0", "L1", "L2", "L-inf", "SSIM", "used",
             "at 50 %", "at 90 %", "s per 1,000", "fit s", "compile s"]  # fmt: skip
    lines = [
        [
            named(row), row["knowledge"], row["norm"],
            "–" if row["epsilon"] is None else f"{row['epsilon']:g}", measure(row, "success_rate", 1, 100),
            measure(row, "success_rounded", 1, 100), measure(row, "median_l0", 0), measure(row, "median_l1", 1),
            measure(row, "median_l2", 2), measure(row, "median_linf", 3), measure(row, "ssim", 2), measure(row, "used", 0),
            measure(row, "used_50", 0), measure(row, "used_90", 0), measure(row, "seconds_per_1000", 1),
            measure(row, "fit_seconds", 1), measure(row, "compile_seconds", 1),
        ]
        for row in attack_rows(results)
    ]  # fmt: skip
    count = attack_rows(results)[0]["num_images"] if lines else 0
    return f"Attacks on {number(count, 0)} images", heads, lines


def mutation_table(results: dict) -> Table:
    """A line an attack, operator and protocol: what mutation testing sees."""
    heads = ["attack", "operator", "protocol", "M", "N", "LCR %", "normal %", "ratio", "AUROC", "TPR %", "SPRT %", "SPRT - FP"]
    lines = [
        [
            row["attack"], row["operator"], row["protocol"], number(row["num_mutants"], 0), number(row["num_adversarial"], 0),
            measure(row, "lcr", 2, 100), measure(row, "normal_lcr", 2, 100), measure(row, "lcr_ratio", 2),
            measure(row, "auroc", 2), measure(row, "tpr_at_5fpr", 1, 100), measure(row, "sprt_detection_rate", 1, 100),
            percent(row.get("sprt_excess")),
        ]
        for row in sorted((row for row in results["rows"] if row.get("operator")), key=lambda row: row["operator"])
    ]  # fmt: skip
    return "What mutation testing sees", heads, lines


EXTRAS = {
    "agreement": "substitute agrees with the target on {}% of these images, which the target gets right",
    "least_agreement": "learned on {num_substitutes:.0f} in place of the target, agreeing with it on at least {}%",
    "fit_queries": "{fit_queries:,.0f} labels asked for while learning, none while attacking",
    "fooling": "fooling rate {}% of n = {num_fooling:.0f}",
    "collateral": "{}% of n = {num_collateral:.0f} other classes' labels change too",
    "order_second": "of n = {order_num:.0f} flipped, the clean class comes second in {}%",
    "order_third": "the next one third in {}%",
    "order_kendall": "Kendall's tau of the other classes' order {}",
}
"""{measure: what is said of it}, where {} is the measure, of all but the last in per cent."""


def extras_table(results: dict) -> Table:
    """A line an attack that has more to say."""
    lines = []
    for row in attack_rows(results):
        shown = {name: measure(row, name, 1, 100) for name in EXTRAS} | {"order_kendall": measure(row, "order_kendall", 2)}
        said = [text.format(shown[name], **row) for name, text in EXTRAS.items() if row.get(name) is not None]
        lines += [[row["attack"], "; ".join(said)]] if said else []
    return "Of single attacks", ["attack", ""], lines


def worst_table(results: dict) -> Table:
    """A line a norm, epsilon and knowledge: the worst case over its attacks."""
    heads = ["norm", "epsilon", "knows", "attacks", "withstand %"]
    lines = [
        [row["norm"], f"{row['epsilon']:g}", row["knowledge"], ", ".join(row["attacks"]), measure(row, "withstand_rate", 1, 100)]
        for row in results["worst_cases"]
    ]
    return "Worst case", heads, lines


def curve_figure(rows: list[dict]) -> Any:
    """Robust accuracy against epsilon, a line an attack."""
    figure, (axis,) = panels(1, 1, 6.0, 3.2)
    for place, attack in enumerate(dict.fromkeys(row["attack"] for row in rows)):
        own = sorted((row for row in rows if row["attack"] == attack), key=lambda row: row["epsilon"])
        axis.plot([row["epsilon"] for row in own], [100 * row["robust_accuracy"] for row in own], marker="o", markersize=4,
                  linewidth=1.7, color=SPARE[place % len(SPARE)], label=attack)  # fmt: skip
    axis.set_xlabel("epsilon", fontsize=9, color=INK)
    axis.set_ylabel("robust accuracy, %", fontsize=9, color=INK)
    axis.set_ylim(-3, 103)
    legend_above(figure, [axis])
    return figure


def curve_blocks(rows: list[dict]) -> list[Block]:
    """The figure of epsilon with its caption; nothing without rows."""
    if not rows:
        return []
    of = f"n = {number(rows[0]['num_images'], 0)} images, all classified correctly when clean"
    caption = f"Test accuracy times the share that withstands of {of}."
    return [drawn(curve_figure(rows), "robust accuracy against epsilon", caption)]


def confidence_figure(rows: list[dict]) -> Any:
    """Label change rate, distance and success against the confidence that the attack asks for."""
    figure, axes = panels(3, 3, 3.4, 2.8)
    kappas = [row["kappa"] for row in rows]
    scaled = lambda name, by: [np.nan if row[name] is None else by * row[name] for row in rows]  # noqa: E731
    axes[0].plot(kappas, scaled("lcr", 100), marker="o", markersize=4, color=SPARE[1], label="adversarial")
    axes[0].plot(kappas, scaled("normal_lcr", 100), linestyle="--", color="#6b7280", label="the same images clean")
    axes[1].plot(kappas, scaled("l2", 1), marker="o", markersize=4, color=SPARE[1])
    axes[2].plot(kappas, scaled("reached_rate", 100), marker="o", markersize=4, color=SPARE[1], label="flipped by kappa")
    axes[2].plot(kappas, scaled("success_rate", 100), linestyle="--", color="#6b7280", label="flipped at all")
    axes[2].set_ylim(-3, 103)
    for axis, title in zip(axes, ("label change rate, %", "mean L2", "images, %"), strict=True):
        axis.set_title(title, fontsize=10, fontweight="bold", color=INK)
        axis.set_xlabel("confidence kappa", fontsize=9, color=INK)
    legend_above(figure, [axes[0], axes[2]])
    return figure


def confidence_blocks(rows: list[dict]) -> list[Block]:
    """The figure of confidence with its caption; nothing without rows."""
    if not rows:
        return []
    caption = (
        f"{rows[0]['attack']} asked for a lead of kappa over the true class's logit. Qualified mutants of mixed operators, M = "
        f"{number(rows[0]['num_mutants'], 0)}; of n = {number(rows[0]['num_images'], 0)} images those that it flips by that lead."
    )
    return [drawn(confidence_figure(rows), "label change rate against kappa", caption)]


def sentences(results: dict) -> list[str]:
    """What the numbers say."""
    found = []
    for row in results["worst_cases"]:
        if row["knowledge"] == "white box":
            share, number_of = measure(row, "withstand_rate", 1, 100), len(row["attacks"])
            bound = f"White box, {row['norm']} {row['epsilon']:g}"
            which = f"all {number_of} attacks" if number_of > 1 else row["attacks"][0]
            found.append(f"{bound}: {share} % of {sized([row['num_images']])} images withstand {which}.")
    broken = [one["claim"] for one in results["sanity"] if one["holds"] is False]
    checked = sum(one["holds"] is not None for one in results["sanity"])
    found.append(f"Does not hold: {'; '.join(broken)}." if broken else f"All {checked} sanity checks hold.")
    return found


def write_comparison(path: Path, results: dict, material: Material) -> None:
    """Writes the page; results as `experiments.attacks` makes them."""
    results = plain(results)
    names = list(material.adversarial)
    groups = [names[i : i + ATTACKS_A_GRID] for i in range(0, len(names), ATTACKS_A_GRID)]
    grids = [
        drawn(pictures.attack_grid(material, group), f"images under {', '.join(group)}",
              "Perturbation and adversarial image, one scale for the attacks of a picture; above each the network's answer and "
              "its confidence, red where the attack succeeds.", ", ".join(group), "png")
        for group in groups
    ]  # fmt: skip
    caption = (
        "Success: of these images, recomputed from the returned ones; 8 bits: after rounding to them. Distances: medians over "
        "successes; SSIM: mean over them. Used: gradients an image, for black-box attacks queries, for AutoAttack both; at 50 % "
        "(90 %): queries after which so many images are flipped. Times on the device above, compilation apart; generators are "
        "trained in a loop that resumes and is not timed. Attacks that learn do so on training images."
    )
    mutation, extras = mutation_table(results), extras_table(results)
    sections = [
        Section("Success, distance, cost", "", [
            Block(caption, success_table(results), text_columns=3),
            *([Block("Of these images, none of which was learned on.", extras, text_columns=2)] if extras[2] else []),
        ]),
        Section("Worst case", "An image withstands where every attack of the line fails; clean, all are classified correctly.",
                [Block("Untargeted attacks of one norm and knowledge, within the bound.", worst_table(results), text_columns=4)]
                if results["worst_cases"] else []),
        Section("What mutation testing sees", "", [
            Block("M mutants, N images flipped; normal: the same images clean. AUROC and TPR at 5 % false positives of the label "
                  "change rate as a score; SPRT: share the sequential test calls adversarial, and less its false positives.",
                  mutation, text_columns=3)
        ] if mutation[2] else []),
        Section("Against epsilon", "", curve_blocks(results["curve_rows"])),
        Section("Confidence against mutation testing", "", confidence_blocks(results["confidence_rows"])),
        Section("Images", "", grids),
    ]  # fmt: skip
    write_document(path, results, "Attacks compared", LEAD, sentences(results), sections)


def print_comparison(results: dict) -> None:
    """Prints the tables."""
    print(target_line(results))
    for table in (
        success_table(results),
        extras_table(results),
        worst_table(results),
        mutation_table(results),
        checked_table("Sanity", results["sanity"])[0],
    ):
        if table[2]:
            print_table(table)
    print()
    for sentence in sentences(plain(results)):
        print(sentence)
