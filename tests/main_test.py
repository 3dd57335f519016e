"""The command line as a person types it: mistakes end in one line, and a killed run continues."""

import json
import os
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


def test_a_killed_run_continues_to_the_same_numbers_and_a_finished_one_is_not_run_again(tmp_path):
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
    rows = json.loads((tmp_path / "tested" / "results.json").read_text())["rows"]
    (pgd,) = [row for row in json.loads(before)["rows"] if row["attack"] == "pgd" and row.get("operator") is None]
    assert {row["num_images"] for row in rows} == {pgd["num_images"]}
    assert {row["misclassification"] for row in rows} == {pgd["misclassification"]}


def test_the_readme_example_runs_of_the_installed_package(tmp_path):
    text = (ROOT / "README.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fools" in done.stdout


CONFIG = """
from ml_collections import ConfigDict


def get_config(variant="plain"):
    if variant not in ("plain", "other"):
        raise ValueError(f"unknown variant {variant!r}; choose plain or other")
    return ConfigDict({
        "experiment": "fake", "seed": 0, "epsilon": 0.3, "error": "", "claim": "", "name": "cnn",
        "testing": {"epsilons": (0.1, 0.2), "operators": ("GF", "WS"), "num_images": 3},
    })
"""

EXPERIMENT = """
import builtins
import os

import jax

from mgan_jax.checkpoint import CorruptCheckpoint
from mgan_jax.workdir import WorkdirMismatch

ours = {"CorruptCheckpoint": CorruptCheckpoint, "WorkdirMismatch": WorkdirMismatch}


def run(config, options):
    if config.error:
        raise (ours.get(config.error) or getattr(builtins, config.error))("first line\\nsecond line")
    print(*options[:5], config.seed, config.testing.epsilons, options.mesh)
    print("cache", jax.config.jax_compilation_cache_dir)
    lines = [{"claim": name, "holds": holds} for name, holds in (("a", True), (config.claim, not config.claim), ("b", None))]
    return [{"results": 1}, {"sanity": lines}, {"sanity": lines}]
"""

# The folder of the test becomes a part of the package of experiments, so that main.py finds `fake` there.
DRIVER = """
import runpy, sys
import mgan_jax.experiments
mgan_jax.experiments.__path__.append(sys.argv.pop(1))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("main")
    (folder / "good.py").write_text(CONFIG)
    (folder / "raises.py").write_text("def get_config():\n    return {}['nothing']\n")
    (folder / "typo.py").write_text("def get_config(:\n")
    (folder / "empty.py").write_text("")
    (folder / "bare.py").write_text(
        "from ml_collections import ConfigDict\ndef get_config():\n    return ConfigDict({'seed': 0})\n"
    )
    (folder / "experiments").mkdir()
    (folder / "experiments" / "fake.py").write_text(EXPERIMENT)
    return folder


def type_in(place, *arguments, fake=False, **environment):
    """(status, stdout, stderr lines) of main.py with these arguments."""
    front = ["-c", DRIVER, str(place / "experiments"), str(ROOT / "main.py")] if fake else [str(ROOT / "main.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment}
    done = subprocess.run(
        [sys.executable, *front, *arguments], cwd=place, capture_output=True, text=True, env=environment, timeout=120
    )
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_help_names_every_flag(place):
    status, out, err = type_in(place, "--help")
    assert (status, err) == (0, [])
    lines = out.splitlines()
    assert len(lines) <= 30 and max(map(len, lines)) <= 130
    flags = ("config", "workdir", "data_dir", "seeds", "devices", "distributed", "overwrite", "noprogress", "traceback")
    for flag in (*flags, "nocompilation_cache", "helpfull"):
        assert f"--{flag}" in out
    assert "mgan" in out.split("Configurations:")[1]
    assert type_in(place, "-h")[1] == out


def test_helpfull_shows_all_flags(place):
    status, out, _ = type_in(place, "--helpfull")
    assert status in (0, 1) and "--[no]overwrite" in out and "--verbosity" in out


MISTAKES = [
    ([], "no experiment is named"),
    (["--config=none.py"], "there is no config file 'none.py'"),
    (["--config", "none.py"], "there is no config file 'none.py'"),
    (["--config="], "there is no config file ''"),
    (["--config=configs/mgna.py"], "did you mean configs/mgan.py?"),
    (["--config=raises.py"], "raises.py: KeyError: 'nothing'"),
    (["--config=typo.py"], "typo.py: SyntaxError"),
    (["--config=empty.py"], "empty.py"),
    (["--config=bare.py"], "bare.py: the configuration has no 'experiment'"),
    (["--config=good.py:third"], "good.py:third: unknown variant 'third'; choose plain or other"),
    (["--config=good.py", "--config.sed=1"], "--config.sed: the configuration has no 'sed'; did you mean 'seed'?"),
    (["-config=good.py", "--config.testing.num_imges=1"], "--config.testing.num_imges: the configuration has no 'num_imges'"),
    (["--config=good.py", "--config.tsting.num_images=1"], "--config.tsting.num_images: the configuration has no 'tsting'"),
    (["--config=good.py", "--config.zzz=1"], "--config.zzz: the configuration has no 'zzz'"),
    (["--config=good.py", "--config.seed=abc"], "--config.seed=abc"),
    (["--config=good.py", "--config.seed=1.5"], "--config.seed=1.5"),
    (["--config=good.py", "--config.testing=3"], "--config.testing=3"),
    (["--config=good.py", "--config.epsilon=nan"], "config.epsilon is not a finite number"),
    (["--config=good.py", "--config.epsilon=-inf"], "config.epsilon is not a finite number"),
    (["--config=good.py", "--config.testing.epsilons=(0.1,1e999)"], "config.testing.epsilons[1] is not a finite number"),
    (["--config=good.py", "--config.testing.epsilons=(0.1,nan)"], "'(0.1,nan)' is not of the kind of 0.1"),
    (["--config=good.py", "--config.testing.epsilons=0.1", "--config.testing.epsilons=nan"], "'nan' is not of the kind of 0.1"),
    (["--config=good.py", "--config.testing.operators=(1,2)"], "1 is not of the kind of 'GF'"),
    (["--config=good.py", "--seeds=0,x"], "--seeds=0,x holds something that is no whole number"),
    (["--config=good.py", "--seeds=-1"], "--seeds=-1 is out of range"),
    (["--config=good.py", "--config.seed=-1"], "config.seed=-1 is out of range"),
    (["--config=good.py", "--seeds=1,2,1"], "--seeds=1,2,1 names a seed twice"),
    (["--config=good.py", "--sedes=1"], "Did you mean: seeds"),
    (["--config=good.py", "--overwrite=perhaps"], "--overwrite=perhaps"),
    (["--config=good.py", "extra"], "unexpected argument extra"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "words"), MISTAKES)
def test_a_mistake_on_the_command_line_is_one_line_and_status_2(place, arguments, words):
    before = sorted(path.name for path in place.iterdir() if path.name != "__pycache__")
    status, out, err = type_in(place, *arguments)
    assert (status, out, len(err)) == (2, "", 1), err
    assert err[0].startswith("error: ") and words in err[0]
    assert sorted(path.name for path in place.iterdir() if path.name != "__pycache__") == before


def test_traceback_shows_where_a_config_failed(place):
    status, _, err = type_in(place, "--config=raises.py", "--traceback")
    assert status == 1 and any("Traceback" in line for line in err) and "KeyError" in err[-1]


def test_an_experiment_gets_what_the_flags_say(place):
    status, out, err = type_in(place, "--config=good.py:other", "--config.seed=4", fake=True, XDG_CACHE_HOME=str(place / "cache"))
    assert (status, err) == (0, [])
    assert out.splitlines() == ["runs/good_other None (4,) False True 4 (0.1, 0.2) None", f"cache {place / 'cache' / 'mgan_jax'}"]
    arguments = ["--workdir=here", "--data_dir=there", "--seeds=2,0", "--overwrite", "--noprogress", "--nocompilation_cache"]
    status, out, err = type_in(place, "--config", "good.py", *arguments, "--config.testing.epsilons=(0.5,)", fake=True)
    assert (status, err) == (0, [])
    assert out.splitlines() == ["here there (2, 0) True False 0 (0.5,) None", "cache None"]


def test_a_line_of_a_report_that_does_not_hold_is_status_3(place):
    status, out, err = type_in(place, "--config=good.py", "--config.claim=black box is not stronger", fake=True)
    assert (status, err) == (3, []) and out.splitlines()[-1] == "does not hold: black box is not stronger"


@pytest.mark.parametrize("error", ["ValueError", "FileNotFoundError", "PermissionError", "FloatingPointError",
                                   "CorruptCheckpoint", "WorkdirMismatch"])  # fmt: skip
def test_what_a_person_causes_inside_an_experiment_is_one_line_and_status_1(place, error):
    status, out, err = type_in(place, "--config=good.py", f"--config.error={error}", fake=True)
    assert (status, out, err) == (1, "", ["error: first line second line"])


def test_devices_that_are_not_there_are_one_line_and_status_1(place):
    status, _, err = type_in(place, "--config=good.py", "--devices=9999", fake=True)
    assert status == 1 and len(err) == 1 and "'9999' devices are asked for" in err[0]


def test_an_unknown_experiment_is_one_line_and_status_1(place):
    for name in ("fakee", "a.b", ""):
        status, _, err = type_in(place, "--config=good.py", f"--config.experiment={name}", fake=True)
        assert status == 1 and len(err) == 1 and f"unknown name {name!r} among experiments" in err[0]


def test_an_interrupt_is_one_line_and_status_130(place):
    status, _, err = type_in(place, "--config=good.py", "--config.error=KeyboardInterrupt", fake=True)
    assert (status, err) == (130, ["interrupted; run the same command again to continue"])


@pytest.mark.parametrize("arguments", [["--config.error=RuntimeError"], ["--config.error=ValueError", "--traceback"]])
def test_a_bug_keeps_its_traceback_and_so_does_all_with_the_flag(place, arguments):
    status, _, err = type_in(place, "--config=good.py", *arguments, fake=True)
    assert status == 1 and any("Traceback" in line for line in err) and any("in run" in line for line in err)
