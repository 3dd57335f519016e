"""A page of sections, each of tables and figures: the form that all experiments but the main one share."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from mgan_jax.report.page import embedded, templates
from mgan_jax.report.sanity import CAPTION, TEXT, checked_table
from mgan_jax.report.tables import Table, measure, number


class Block(NamedTuple):
    """A table or a figure of a section, with its caption.

    Attributes:
      caption: what it shows, and of how many.
      table: (title, heads, lines); None for a figure.
      source: of a figure, as `embedded` gives it; alt: its short name.
      heading: above it.
      folded: where given, the table is shown only when this line is clicked.
      text_columns: leading columns that hold text; marked: lines shown in red.
    """

    caption: str
    table: Table | None = None
    source: str | None = None
    alt: str = ""
    heading: str | None = None
    folded: str | None = None
    text_columns: int = 1
    marked: tuple[int, ...] = ()


class Section(NamedTuple):
    """A heading, a paragraph and blocks."""

    title: str
    text: str
    blocks: list[Block]


def drawn(figure: Any, alt: str, caption: str, heading: str | None = None, kind: str = "svg") -> Block:
    """A Matplotlib figure as a block; `kind` "png" for grids of images."""
    return Block(caption, source=embedded(figure, kind), alt=alt, heading=heading)


def target_line(results: dict) -> str:
    """The target, its accuracy and how many images that is of."""
    target = results["target"]
    accuracy = measure(target, "test_accuracy", 2, 100)
    return f"target {target['name']}, {accuracy} % correct of n = {number(target['num_images'], 0)}"


def seeds_line(results: dict) -> str:
    """The seed, or the seeds and what is made of them."""
    if "seeds" not in results:
        return f"seed {results['seed']}"
    return f"seeds {', '.join(map(str, results['seeds']))}: mean ± sample standard deviation"


def uncertainty(results: dict) -> tuple[str, str]:
    """What tables give beside shares, as a caption and in a word: intervals of one seed, deviations of several."""
    if "seeds" in results:
        return "Sample standard deviations over the seeds.", "deviation"
    return "95 % intervals of Wilson.", "interval"


def sanity_section(results: dict) -> list[Section]:
    """The section of what must hold, where results have such lines."""
    if not results.get("sanity"):
        return []
    table, broken = checked_table("Sanity", results["sanity"])
    return [Section("Sanity", TEXT, [Block(CAPTION, table, marked=broken)])]


def write_document(
    path: Path, results: dict, title: str, lead: str, says: list[str], sections: list[Section], about: str | None = None
) -> None:
    """Writes a page in whole or not at all; it refers to nothing outside itself.

    Args:
      path: of the page.
      results: with config, seed or seeds, versions, device and seconds, and a target where nothing is said of `about`; their
        lines of `sanity`, where there are some, are the last section.
      title, lead: heading, and what the page is about.
      says: what the numbers say, in sentences.
      sections: its parts; those without blocks are left out.
      about: which networks were measured; where None, the target.
    """
    from mgan_jax.workdir import write

    seeds = results.get("seeds", [])
    of = {"seeds": ", ".join(map(str, seeds))} if seeds else {"seed": results["seed"]}
    common = {**of, "device": results["device"], "time": f"{results['seconds']:.0f} s", **results["versions"]}
    pictures = f"; pictures, and curves over single images, are of seed {seeds[0]}" if seeds else ""
    text = (
        templates()
        .get_template("document.html")
        .render(
            title=title,
            lead=lead,
            facts=[
                about or target_line(results),
                seeds_line(results) + pictures,
                results["device"],
                f"{results['seconds']:.0f} s",
            ],
            says=[*results.get("notes", ()), *says],
            sections=[section for section in [*sections, *sanity_section(results)] if section.blocks],
            again=common,
            beside="results.json (all rows)",
            config=json.dumps(results["config"], indent=2),
        )
    )
    write(Path(path), text.encode())
