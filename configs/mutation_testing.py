"""Mutation testing of images that somebody else made.

python main.py --config=configs/mutation_testing.py --config.images=FILE.npz

FILE.npz holds `images` [N, H, W, C] (or [N, H, W]) in [0, 1], and may hold their true `labels` [N]. The target is trained first;
its test images are the normal set.
"""

import importlib.util
from pathlib import Path


def get_config(variant: str = "digits"):
    spec = importlib.util.spec_from_file_location("mgan_config", Path(__file__).with_name("mgan.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(variant)
    config.experiment = "mutation_testing"
    config.images = ""
    return config
