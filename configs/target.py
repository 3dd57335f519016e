"""A target classifier alone, with its log of steps.

    python main.py --config=configs/target.py
    python main.py --config=configs/target.py:mnist --data_dir=FOLDER --config.target.name=mlp

The slides "Adversarial AI" have 97.06 % for a perceptron on MNIST after 2,000 steps.
"""

import runpy
from pathlib import Path


def get_config(variant: str = "digits"):
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    config.experiment = "target"
    config.log_every = 100
    config.testing.operators = ()  # none is tested, so a target that some cannot mutate is fine
    return config
