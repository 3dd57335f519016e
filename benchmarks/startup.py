"""Starts of `main.py`: seconds from the command to the end of the first chunk of training, cold and a second time; and imports.

python -m benchmarks.startup --size=small|paper|large [--json=FILE] [--rows=REGEX]
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import command_line
from benchmarks.command_line import Settings
from benchmarks.timing import Row, alternate, compared

ROOT = Path(__file__).parent.parent
CONFIGS = {"small": ("smoke",), "paper": ("smoke", "mgan"), "large": ("smoke", "mgan")}
PROGRESS = re.compile(r"target\D[^\n\r]*?(?<!\d)(\d+)/(\d+)")
"""A progress bar of the target's training: steps done, of all."""
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
LIMIT = 600.0
"""Seconds after which a start has failed."""
OURS = "import mgan_jax.experiments.mgan"
LIBRARIES = "import flax.linen, jax, numpy, optax"


def steps_done(output: str) -> int:
    """Steps of the target's training that the terminal output so far tells of; 0 before the first chunk is done."""
    return max((int(done) for done, _ in PROGRESS.findall(ESCAPES.sub("", output))), default=0)


def first_step(config: str, cache: Path) -> float:
    """Starts `python main.py --config=configs/NAME.py` in a terminal of its own and ends it after its first chunk of steps.

    The command runs as a person runs it; that the first chunk is done is read from its progress bar, drawn ten times a second.

    Args:
      config: NAME.
      cache: the user's cache folder, with compiled programs of earlier starts or without.

    Returns:
      Seconds from the start of the process.

    Raises:
      RuntimeError: it ends, or ten minutes pass, before its first step.
    """
    import pty
    import select

    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "main.py", f"--config=configs/{config}.py", f"--workdir={workdir}/run"]
        environment = {**os.environ, "XDG_CACHE_HOME": str(cache), "COLUMNS": "120", "LINES": "40", "TERM": "xterm"}
        ours, theirs = pty.openpty()
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        output = ""
        try:
            while time.perf_counter() - start < LIMIT:
                if select.select([ours], [], [], 0.1)[0]:
                    try:
                        output += os.read(ours, 65536).decode(errors="replace")
                    except OSError:  # The other end of the terminal is closed: the process has ended.
                        break
                if steps_done(output):
                    return time.perf_counter() - start
                output = output[-20000:]
        finally:
            process.kill()
            process.wait()
            os.close(ours)
    last = ESCAPES.sub("", output).strip().splitlines()[-1:] or ["nothing was printed"]
    raise RuntimeError(f"configs/{config}.py came to no first step in {time.perf_counter() - start:.0f} s: {last[0].strip()}")


def starts(config: str, rounds: int) -> Row:
    """A second start against the first one, each pair with a cache folder of its own; the configuration's target trains first."""
    seconds: dict[str, list[float]] = {"cold": [], "second": []}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for name in seconds:
                seconds[name].append(first_step(config, Path(cache)))
    note = "to the end of the first chunk of the target's steps"
    return compared(f"start: configs/{config}.py", "its cold start", seconds["second"], seconds["cold"], None, note=note)


def imports(rounds: int) -> Row:
    """Importing what the main job needs against importing the libraries beneath it alone, each in a process of its own."""
    commands = {name: [sys.executable, "-c", code] for name, code in (("ours", OURS), ("libraries", LIBRARIES))}
    calls = {name: lambda command=command: subprocess.run(command, cwd=ROOT, check=True) for name, command in commands.items()}
    for call in calls.values():
        call()
    seconds = alternate(calls, rounds)
    return compared("imports of the main job", LIBRARIES, seconds["ours"], seconds["libraries"], None, note=f"ours: {OURS}")


def rows(settings: Settings) -> Iterator[Row]:
    """The imports, and a row a configuration; one pair of starts at small."""
    rounds = 1 if settings.size == "small" else settings.rounds
    if settings.wanted("imports of the main job"):
        yield imports(rounds)
    for config in CONFIGS[settings.size]:
        if settings.wanted(f"start: configs/{config}.py"):
            yield starts(config, rounds)


if __name__ == "__main__":
    command_line.run("startup", command_line.parse(__doc__), rows, torch=False)
