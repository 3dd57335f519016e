"""The command line as a person types it: mistakes end in one line, and a killed run continues."""

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
SMALL = ["--config.target.name=mlp", "--config.testing.operators=('NAI',)"]
SMOKE = ["--config=configs/smoke.py", *SMALL, "--config.skip=('advgan_margin','pgd_mutants')", "--config.generator.widths=(4,8)",
         "--config.generator.num_residual_blocks=1", "--config.discriminator.widths=(4,8)"]  # fmt: skip


def call(*arguments):
    command = [sys.executable, "main.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def one_line(done, status, *parts):
    assert done.returncode == status, done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for part in ("error: ", *parts):
        assert part in done.stderr


def test_help_fits_a_screen():
    done = call("--help")
    assert done.returncode == 0 and len(done.stdout.splitlines()) <= 24
    assert "--workdir" in done.stdout and "mgan" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "parts"),
    [
        ([], 2, ["--config=configs/mgan.py"]),
        (["--config=configs/nothing.py"], 2, ["configs/nothing.py"]),
        (["--config=configs/mgan.py:cifar"], 2, ["cifar", "mnist"]),
        (["--config=configs/mgan.py", "--config.sede=3"], 2, ["sede"]),
        (["--config=configs/mgan.py", "--config.seed=x"], 2, ["seed"]),
        (["--config=configs/mgan.py", "--config.epsilon=nan"], 2, ["config.epsilon"]),
        (["--config=configs/mgan.py", "--seeds=1,x"], 2, ["--seeds"]),
        (["--config=configs/mgan.py", "--wrokdir=x"], 2, ["wrokdir"]),
        (["--config=configs/mgan.py", "extra"], 2, ["extra"]),
        (["--config=configs/mgan.py", "--data_dir=/nonexistent", "--config.dataset.name=idx"], 1, ["/nonexistent"]),
        (["--config=configs/mgan.py", "--config.dataset.name=digitz"], 1, ["digits"]),
        (["--config=configs/mgan.py", "--config.target.name=cnm"], 1, ["cnn"]),
        (["--config=configs/smoke.py", "--config.epsilon=-0.1"], 1, ["-0.1"]),
        (["--config=configs/smoke.py", "--config.testing.num_mutants=0"], 1, ["num_mutants", "0"]),
        (["--config=configs/smoke.py", "--config.testing.operators=('XY',)"], 1, ["XY", "NAI"]),
        (["--config=configs/mutation_testing.py"], 1, ["--config.images"]),
    ],
)
def test_mistakes_end_in_one_line(arguments, status, parts, tmp_path):
    one_line(call(*arguments, f"--workdir={tmp_path / 'run'}"), status, *parts)


def test_a_workdir_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    one_line(call(*SMOKE, f"--workdir={tmp_path / 'file' / 'run'}"), 1, "file")


def test_a_diverging_training_names_the_step(tmp_path):
    done = call(*SMOKE, "--config.target.learning_rate=1e30", "--config.target.epochs=3", f"--workdir={tmp_path}/run")
    one_line(done, 1, "training of target", "at step")


def test_a_killed_run_continues_to_the_same_numbers_and_a_finished_one_is_not_run_again(tmp_path, unsized):
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    assert call(*SMOKE, f"--workdir={whole}").returncode == 0
    with subprocess.Popen(
        [sys.executable, "main.py", *SMOKE, f"--workdir={resumed}"], cwd=ROOT, stdout=subprocess.DEVNULL
    ) as process:
        limit = time.monotonic() + 120
        while not (resumed / "checkpoints" / "advgan").is_dir() and time.monotonic() < limit:
            time.sleep(0.05)
        process.kill()
    assert not (resumed / "results.json").exists()
    assert call(*SMOKE, f"--workdir={resumed}").returncode == 0
    first, second = (json.loads((path / "results.json").read_text()) for path in (whole, resumed))
    assert first["rows"] == second["rows"] and first["target"] == second["target"]
    assert first["epsilon_rows"] == second["epsilon_rows"]
    assert not unsized(first)

    kept = sorted(path.stat().st_mtime_ns for path in (whole / "checkpoints").rglob("*") if path.is_file())
    assert call(*SMOKE, "--noprogress", f"--workdir={whole}").returncode == 0
    assert kept == sorted(path.stat().st_mtime_ns for path in (whole / "checkpoints").rglob("*") if path.is_file())

    before = (whole / "results.json").read_bytes()
    one_line(call(*SMOKE, "--config.seed=5", f"--workdir={whole}"), 1, "config.seed: 0 there, 5 here", "--overwrite")
    assert (whole / "results.json").read_bytes() == before

    page = (whole / "report.html").read_text()
    assert "http://" not in page and "https://" not in page and "base64" in page
    with np.load(whole / "adversarial.npz") as stored:
        assert stored["images_mgan"].shape == stored["clean"].shape
        assert np.abs(stored["images_mgan"] - stored["clean"]).max() <= 0.3 + 1e-6
    assert list((whole / "events" / "mgan").glob("events.out.tfevents.*"))

    asked = ("--config=configs/mutation_testing.py:smoke", *SMALL, f"--config.images={whole / 'adversarial.npz'}")
    one_line(call(*asked, f"--workdir={tmp_path / 'tested'}"), 1, "images_pgd", "--config.array")
    tested = call(*asked, "--config.array=images_pgd", f"--workdir={tmp_path / 'tested'}")
    assert tested.returncode == 0, tested.stderr
    results = json.loads((tmp_path / "tested" / "results.json").read_text())
    rows = results["rows"]
    assert not unsized(results)
    for row in [*rows, *first["epsilon_rows"], *(row for row in first["rows"] if "operator" in row)]:
        assert row["tried"] >= row["qualified"] >= row["distinct"] == row["num_mutants"]
    assert {"class_matched_normal_lcr", "sprt_undecided", "sprt_mutants_used"} <= rows[0].keys()
    (pgd,) = [row for row in json.loads(before)["rows"] if row["attack"] == "pgd" and row.get("operator") is None]
    assert {row["num_images"] for row in rows} == {pgd["num_images"]}
    assert {row["misclassification"] for row in rows} == {pgd["misclassification"]}


def test_the_readme_example_runs_of_the_installed_package(tmp_path):
    text = (ROOT / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fools" in done.stdout
