"""The whole of configs/mgan.py in seconds, on a handful of steps: every part runs, no number means anything.

python main.py --config=configs/smoke.py
"""

import importlib.util
from pathlib import Path


def get_config():
    spec = importlib.util.spec_from_file_location("mgan_config", Path(__file__).with_name("mgan.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config("smoke")
