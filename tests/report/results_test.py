"""results.json: what is written is read again, and seeds are joined as by hand."""

import os

import numpy as np
import pytest

from mgan_jax.report import results as report_results
from mgan_jax.report.fooling import hardest


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
    assert row["lcr_range"] == [0.1, 0.6] and row["auroc_range"] == [0.5, 0.7] and "judge_range" not in row
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


def joined(*seeds):
    """Results of which only these lists are of interest, joined."""
    common = {"config": {}, "versions": {}, "device": "cpu", "seconds": 1.0, "rows": []}
    return report_results.mean_and_spread([{**common, "seed": seed, **lists} for seed, lists in enumerate(seeds)])


def test_worst_cases_are_joined_within_their_bound_and_by_whether_the_attacker_knows():
    case = {"norm": "linf", "epsilon": 0.3, "attacks": ["fgsm", "pgd"], "robust_accuracy_ci95": [0.0, 1.0]}
    seeds = [
        {"worst_cases": [{**case, "aware": aware, "robust_accuracy": share, "num_images": count} for aware, share in shares]}
        for count, shares in ((40, ((False, 0.5), (True, 0.1))), (43, ((False, 0.7), (True, 0.4))))
    ]
    unaware, aware = joined(*seeds)["worst_cases"]
    assert unaware["robust_accuracy"] == pytest.approx(0.6) and aware["robust_accuracy"] == pytest.approx(0.25)
    assert aware["robust_accuracy_std"] == pytest.approx(0.3 / 2**0.5) and aware["num_images"] == 41.5
    assert (unaware["aware"], aware["aware"], aware["norm"], aware["epsilon"]) == (False, True, "linf", 0.3)
    assert aware["attacks"] == ["fgsm", "pgd"] and "robust_accuracy_ci95" not in aware


def test_numbers_by_name_are_means_by_name():
    row = {"detector": "joint", "norm": "linf", "epsilon": 0.3, "undetected_rate": 0.5}
    seeds = [{"adaptive_rows": [{**row, "others": others}]} for others in ({"sprt": 0.2, "a": None}, {"sprt": 0.4, "a": 0.5})]
    (found,) = joined(*seeds)["adaptive_rows"]
    assert found["others"] == pytest.approx({"sprt": 0.3, "a": 0.5})
    assert found["others_std"]["sprt"] == pytest.approx(0.2 / 2**0.5) and found["others_std"]["a"] is None
    (alone,) = joined(*[{"adaptive_rows": [{**row, "others": {}}]}] * 2)["adaptive_rows"]
    assert alone["others"] == {} and alone["undetected_rate_std"] == 0


def test_a_checklist_holds_where_it_holds_for_every_seed():
    lines = lambda value, holds: {"none": [], "squeezing": [{"claim": "a", "value": value, "holds": holds}]}  # noqa: E731
    found = joined({"checklists": lines(1, True)}, {"checklists": lines(2, False)}, {"checklists": lines(3, True)})
    assert found["checklists"] == {"none": [], "squeezing": [{"claim": "a", "value": 2, "holds": False}]}


def test_curves_are_joined_point_by_point():
    pairs = [(0.1, 10), (0.1, 40), (0.3, 40)]
    seeds = [
        {
            "curve_rows": [
                {"defense": "none", "attack": "pgd", "epsilon": epsilon, "num_steps": steps, "robust_accuracy": at + 0.2 * seed}
                for at, (epsilon, steps) in enumerate(pairs)
            ],
            "confidence_rows": [{"attack": "cw", "kappa": kappa, "lcr": kappa + seed} for kappa in (0.0, 5.0)][: 2 - seed],
            "destruction_rows": [
                {"transformation": name, "strength": strength, "destruction_rate": 0.5 * seed}
                for name, strength in (("blur", 0.5), ("blur", 1.0), ("rounding", 1.0))
            ],
        }
        for seed in (0, 1)
    ]
    found = joined(*seeds)
    assert [(row["epsilon"], row["num_steps"]) for row in found["curve_rows"]] == pairs
    assert [row["robust_accuracy"] for row in found["curve_rows"]] == pytest.approx([0.1, 1.1, 2.1])
    first, second = found["confidence_rows"]
    assert (first["kappa"], first["lcr"], second["kappa"], second["lcr"]) == (0.0, 0.5, 5.0, 5.0)
    assert second["lcr_n"] == 1 and "lcr_n" not in first and "lcr_std" not in second, "the second seed has no such row"
    assert len(found["destruction_rows"]) == 3 and found["destruction_rows"][2]["destruction_rate"] == 0.25


def test_what_is_given_in_one_list_is_measured_in_another():
    tested = [{"rows": [{"attack": "mgan", "operator": "GF", "kappa": kappa}]} for kappa in (0.1, 0.3)]
    (row,) = joined(*tested)["rows"]
    assert row["kappa"] == pytest.approx(0.2), "of a sequential test it is what the normal images say"


def test_images_that_mislead_are_joined_by_what_was_asked_for():
    def seed(shares, sure, reached):
        noise = [
            {"network": "mlp", "form": "iterated", "confidence": confidence, "class": label, "share": share,
             "hardest": share == min(shares)}
            for confidence in (0.5, 0.99) for label, share in enumerate(shares)
        ]  # fmt: skip
        picture = {"goal": 3, "distance_weight": 0.1, "confidence": sure, "reached": reached, "noise": False, "l2": 1.0}
        return {
            "rows": noise,
            "quadratic_rows": [picture, {**picture, "distance_weight": 0.0, "noise": True, "reached": True}],
            "networks": [{"name": "mlp", "accuracy": sure}],
        }

    found = joined(seed((0.1, 0.2), 0.9, False), seed((0.7, 0.4), 1.0, True))
    assert [(row["confidence"], row["class"], row["hardest"]) for row in found["rows"]] == [
        (0.5, 0, False), (0.5, 1, False), (0.99, 0, False), (0.99, 1, False)
    ]  # fmt: skip
    assert [row["share"] for row in found["rows"]] == pytest.approx([0.4, 0.3] * 2)
    assert hardest(found["rows"][:2])["class"] == 1, "the smallest mean share"
    picture, noise = found["quadratic_rows"]
    assert picture["confidence"] == pytest.approx(0.95) and picture["distance_weight"] == 0.1 and picture["goal"] == 3
    assert picture["reached"] is False and noise["reached"] is True, "reached is what every seed reaches"
    assert found["networks"] == [
        {
            "name": "mlp",
            "accuracy": pytest.approx(0.95),
            "accuracy_std": pytest.approx(0.1 / 2**0.5),
            "accuracy_range": [0.9, 1.0],
        }
    ]


def test_rows_within_a_row_are_joined_and_what_belongs_to_pictures_is_the_first_seeds():
    rows = [
        {"network": "linear", "changes": [{"layer": "image", "attack_change": change}, {"layer": "output", "attack_change": 1}],
         "fooling": {"noise": {"confidences": [change, 0.9]}}}
        for change in (0.2, 0.4)
    ]  # fmt: skip
    (found,) = joined(*({"rows": [row]} for row in rows))["rows"]
    image, output = found["changes"]
    assert image["layer"] == "image" and image["attack_change"] == pytest.approx(0.3) and output["attack_change_std"] == 0
    assert found["fooling"] == rows[0]["fooling"]
