"""Flags, environments and terminals: what a person types is read as meant, and every mistake ends in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

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
    print(*options[:5], config.seed, config.epsilon, config.testing.epsilons, options.mesh, config.name)
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
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("JAX_", "TF_CPP"))}
    environment = {**kept, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment}
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
    for flag in (*flags, "nocompilation_cache", "flagfile", "helpfull"):
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
    *((["--config=good.py", f"--{name}="], f"--{name} is empty") for name in ("workdir", "data_dir", "seeds", "devices")),
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
    (["--config=good.py", "--config.epsilon=8/0"], "8/0"),
    (["--config=good.py", "--config.seed=8/2"], "--config.seed=8/2"),
    (["--config=good.py", "--config.testing.epsilons=(8/0,1)"], "'(8/0,1)' is not of the kind of 0.1"),
    (["--flagfile=nothing.txt"], "--flagfile: Unable to open flagfile"),
    (["--config=good.py", "--flagfile"], "--flagfile with no argument"),
    (["--config=good.py", "--flagfile=."], "--flagfile: "),
    *((["--config=good.py", f"--{flag}=~nobody_there/x"], f"--{flag}=~nobody_there/x: there is no home folder for ~nobody_there")
      for flag in ("workdir", "data_dir")),
    (["--config=~nobody_there/x.py"], "there is no home folder for ~nobody_there"),
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
    assert out.splitlines() == [
        "runs/good_other None (4,) False True 4 0.3 (0.1, 0.2) None cnn",
        f"cache {place / 'cache' / 'mgan_jax'}",
    ]
    arguments = ["--workdir=here", "--data_dir=there", "--seeds=2,0", "--overwrite", "--noprogress", "--nocompilation_cache"]
    status, out, err = type_in(place, "--config", "good.py", *arguments, "--config.testing.epsilons=(0.5,)", fake=True)
    assert (status, err) == (0, [])
    assert out.splitlines() == ["here there (2, 0) True False 0 0.3 (0.5,) None cnn", "cache None"]


def read(place, *arguments, **environment):
    """The words of what the experiment was told."""
    status, out, err = type_in(place, *arguments, fake=True, **environment)
    assert (status, err) == (0, []), err
    return out.splitlines()[0]


FRACTIONS = [
    (["--config.epsilon=8/255"], f"0 {8 / 255}"),
    (["--config.epsilon", "8/255"], f"0 {8 / 255}"),
    (["--config.epsilon=-1e-1 / .5"], "0 -0.2"),
    (["--config.epsilon=8/0.5"], "0 16.0"),
    (["--config.testing.epsilons=(8/255,1)"], f"({8 / 255}, 1)"),
    (["--config.testing.epsilons", "8/255, 16/255,"], f"({8 / 255}, {16 / 255})"),
    (["--config.testing.epsilons=1/4", "--config.testing.epsilons=1/2"], "(0.25, 0.5)"),
    (["--config.name=8/255"], "8/255"),
    (["--config.name=runs/8/255"], "runs/8/255"),
]


@pytest.mark.parametrize(("arguments", "words"), FRACTIONS, ids=str)
def test_a_fraction_is_a_number_where_a_number_stands_and_text_where_text_does(place, arguments, words):
    assert words in read(place, "--config=good.py", *arguments)


def test_flags_of_a_file_are_as_those_typed_in(place, tmp_path):
    inner, outer = tmp_path / "inner.txt", tmp_path / "outer.txt"
    inner.write_text("--config.epsilon=8/255\n--seeds=3,1\n")
    outer.write_text(f"# a note\n--config=good.py:other\n\n--config.seed=4\n--flagfile={inner}\n--workdir=here\n")
    expected = read(place, "--config=good.py:other", "--config.seed=4", "--config.epsilon=8/255", "--seeds=3,1", "--workdir=here")
    assert read(place, f"--flagfile={outer}") == read(place, "--flagfile", str(outer)) == expected
    assert read(place, f"--flagfile={outer}", "--workdir=there") == expected.replace("here", "there", 1)
    assert read(place, "--flagfile=~/outer.txt", HOME=str(tmp_path)) == expected


def test_a_tilde_is_the_home_folder(place):
    home = str(place)
    for config in (["--config=~/good.py"], ["--config", "~/good.py:plain"]):
        told = read(place, *config, "--workdir=~/x", "--data_dir=~/mnist", HOME=home)
        assert told.startswith(f"{home}/x {home}/mnist ")
    assert read(place, "--config=good.py", "--workdir=a~b").startswith("a~b ")


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
