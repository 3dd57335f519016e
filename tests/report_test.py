"""The report: stable results, joined seeds, a page that stands alone."""

import numpy as np
import pytest

from mgan_jax.report import results as report_results
from mgan_jax.report.material import AttackMaterial, Material
from mgan_jax.report.page import write_report
from mgan_jax.report.terminal import progress, tables


def row(seed=0, **more):
    base = {
        "attack": "mgan", "trained_on": "all", "seed": seed, "epsilon": 0.3, "norm": "linf", "targeted": False,
        "num_images": 4, "misclassification": 0.75, "num_clean_correct": 4, "success_rate": 0.75, "num_adversarial": 3,
        "linf": 0.3, "l2": 1.0, "l0": 9.0, "label_histogram": [2, 1], "label_entropy": 0.92, "operator": "GF",
        "protocol": "unfiltered", "rate": 0.1, "min_accuracy_ratio": 0.0, "num_mutants": 5, "tried": 5, "distinct": 5,
        "lcr": 0.2, "lcr_ci99": (0.1, 0.3), "normal_lcr": 0.1, "lcr_ratio": 2.0, "class_matched_normal_lcr": 0.1,
        "auroc": 0.6, "tpr_at_5fpr": 0.1, "tpr_at_5fpr_low": 0.0,
    }  # fmt: skip
    return {**base, **more}


def example(seed=0, **more):
    return {
        "config": {"note": "<script>alert(1)</script>"}, "seed": seed, "versions": {"jax": "0"}, "device": "1 x cpu",
        "seconds": 1.0, "target": {"name": "cnn", "test_accuracy": 0.9 + seed / 100, "num_images": 4},
        "rows": [row(seed, **more)], "epsilon_rows": [],
    }  # fmt: skip


def test_results_round_trip_and_what_is_not_finite_becomes_null(tmp_path):
    path = tmp_path / "results.json"
    report_results.write_results(path, {"rows": [{"lcr": np.float32("nan"), "n": np.int64(3), "h": np.arange(2)}]})
    assert report_results.read_results(path) == {"rows": [{"lcr": None, "n": 3, "h": [0, 1]}]}
    path.write_text("{")
    with pytest.raises(ValueError, match="no results file"):
        report_results.read_results(path)


def test_a_failing_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "results.json"
    report_results.write_results(path, {"rows": []})
    with pytest.raises(TypeError):
        report_results.write_results(path, {"rows": [object()]})
    assert report_results.read_results(path) == {"rows": []}


def test_seeds_are_joined_to_mean_and_sample_deviation():
    joined = report_results.mean_and_spread([example(0, lcr=0.2), example(1, lcr=0.4), example(2, lcr=None)])
    assert joined["seeds"] == [0, 1, 2]
    assert joined["target"]["test_accuracy"] == pytest.approx(0.91)
    assert joined["target"]["test_accuracy_std"] == pytest.approx(0.01)
    (one,) = joined["rows"]
    assert one["lcr"] == pytest.approx(0.3) and one["lcr_std"] == pytest.approx(0.2 / np.sqrt(2))
    assert "lcr_ci99" not in one and "seed" not in one and one["label_histogram"] == [6, 3]


@pytest.mark.parametrize("channels", [1, 3])
def test_the_page_stands_alone_escapes_and_holds_the_numbers(tmp_path, channels):
    images = np.random.default_rng(0).random((4, 8, 8, channels)).astype(np.float32)
    made = AttackMaterial(images, np.full((4, 2), 0.5), np.array([True, True, True, False]))
    lcr = {"GF unfiltered 0.1": {"normal": np.array([0.0, 0.2]), "mgan": np.array([0.2, 0.4])}}
    history = {"target": {"loss": np.ones(7)}}
    material = Material(
        images, np.array([0, 1, 0, 1]), np.eye(2)[[0, 1, 1, 1]], ("a", "b"), {"mgan": made}, lcr, [], history, ["x"]
    )
    write_report(tmp_path / "report.html", example(), material)
    page = (tmp_path / "report.html").read_text()
    assert "http://" not in page and "https://" not in page
    assert "<script>" not in page and "&lt;script&gt;" in page
    assert "75.00" in page and "20.00" in page


def test_no_progress_means_no_output(capsys):
    with progress(False) as start:
        start("x", 3, "steps")(1, loss=2.0)
    assert capsys.readouterr().out == ""


def test_missing_numbers_are_dashes():
    result = example(lcr=None, auroc=None, normal_lcr=None, lcr_ratio=None, tpr_at_5fpr=None)
    assert "–" in tables(result)[1][2][0]
