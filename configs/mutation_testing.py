"""Mutation testing of images that somebody else made.

python main.py --config=configs/mutation_testing.py --config.images=FILE.npz

FILE.npz holds `images` [N, H, W, C] (or [N, H, W]) in [0, 1], and may hold their true `labels` [N]. The target is trained first;
its test images are the normal set.
"""

import runpy
from pathlib import Path


def get_config(variant: str = "digits"):
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    config.experiment = "mutation_testing"
    config.images = ""
    return config
