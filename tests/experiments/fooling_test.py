"""The experiment of fooling images on tiny settings, and its arithmetic."""

import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from mgan_jax.datasets.digits import digits
from mgan_jax.experiments import fooling
from mgan_jax.experiments.options import Options
from mgan_jax.report.fooling import largest, write_fooling

CONFIG = Path(__file__).parent.parent.parent / "configs" / "fooling.py"


@pytest.fixture
def config():
    config = runpy.run_path(CONFIG)["get_config"]("smoke")
    del config.networks.lenet
    config.target.epochs = 5
    config.iterated.arguments.num_steps = 20
    config.iterated.arguments.step_size = 0.1
    config.quadratic.distance_weights = (0.5, 0.01)
    return config


def test_the_experiment_runs_and_its_rows_agree_with_one_another(config, tmp_path, capsys, several_seeds, unsized):
    results = fooling.run(config, Options(tmp_path / "run"))[0]
    assert not unsized(results)
    assert results["rows"] == json.loads((tmp_path / "run" / "results.json").read_text())["rows"]
    assert len(results["rows"]) == 4 * 10 and sum(row["hardest"] for row in results["rows"]) == 4
    shares = {form: [row["share"] for row in results["rows"] if (row["form"], row["confidence"]) == form]
              for form in (("no step", 0.5), ("one step", 0.5), ("iterated", 0.5), ("iterated", 0.99))}  # fmt: skip
    assert sum(shares["no step", 0.5]) <= sum(shares["one step", 0.5])
    assert sum(shares["iterated", 0.5]) >= sum(shares["iterated", 0.99])
    assert min(shares["iterated", 0.5]) > 0.5
    pictures = [row for row in results["quadratic_rows"] if not row["noise"]]
    assert len(pictures) == 4 * 2 and len(results["quadratic_rows"]) == 9
    for goal in (2, 3, 6, 8):
        near, far = (next(r for r in pictures if (r["goal"], r["distance_weight"]) == (goal, w)) for w in (0.5, 0.01))
        assert near["l2"] < far["l2"] and near["confidence"] < far["confidence"]
        assert near["l2"] < 2**0.5, "beyond it nothing pays at lambda .5"
    assert "lambda" in (tmp_path / "run" / "report.html").read_text()
    again = fooling.run(config, Options(tmp_path / "run"))[0]
    assert again["rows"] == results["rows"] and "hardest" in capsys.readouterr().out
    images = np.zeros((10, 8, 8, 1), np.float32)
    shown = fooling.Pictured({"mlp": images}, images[0], images[:8].reshape(4, 2, 8, 8, 1), images[0], results["quadratic_rows"])
    page = several_seeds(write_fooling, results, shown, tuple("0123456789"))
    assert "0.96 reached by every seed" in page


def test_the_largest_lambda_that_reaches_the_confidence():
    row = {"noise": False, "goal": 2, "confidence": 0.97, "l2": 1.0}
    rows = [
        {**row, "distance_weight": weight, "reached": reached} for weight, reached in ((0.1, False), (0.05, True), (0.01, True))
    ]
    rows += [{**row, "goal": 3, "distance_weight": 0.1, "reached": False}, {**row, "noise": True}]
    best = largest({"quadratic_rows": rows})
    assert best[2]["distance_weight"] == 0.05 and best[3] is None


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [("network", "cnn", "'cnn'"), ("picture", 10, "10"), ("goals", (2, 4), "no goal the"), ("num_starts", 0, "num_starts 0")],
)
def test_mistakes_are_found_before_anything_runs(config, field, value, said):
    config.quadratic[field] = value
    with pytest.raises(ValueError, match=said):
        fooling.check(config, digits(0))
