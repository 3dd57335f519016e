"""results.json: what is written is read again, and seeds are joined as by hand."""

import os

import numpy as np
import pytest

from mgan_jax.report import results as report_results


def one(seed, **measures):
    row = {"attack": "mgan", "trained_on": "all", "operator": "GF", "rate": 0.1, "epsilon": 0.3, "seed": seed, **measures}
    target = {"name": "cnn", "test_accuracy": 0.9, "num_images": 4}
    return {"config": {}, "seed": seed, "versions": {}, "device": "cpu", "seconds": 2.0, "target": target, "rows": [row]}


def test_names_are_sorted_and_numpy_and_what_is_not_finite_become_plain(tmp_path):
    path = tmp_path / "new" / "results.json"
    row = {"lcr": np.float32("nan"), "auroc": float("inf"), "n": np.int64(3), "h": np.arange(2), "ok": np.bool_(True)}
    report_results.write_results(path, {"rows": [row], "config": {"b": 1, "a": (1, 2)}})
    read = report_results.read_results(path)
    assert read == {
        "rows": [{"lcr": None, "auroc": None, "n": 3, "h": [0, 1], "ok": True}], "config": {"b": 1, "a": [1, 2]}
    }  # fmt: skip
    assert list(read) == ["config", "rows"] and list(read["config"]) == ["a", "b"]
    before = path.read_bytes()
    report_results.write_results(path, read)
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"{", b"[]", b"{}", b"\xff\xfe\x00", b""])
def test_a_corrupt_file_is_one_line(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="no results file") as caught:
        report_results.read_results(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_a_failure_while_replacing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.json"
    report_results.write_results(path, {"rows": []})

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        report_results.write_results(path, {"rows": [{"attack": "mgan"}]})
    assert report_results.read_results(path) == {"rows": []}


def test_means_and_sample_deviations_by_hand():
    joined = report_results.mean_and_spread([
        one(0, lcr=0.1, lcr_ci99=[0, 1], auroc=0.5, judge=None, label_histogram=[1, 0]),
        one(1, lcr=0.2, lcr_ci99=[0, 1], auroc=None, judge=0.5, label_histogram=[0, 2]),
        one(2, lcr=0.6, lcr_ci99=[0, 1], auroc=0.7, judge=None, label_histogram=[1, 1]),
    ])  # fmt: skip
    (row,) = joined["rows"]
    assert row["lcr"] == pytest.approx(0.3)
    assert row["lcr_std"] == pytest.approx(((0.04 + 0.01 + 0.09) / 2) ** 0.5)
    assert row["auroc"] == pytest.approx(0.6) and row["auroc_n"] == 2 and "lcr_n" not in row
    assert row["judge"] == 0.5 and row["judge_n"] == 1 and "judge_std" not in row
    assert row["label_histogram"] == [2, 3] and row["attack"] == "mgan" and row["rate"] == 0.1
    assert not {"lcr_ci99", "seed"} & set(row)
    assert joined["seeds"] == [0, 1, 2] and "seed" not in joined and joined["seconds"] == 6


def test_rows_that_differ_in_any_identifying_field_stay_apart():
    names = {"trained_on": "GF", "operator": "WS", "rate": 0.05, "min_accuracy_ratio": 0.9, "epsilon": 0.1, "norm": "l2",
             "targeted": True, "variant": "x"}  # fmt: skip
    for name, value in names.items():
        first, second = one(0, lcr=0.1), one(0, lcr=0.3)
        second["rows"][0][name] = value
        both = {**first, "rows": first["rows"] + second["rows"]}
        joined = report_results.mean_and_spread([both, {**both, "seed": 1}])
        assert [row["lcr"] for row in joined["rows"]] == pytest.approx([0.1, 0.3]), name


def test_the_environment_names_versions():
    assert {"python", "jax", "flax", "optax", "numpy"} <= set(report_results.environment())


def test_no_results_cannot_be_joined():
    with pytest.raises(ValueError, match="no results"):
        report_results.mean_and_spread([])


def test_what_must_hold_must_hold_for_every_seed():
    seeds = [
        [{"claim": "a", "value": v, "holds": h}, {"claim": "b", "value": 0, "holds": None}] for v, h in ((1, True), (2, False))
    ]
    assert report_results.joined_sanity(seeds) == [
        {"claim": "a", "value": 2, "holds": False},
        {"claim": "b", "value": 0, "holds": None},
    ]
    assert report_results.joined_sanity([[], []]) == []
