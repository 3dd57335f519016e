"""The whole of configs/mgan.py in seconds, on a handful of steps: every part runs, no number means anything.

python main.py --config=configs/smoke.py
"""

import runpy
from pathlib import Path


def get_config():
    return runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"]("smoke")
