"""AdvGAN alone (Xiao et al. 2018), tested by mutation testing.

python main.py --config=configs/advgan.py

Expected: more than 95 % misclassified, and a label change rate about twice the normal one.
"""

import importlib.util
from pathlib import Path


def get_config(variant: str = "digits"):
    spec = importlib.util.spec_from_file_location("mgan_config", Path(__file__).with_name("mgan.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(variant)
    for name in ("mgan", "advgan_margin", "pgd", "pgd_mutants"):
        del config.attacks[name]
    return config
