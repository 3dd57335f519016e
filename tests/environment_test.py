"""Whatever environment a person has: their settings win, a missing home or a terminal of few letters stops nothing."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONFIG = """
from ml_collections import ConfigDict


def get_config():
    return ConfigDict({"experiment": "fake", "seed": 0, "code": ""})
"""
EXPERIMENT = """
def run(config, options):
    exec(config.code, {"options": options})
    return {}
"""
# The folder of the test becomes a part of the package of experiments; `nobody` has a user id that the system does not know.
DRIVER = """
import os, runpy, sys
import mgan_jax.experiments
mgan_jax.experiments.__path__.append(sys.argv[1])
if "NOBODY" in os.environ:
    os.getuid = lambda: 2**31 - 5
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
CACHE = """
import jax
print(*(getattr(jax.config, f"jax_{name}") for name in (
    "compilation_cache_dir", "enable_compilation_cache", "persistent_cache_min_compile_time_secs")))
"""
OURS = ("JAX_", "TF_CPP", "XLA_FLAGS", "XDG_CACHE_HOME", "PYTHONIOENCODING", "PYTHONUTF8", "LANG", "LC_")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("environment")
    (folder / "config.py").write_text(CONFIG)
    (folder / "fake.py").write_text(EXPERIMENT)
    return folder


def ran(place, code, *arguments, without=(), **environment):
    """(stdout, stderr) as bytes of an experiment that runs this code, which ends well."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OURS) and name not in without}
    environment = {**kept, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu", **environment}
    command = [sys.executable, "-c", DRIVER, str(place), str(ROOT / "main.py"), "--config=config.py", f"--config.code={code}"]
    done = subprocess.run([*command, *arguments], cwd=place, capture_output=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout, done.stderr


ENCODINGS = [
    ({"PYTHONIOENCODING": "ascii"}, b"a ? b ?2 ?"),
    ({"PYTHONIOENCODING": "latin-1"}, b"a ? b \xb12 ?"),
    ({"PYTHONIOENCODING": "utf-8"}, "a – b ±2 ?".encode()),
    ({"LC_ALL": "C"}, "a – b ±2 ?".encode()),
    ({"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, b"a ? b ?2 ?"),
]


@pytest.mark.parametrize(("environment", "expected"), ENCODINGS, ids=str)
def test_a_terminal_shows_a_question_mark_for_what_it_does_not_know(place, environment, expected):
    assert ran(place, r'print("a \u2013 b \xb12 \udcff")', **environment) == (expected + b"\n", b"")


def test_every_text_file_names_its_encoding():
    calls = [
        (path.name, node.lineno)
        for folder in ("mgan_jax", "benchmarks", "configs", ".")
        for path in (ROOT / folder).glob("*.py" if folder == "." else "**/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("open", "read_text", "write_text")
        and not any(keyword.arg == "encoding" for keyword in node.keywords)
        and not any(
            isinstance(argument, ast.Constant) and re.fullmatch("[rwxa+]*b[rwxa+]*", str(argument.value))
            for argument in node.args
        )
        # Neither os.open nor the open of an archive decodes anything.
        and not re.search(r"(^|[ .])(os|zip)\.open$", ast.unparse(node.func))
    ]
    assert calls == []


def test_without_a_home_folder_nothing_is_kept_and_nothing_fails(place):
    assert ran(place, CACHE, without=("HOME",), NOBODY="1") == (b"None True 0.5\n", b"")
    (place / "file").write_text("")
    assert ran(place, CACHE, XDG_CACHE_HOME=str(place / "file")) == (b"None True 0.5\n", b"")
    assert ran(place, CACHE, HOME=str(place / "file")) == (b"None True 0.5\n", b"")


def test_what_the_user_has_set_for_jax_stays(place):
    mine, ours = str(place / "mine"), str(place / "ours")
    given = {"JAX_COMPILATION_CACHE_DIR": mine, "XDG_CACHE_HOME": ours}
    assert ran(place, CACHE, XDG_CACHE_HOME=ours)[0].decode() == f"{ours}/mgan_jax True 0.5\n"
    assert ran(place, CACHE, **given)[0].decode() == f"{mine} True 0.5\n"
    assert ran(place, CACHE, **given, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="3")[0].decode() == f"{mine} True 3.0\n"
    assert ran(place, CACHE, JAX_ENABLE_COMPILATION_CACHE="0", XDG_CACHE_HOME=ours)[0].decode() == f"{ours}/mgan_jax False 0.5\n"
    assert ran(place, CACHE, "--nocompilation_cache", **given)[0].decode() == f"{mine} False 0.5\n"
    assert ran(place, CACHE, "--nocompilation_cache")[0].decode() == "None False 0.5\n"


# Folding these constants takes XLA longer than the second after which it raises its alarm.
SLOW = """
import jax, numpy as np
ones = np.random.default_rng(0).random((64, 64), np.float32)
jax.jit(lambda: jax.lax.reduce_window(ones, 0.0, jax.lax.add, (31, 31), (1, 1), "SAME").sum())()
"""


def test_alarms_of_the_compiler_reach_only_those_who_ask_for_them(place):
    assert ran(place, SLOW, "--nocompilation_cache")[1] == b""
    assert b"slow_operation_alarm" in ran(place, SLOW, "--nocompilation_cache", TF_CPP_MIN_LOG_LEVEL="2")[1]


@pytest.mark.parametrize("number", ["2", "all"])
def test_parts_of_one_cpu_are_said_to_be_slower(place, number):
    code, flags = "print(options.mesh.size)", "--xla_force_host_platform_device_count=2"
    out, err = ran(place, code, f"--devices={number}", XLA_FLAGS=flags)
    assert out == b"2\n" and err.count(b"\n") == 1 and b"leave out --devices" in err
    assert ran(place, "", XLA_FLAGS=flags) == ran(place, "", f"--devices={number if number == 'all' else 1}") == (b"", b"")
