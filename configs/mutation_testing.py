"""Mutation testing of images that somebody else made.

python main.py --config=configs/mutation_testing.py --config.images=FILE.npz

FILE.npz holds `images` [N, H, W, C] (or [N, H, W]) in [0, 1], and may hold their true `labels` [N]: then what the target
misclassifies is tested, else everything. The target is trained first; its test images are the normal set. A run's own
adversarial.npz has its images under other names: --config.array=images_mgan. No mutant is among those that MGAN and the other
attacks of the configuration learn from, at the same seed: images of a run are tested with its --config and --seed.
"""

import runpy
from pathlib import Path


def get_config(variant: str = "digits"):
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    config.experiment = "mutation_testing"
    config.images = ""
    config.array = "images"
    return config
