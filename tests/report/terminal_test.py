"""Progress is shown on a terminal only, and the tables are plain text that fits."""

import io
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.report import terminal
from mgan_jax.report.results import mean_and_spread
from mgan_jax.report.tables import slides_table, tables, verdict
from mgan_jax.report.terminal import print_tables, progress, remaining


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("enabled", "stream"), [(False, Terminal), (True, io.StringIO)])
def test_progress_is_silent_where_disabled_or_without_a_terminal(enabled, stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream())
    with progress(enabled) as start:
        update = start("target", 10, "steps")
        update(5, loss=1.0)
        update(10)
    assert sys.stdout.getvalue() == ""


def test_progress_shows_the_name_count_and_last_numbers(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "90")
    with progress(True) as start:
        update = start("advgan_margin", 10, "steps")
        update(4, loss=2.0)
        update(8, loss=0.25, accuracy=0.5, margin=3.0, discriminator_loss=1.0)
    shown = sys.stdout.getvalue()
    assert "advgan_margin" in shown and "8/10" in shown and "loss 0.25" in shown and "steps/s" in shown


@pytest.mark.parametrize(("done", "newest"), [(0, "inner"), (10, "outer")])
def test_a_long_compilation_says_so_in_the_newest_line_that_is_not_done_and_ends_there(done, newest, monkeypatch):
    stream = Terminal()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "90")
    monkeypatch.setattr(terminal, "LONG_SECONDS", 0.1)
    # XLA folds these constants one by one, which takes it a second; others each time, lest they lie in a cache.
    values = np.random.default_rng().random((25, 25), np.float32)
    slow = jax.jit(lambda: jax.lax.reduce_window(jnp.asarray(values), 0.0, jax.lax.add, (31, 31), (1, 1), "SAME").sum())
    with progress(True) as start:
        start("outer", 10, "steps")
        start("inner", 10, "steps")(done)
        slow.lower().compile()
        lines = [line for line in stream.getvalue().splitlines() if "compiling, 0:0" in line]
        assert lines and all(newest in line for line in lines)
        time.sleep(0.3)
        mark = len(stream.getvalue())
        time.sleep(0.3)
        after = stream.getvalue()[mark:]
        assert newest in after and "compiling" not in after


def test_durations():
    assert (remaining(5), remaining(65), remaining(3661)) == ("0:05", "1:05", "1:01:01")


def test_tables_fit_and_hold_the_numbers(example, capsys):
    results, _ = example()
    other = {**results, "seed": 1}
    for one in (results, mean_and_spread([results, other])):
        print_tables(one)
        text = capsys.readouterr().out
        assert max(map(len, text.splitlines())) <= 120 and "\x1b" not in text
        for part in ("98.12", "n", "98.77", "23.45", "2.3", "0.65", "–", "unfiltered: rate 0.1", "qualified: rate 0.05"):
            assert part in text


def test_any_attack_with_few_fields_has_a_line(example):
    results, _ = example()
    short = {"attack": "new", "operator": "GF", "protocol": "unfiltered", "rate": 0.1, "num_mutants": 3, "lcr": 0.5}
    found = tables({**results, "rows": [*results["rows"], short]})
    assert ["new", *["–"] * 10] in found[0][2]
    assert any(line[:5] == ["GF", "new", "3", "–", "50.00"] for line in found[1][2])


def test_an_operators_own_generator_is_preferred_in_the_slides_table(example):
    results, _ = example(attacks=(("mgan", "GF"), ("mgan", "all"), ("advgan", None)))
    for row in results["rows"]:
        if row.get("trained_on") == "GF":
            row["lcr"] = 0.5 if row["operator"] == "GF" else 0.7
    lines = {line[0]: line for line in slides_table(results)[2]}
    assert lines["GF"][5] == "50.00" and lines["LD"][5] == "23.45"


def test_the_verdict_names_the_controls_that_are_as_stable(example):
    results, _ = example()
    assert any("pgd gets at least as stable" in sentence for sentence in verdict(results))
    for row in results["rows"]:
        if row["attack"] == "pgd":
            row["lcr"] = 0.9
    assert not any("at least as stable" in sentence for sentence in verdict(results))
    assert any("1.00 of AdvGAN's" in sentence for sentence in verdict(results))
