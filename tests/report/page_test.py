"""The page stands alone, escapes what it is given, and holds the numbers; the files beside it are lossless and whole."""

import os
import re

import numpy as np
import pytest

from mgan_jax.report.material import write_adversarial
from mgan_jax.report.page import write_report
from mgan_jax.report.results import mean_and_spread

PER_OPERATOR = tuple(("mgan", name) for name in ("all", "GF", "WS", "NEB", "NAI", "NS", "LD", "LA", "AFR"))


def written(path, results, material):
    write_report(path / "report.html", results, material)
    return (path / "report.html").read_text()


@pytest.mark.parametrize(("shape", "num_images"), [((8, 8, 1), 12), ((32, 32, 3), 12), ((28, 28, 1), 1)])
def test_it_refers_to_nothing_outside_and_holds_the_numbers(tmp_path, example, shape, num_images):
    page = written(tmp_path, *example(shape, num_images))
    assert "http://" not in page and "https://" not in page and "<link" not in page
    assert all(source.startswith("data:image/") for source in re.findall(r'src="([^"]*)"', page))
    assert "<script" not in page and "&lt;script&gt;" in page and "<b>much</b>" not in page
    for text in ("98.12 %", "12345", "98.77", "23.45", "[10.00, 30.00]", "0.65", "no mutant of LD qualified", "<td>–</td>"):
        assert text in re.sub(r"\s+", " ", page), text
    assert len(page) < 4_000_000


def test_many_attacks_on_colour_images_stay_below_four_megabytes(tmp_path, example):
    attacks = (*PER_OPERATOR, ("advgan", None), ("pgd", None), ("something_new", None))
    page = written(tmp_path, *example((32, 32, 3), 30, attacks, num_classes=10))
    assert len(page) < 4_000_000 and "something_new" in page


def test_several_seeds_show_their_spread(tmp_path, example):
    results, material = example()
    other = {**results, "seed": 1, "rows": [{**row, "misclassification": 0.9} for row in results["rows"]]}
    page = written(tmp_path, mean_and_spread([results, other]), material)
    assert "seeds 0, 1" in page and "94.38±6.20" in page


def test_rows_without_mutants_curves_or_successes_still_make_a_page(tmp_path, example):
    results, material = example()
    nothing = {name: made._replace(success=np.zeros(12, bool)) for name, made in material.adversarial.items()}
    bare = material._replace(lcr={}, epsilon_rows=[], history={}, adversarial=nothing)
    assert "prediction" in written(tmp_path, {**results, "rows": results["rows"][:1]}, bare).lower()
    short = {"attack": "new", "operator": "GF", "protocol": "unfiltered", "rate": 0.1, "num_mutants": 3, "lcr": 0.5}
    assert "50.00" in written(tmp_path, {**results, "rows": [*results["rows"], short]}, material)
    assert "prediction" in written(tmp_path, {**results, "rows": []}, bare._replace(adversarial={})).lower()


def test_the_same_run_gives_the_same_page(tmp_path, example):
    assert written(tmp_path, *example()) == written(tmp_path, *example())


def test_a_failure_leaves_the_old_page_and_images(tmp_path, example, monkeypatch):
    results, material = example()
    for name in ("report.html", "adversarial.npz"):
        (tmp_path / name).write_text("old")

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report(tmp_path / "report.html", results, material)
    with pytest.raises(OSError, match="disk full"):
        write_adversarial(tmp_path / "adversarial.npz", material)
    assert {(tmp_path / name).read_text() for name in ("report.html", "adversarial.npz")} == {"old"}


def test_adversarial_images_are_kept_bit_for_bit(tmp_path, example):
    _, material = example(attacks=(("mgan", "GF"), ("pgd", None)))
    write_adversarial(tmp_path / "adversarial.npz", material)
    with np.load(tmp_path / "adversarial.npz", allow_pickle=False) as stored:
        assert stored["attacks"].tolist() == ["mgan_GF", "pgd"] and stored["class_names"].tolist() == ["a", "b", "c"]
        assert np.array_equal(stored["clean"], material.clean_images) and np.array_equal(stored["labels"], material.labels)
        assert stored["images_mgan_GF"].dtype == np.float32 and stored["success_pgd"].dtype == bool
        assert np.array_equal(stored["images_mgan_GF"], material.adversarial["mgan GF"].images)
        assert np.array_equal(stored["success_pgd"], material.adversarial["pgd"].success)
