"""Ctrl-C ends the program at once, in one line and with status 130, whatever it is doing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mgan_jax import interrupt

ROOT = Path(__file__).parent.parent
LINE = interrupt.LINE.decode()
# A training that does not end by itself within a test.
TARGET = ("main.py", "--config=configs/target.py", "--nocompilation_cache", "--config.target.epochs=10000")


def started(*command, **how):
    kept = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}
    environment = {**kept, "PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command], cwd=ROOT, env=environment, **pipes, **how)


def ended(process):
    """(status, stderr) of a process that has been told to end; one that does not is killed."""
    try:
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, err


# Imports, JAX's start, and XLA compiling; on a machine of whatever speed some of these meet each.
@pytest.mark.parametrize(("seconds", "times"), [(0.5, 1), (2, 1), (4, 1), (7, 1), (1, 2), (5, 2)])
def test_at_any_moment(seconds, times, tmp_path):
    process = started(sys.executable, *TARGET, f"--workdir={tmp_path / 'run'}")
    time.sleep(seconds)
    for _ in range(times):
        process.send_signal(signal.SIGINT)
    assert ended(process) == (130, LINE)


def test_under_timeout(tmp_path):
    command = ("timeout", "--preserve-status", "-s", "INT", "6", sys.executable, *TARGET, f"--workdir={tmp_path / 'run'}")
    assert ended(started(*command)) == (130, LINE)


# Each prints a line when it is to be interrupted, and does then what has been seen to keep KeyboardInterrupt from its end.
BUSY = {
    "compiling": """
import jax, numpy as np
ones = np.ones((3000, 3000), np.float32)
print("now", flush=True)
jax.jit(lambda: jax.lax.reduce_window(ones, 0.0, jax.lax.add, (61, 61), (1, 1), "SAME").sum()).lower().compile()
""",
    "swallowing": """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
print("now", flush=True)
while True:
    try:
        while True:
            pass
    except BaseException:
        pass
""",
    "waiting for a lock": """
import threading
print("now", flush=True)
held = threading.Lock()
held.acquire()
held.acquire()
""",
    "printing what nobody reads": """
print("now", flush=True)
while True:
    print("x" * 10000)
""",
    "in threads": """
import threading
from concurrent.futures import ThreadPoolExecutor
print("now", flush=True)
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda _: threading.Event().wait(), range(4)))
""",
    "raising": """
print("now", flush=True)
raise KeyboardInterrupt
""",
}


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize("name", BUSY)
def test_whatever_it_is_doing(name, ignored):
    catching = "try:\n " + BUSY[name].strip().replace("\n", "\n ") + "\nexcept KeyboardInterrupt:\n interrupt.end()"
    start = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n" if ignored else ""
    process = started(sys.executable, "-c", f"{start}from mgan_jax import interrupt\ninterrupt.watch()\n{catching}")
    assert process.stdout.readline() == "now\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    if name == "printing what nobody reads":
        assert process.wait(timeout=30) == 130
    assert ended(process) == (130, LINE)


def test_what_was_printed_before_is_seen():
    code = "import os, signal, time; print('before'); os.kill(os.getpid(), signal.SIGINT); time.sleep(60)"
    process = started(sys.executable, "-c", f"from mgan_jax import interrupt; interrupt.watch(); {code}")
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "before\n", LINE)
