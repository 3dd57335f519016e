"""One self-contained page: everything a run measured, to be shown as it is."""

import base64
import io
import json
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from mgan_jax.report import figures, pictures
from mgan_jax.report.material import Material
from mgan_jax.report.results import plain
from mgan_jax.report.terminal import label, number, percent, slides_table, tables, verdict
from mgan_jax.workdir import write


def embedded(figure: Any) -> str:
    """A figure as the source of an image, PNG at twice the screen's resolution."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def headline(results: dict) -> dict[str, str]:
    """The answer in numbers: medians over the operators of MGAN's and AdvGAN's rows."""
    answer = {}
    for attack in ("mgan", "advgan"):
        rows = [row for row in results["rows"] if row["attack"] == attack and row.get("lcr") is not None]
        if not rows:
            continue
        ratios = [r["lcr_ratio"] for r in rows if r.get("lcr_ratio") is not None and r["protocol"] == "unfiltered"]
        areas = [r["auroc"] for r in rows if r["protocol"] == "qualified"]
        answer[attack] = {
            "misclassification": percent(rows[0]["misclassification"], 1),
            "num_images": f"{rows[0]['num_images']:.0f}",
            "ratio": number(float(np.median(ratios)) if ratios else None),
            "auroc": number(float(np.median(areas)) if areas else None),
            "mutants": f"{max(row['num_mutants'] for row in rows):.0f}",
        }
    return answer


def write_report(path: Path, results: dict, material: Material) -> None:
    """Writes report.html in whole or not at all; it refers to nothing outside itself.

    Args:
      path: of the page.
      results: as in `report.results`.
      material: what its pictures are made of.
    """
    first = {}
    for row in results["rows"]:
        if row.get("label_histogram") is not None:
            first.setdefault(label(row), {**row, "name": label(row)})
    shown = [("grid of " + name, pictures.attack_grid(material, name), name) for name in material.adversarial]
    plots = {
        "histograms": figures.lcr_histograms(material.lcr) if any("normal" in r for r in material.lcr.values()) else None,
        "roc": figures.roc_curves(material.lcr) if any("normal" in r for r in material.lcr.values()) else None,
        "epsilon": figures.epsilon_curves(material.epsilon_rows) if material.epsilon_rows else None,
        "training": figures.training_curves(material.history) if material.history else None,
        "labels": figures.label_histograms(list(first.values()), material.class_names) if first else None,
        "gallery": pictures.prediction_gallery(material),
    }
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(resources.files("mgan_jax.report").joinpath("page.html").read_text())
    page = template.render(
        results=results,
        config=json.dumps(plain(results["config"]), indent=2),
        headline=headline(results),
        verdict=verdict(results),
        accuracy=percent(results["target"]["test_accuracy"], 2),
        slides=slides_table(results),
        tables=tables(results),
        grids=[(name, embedded(figure)) for _, figure, name in shown],
        plots={name: embedded(figure) for name, figure in plots.items() if figure is not None},
        threat_model=material.threat_model,
    )
    write(path, page.encode())
