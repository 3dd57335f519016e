"""AdvGAN alone (Xiao et al. 2018), tested by mutation testing.

python main.py --config=configs/advgan.py

Expected: more than 95 % misclassified, and a label change rate about twice the normal one.
"""

import runpy
from pathlib import Path


def get_config(variant: str = "digits"):
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    config.skip = ("mgan", "advgan_margin", "pgd", "pgd_mutants")
    return config
