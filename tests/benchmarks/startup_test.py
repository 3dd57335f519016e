"""When a start has made its first steps is read from its progress bar, and peak memory is the process's own."""

import subprocess
import sys
from pathlib import Path

from benchmarks import startup

ROOT = Path(__file__).parents[2]


def test_the_first_chunk_is_read_from_the_progress_bar():
    begun = "\x1b[?25l\r\x1b[2Ktarget           \x1b[38;5;237m━━━━━━━━━━\x1b[0m  0/30"
    assert startup.steps_done("reading 3/4 of the data") == 0
    assert startup.steps_done(begun) == 0
    assert startup.steps_done(begun + "\r\x1b[2Ktarget           \x1b[38;5;197m━━\x1b[0m━━━━━━━━  5/30  3.1 steps/s") == 5


def test_the_peak_of_a_small_process_does_not_hold_its_parents_memory():
    held = bytearray(2**29)
    held[::4096] = b"x" * len(held[::4096])
    code = "from benchmarks.scaling import peak_bytes; print(peak_bytes())"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert 2**20 < int(done.stdout) < len(held)
