"""One self-contained page: everything a run measured, to be shown as it is."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np

from mgan_jax.report import curves, figures, pictures
from mgan_jax.report.material import Material
from mgan_jax.report.over_seeds import over_seeds
from mgan_jax.report.results import plain
from mgan_jax.report.sanity import CAPTION, TEXT, checked_table
from mgan_jax.report.sizes import between, sized
from mgan_jax.report.tables import (
    answers,
    label,
    measure,
    number,
    percent,
    protocol_rows,
    slides_table,
    tables,
    threat_table,
    verdict,
)

ATTACKS_A_GRID = 5
TITLES = {
    "mgan": "MGAN",
    "advgan": "AdvGAN",
    "advgan_margin": "AdvGAN margin",
    "pgd": "PGD",
    "pgd_mutants": "PGD mutants",
}


def embedded(figure: Any, kind: str = "svg") -> str:
    """A figure as the source of an image: SVG for lines and text, PNG for grids of images; the same bytes every time."""
    import matplotlib

    buffer = io.BytesIO()
    with matplotlib.rc_context({"svg.hashsalt": "mgan_jax"}):
        if kind == "svg":
            figure.savefig(buffer, format="svg", metadata={"Date": None})
        else:
            figure.savefig(buffer, format="png", dpi=120)
    encoding = "image/svg+xml" if kind == "svg" else "image/png"
    return f"data:{encoding};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def templates() -> Any:
    """The package's own templates."""
    import jinja2

    loader = jinja2.PackageLoader("mgan_jax", "report")
    return jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)


def sizes(rows: list[dict]) -> dict[str, str]:
    """`M` and `N` of the rows that have mutants, for a caption, and the operators where none qualified."""
    kept = [row for row in rows if row.get("num_mutants")]
    empty = dict.fromkeys(row["operator"] for row in rows if not row.get("num_mutants"))
    return {
        "M": between([row["num_mutants"] for row in kept]),
        "N": between([row.get("num_adversarial") for row in kept]),
        "sized": sized([row.get("num_adversarial") for row in kept], "N"),
        "empty": ", ".join(empty),
    }


def cards(results: dict) -> list[dict[str, Any]]:
    """The headline: for each of three measures MGAN, AdvGAN and the controls, each with its size."""
    found = answers(results)
    order = [name for name in TITLES if name in found] + [name for name in found if name not in TITLES]
    lines: list[list[dict]] = [[], [], []]
    for name in order:
        one, entry = found[name], {"attack": name, "title": TITLES.get(name, name)}
        rates = list(one["misclassified"].values())
        reach = f"{percent(min(rates))} to {percent(max(rates))}" if len(set(rates)) > 1 else ""
        value = percent(float(np.median(rates))) if reach else measure(one["row"], "misclassification", 1, 100)
        beside = f"success {measure(one['row'], 'success_rate', 1, 100)} %"
        lines[0].append({**entry, "value": f"{value} %", "reach": "; ".join(filter(None, (reach, beside)))})
        for place, values in ((1, one["ratios"]), (2, one["areas"])):
            middle = number(float(np.median(list(values.values()))) if values else None)
            reach = f"{min(values.values()):.2f} to {max(values.values()):.2f}" if len(values) > 1 else ""
            lines[place].append({**entry, "value": middle, "reach": reach})
    images = sized([one["row"].get("num_images") for one in found.values()])
    clean = next((row for row in results["rows"] if row["attack"] == "clean"), {})
    by_protocol = protocol_rows(results)
    notes = [f"of {images} test images are misclassified, clean {measure(clean, 'misclassification', 1, 100)} %; success is over "
             "those that are read correctly when clean"]  # fmt: skip
    for protocol, text in (("unfiltered", "1 cannot be told from normal"), ("qualified", "0.5 is chance")):
        size = sizes(by_protocol.get(protocol, []))
        notes.append(f"median and range over the operators, {protocol} mutants, M = {size['M']}, {size['sized']}; {text}")
    heads = ("Fools the target", "LCR over normal LCR", "AUROC of detection by LCR")
    return [{"head": h, "lines": li, "note": n} for h, li, n in zip(heads, lines, notes, strict=True)] if order else []


