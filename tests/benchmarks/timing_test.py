"""Rounds, ratios and what is written of them."""

import argparse
import json
import re

import numpy as np
import pytest

from benchmarks import command_line, plots, roofline, timing
from mgan_jax.models.lenet import lenet

PEAKS = roofline.Peaks(flops=1e9, bandwidth=1e8)


def test_ratios_of_three_rounds_by_hand():
    row = timing.compared("work", "peer", [2.0, 1.0, 4.0], [4.0, 3.0, 4.0], least_s=0.5, differing=0.0)
    assert (row.ours_s, row.peer_s) == (2.0, 4.0)
    assert (row.ratio, row.ratio_min, row.ratio_max) == (2.0, 1.0, 3.0)
    assert row.roofline_share == 0.25 and row.rounds == 3


def test_calls_take_turns():
    order = []
    calls = {"a": lambda: order.append("a"), "b": lambda: order.append("b")}
    seconds = timing.alternate(calls, 3)
    assert order == ["a", "b"] * 3
    assert [len(values) for values in seconds.values()] == [3, 3]
    with pytest.raises(ValueError, match="rounds is 0"):
        timing.alternate(calls, 0)


def test_the_json_holds_the_fields_and_no_nan(tmp_path):
    rows = [timing.compared("a", "b", [1.0], [2.0], 0.1), timing.alone("c", [float("nan")], None, peak_bytes=7)]
    timing.write_json(tmp_path / "rows.json", "a device", {"jax": "1"}, "small", rows)
    text = (tmp_path / "rows.json").read_text()
    found = json.loads(text)
    assert set(found) >= {"device", "versions", "size", "rows"} and "NaN" not in text
    for row in found["rows"]:
        assert set(timing.FIELDS) <= set(row)
    assert found["rows"][0]["ratio"] == 2.0
    assert found["rows"][1]["ours_s"] is None and found["rows"][1]["peak_bytes"] == 7
    assert [path.name for path in tmp_path.iterdir()] == ["rows.json"]


def test_rows_that_are_done_are_kept_when_a_later_one_fails(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(roofline, "measure", lambda seconds: PEAKS)

    def rows(settings):
        assert settings.wanted("work") and not settings.wanted("other")
        yield timing.alone("work", [1.0], None)
        raise ArithmeticError("answers differ")

    flags = argparse.Namespace(size="small", rounds=1, rows=re.compile("work"), data_dir=None, precision="float32")
    flags.json = tmp_path / "rows.json"
    with pytest.raises(ArithmeticError):
        command_line.run("title", flags, rows, torch=False)
    assert [row["name"] for row in json.loads(flags.json.read_text())["rows"]] == ["work"]
    assert "work: 1 s" in capsys.readouterr().out


def test_the_table_shows_every_row(capsys):
    timing.print_rows("title", [timing.compared("a", "b", [1.0], [2.0], 0.1, note="told"), timing.Row("c", "", None)])
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("title", "2.00", "10.0 %", "told", "c"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["--size=tiny"],
        ["--rows=("],
        ["--rounds=0"],
        ["--json=/nowhere/at/all.json"],
        ["--data_dir=/nowhere"],
        ["--data_dir=~nobody_there/x"],
        ["--json=~nobody_there/x"],
    ],
)
def test_mistakes_on_the_command_line_are_told(arguments, capsys):
    with pytest.raises(SystemExit):
        command_line.parse("a benchmark", arguments)
    assert "error: " in capsys.readouterr().err


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    parsed = command_line.parse("a benchmark", ["--data_dir=~", "--json=~/rows.json"])
    assert (parsed.data_dir, parsed.json) == (tmp_path, tmp_path / "rows.json")


def test_flops_of_a_lenet_by_hand():
    classifier = lenet((28, 28, 1), 10)
    shapes = {"conv1": (5, 5, 1, 6), "conv2": (5, 5, 6, 16), "dense1": (400, 120), "dense2": (120, 84), "output": (84, 10)}
    params = {
        name: {"kernel": np.zeros(shape, np.float32), "bias": np.zeros(shape[-1], np.float32)} for name, shape in shapes.items()
    }
    structure = {name: {"activation": np.array(True)} for name in params if name != "output"}
    variables = {"params": {k: v if k == "output" else {"layer": v} for k, v in params.items()}, "structure": structure}
    by_hand = 28 * 28 * 25 * 6 + 10 * 10 * 150 * 16 + 400 * 120 + 120 * 84 + 84 * 10
    assert roofline.forward_flops(classifier, variables, (28, 28, 1)) == 2 * by_hand


def test_the_higher_roof_counts():
    assert roofline.least_seconds(PEAKS, flops=2e9, moved=1e8) == 2.0
    assert roofline.least_seconds(PEAKS, flops=1e8, moved=3e8) == 3.0


def test_scaling_lines_are_drawn(tmp_path):
    row = {"name": "scaling: lenet", "ours_s": 1.0, "peak_bytes": 2**20, "num_images": 1000, "devices": 1}
    rows = [{**row, "num_mutants": 100}, {**row, "num_mutants": 20, "ours_s": 0.5}, {"name": "votes: lenet", "ours_s": 1.0}]
    assert plots.scaling_lines(rows) == {"1,000 images, 1 device": [(20, 0.5, 1.0), (100, 1.0, 1.0)]}
    plots.draw({"rows": rows, "device": "a device"}, tmp_path / "scaling.png")
    assert (tmp_path / "scaling.png").stat().st_size > 0
    with pytest.raises(ValueError, match="no scaling rows"):
        plots.draw({"rows": [], "device": ""}, tmp_path / "none.png")