def protocol_plots(results: dict, material: Material) -> list[dict[str, Any]]:
    """For each protocol: its title, sizes, table, histograms and ROC curves."""
    by_protocol, found = protocol_rows(results), []
    for (protocol, rows), table in zip(by_protocol.items(), tables(results, full=True)[1:], strict=True):
        lcr = {name: rates for name, rates in material.lcr.items() if name.split()[1:2] == [protocol]}
        drawn = bool(figures.known(lcr))
        areas: dict[str, dict] = {}
        for row in rows:
            areas.setdefault(row["operator"], {})[label(row)] = row.get("auroc")
        found.append({
            "name": protocol, "table": table, **sizes(rows),
            "histograms": embedded(figures.lcr_histograms(lcr)) if drawn else None,
            "roc": embedded(figures.roc_curves(lcr, areas)) if drawn else None,
        })  # fmt: skip
    return found


def render(results: dict, material: Material) -> str:
    """The page as text."""
    results = plain(results)
    first: dict[str, dict] = {}
    for row in results["rows"]:
        if row.get("label_histogram") is not None and row["attack"] != "clean":
            first.setdefault(label(row), {**row, "name": label(row)})
    attacks = list(material.adversarial)
    groups = [attacks[i : i + ATTACKS_A_GRID] for i in range(0, len(attacks), ATTACKS_A_GRID)]
    by_protocol = {name: rows for name, rows in protocol_rows(results).items() if any(row.get("lcr_ratio") for row in rows)}
    titles = {f"{name} mutants, rate {rows[0]['rate']:g}": rows for name, rows in by_protocol.items()}
    plots = {
        "ratios": embedded(figures.operator_ratios(titles)) if titles else None,
        "epsilon": embedded(curves.epsilon_curves(material.epsilon_rows)) if material.epsilon_rows else None,
        "training": embedded(curves.training_curves(material.history)) if any(material.history.values()) else None,
        "labels": embedded(curves.label_histograms(list(first.values()), material.class_names)) if first else None,
        "gallery": embedded(pictures.prediction_gallery(material), "png"),
    }
    template = templates().get_template("page.html")
    deviation = results["target"].get("test_accuracy_std")
    return template.render(
        results=results,
        config=json.dumps(results["config"], indent=2),
        seeds=results.get("seeds") or [results.get("seed")],
        accuracy=percent(results["target"]["test_accuracy"], 2) + (f"±{percent(deviation, 2)}" if deviation is not None else ""),
        num_images=number(results["target"]["num_images"], 0),
        cards=cards(results),
        verdict=[*results.get("notes", ()), *verdict(results)],
        slides=[table for table in (slides_table(results, name) for name in protocol_rows(results)) if table[2]]
        + over_seeds(results),
        attacks=tables(results)[0],
        threats=threat_table(results),
        grids=[(", ".join(group), embedded(pictures.attack_grid(material, group), "png")) for group in groups],
        plots=plots,
        protocols=protocol_plots(results, material),
        epsilon_sizes={name: between([row.get(name) for row in material.epsilon_rows]) for name in ("num_mutants", "num_images")},
        channels=material.clean_images.shape[-1],
        shown=number(len(material.labels), 0),
        threat_model=material.threat_model,
        sanity=(*checked_table("Sanity", results["sanity"]), TEXT, CAPTION) if results.get("sanity") else (None,),
    )


def write_report(path: Path, results: dict, material: Material) -> None:
    """Writes report.html in whole or not at all; it refers to nothing outside itself.

    Args:
      path: of the page.
      results: as in `report.results`.
      material: what its pictures are made of; with several seeds, of the first.
    """
    from mgan_jax.workdir import write

    write(Path(path), render(results, material).encode())
