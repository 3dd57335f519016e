"""The threat model loosened: the same MGAN against operators, rates, networks and detectors that it was not trained against.

    python main.py --config=configs/threat_models.py                             scikit-learn's digits
    python main.py --config=configs/threat_models.py:mnist --data_dir=FOLDER     MNIST

configs/mgan.py, and five more MGANs that leave one operator out, mutants of rates .01, .02 and .2, networks of another seed
and of another architecture, and detectors that adapt.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config(variant: str = "digits"):
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    if variant == "mnist":
        config.attacks.mgan.epochs = 2
    config.attacks.mgan.trained_on = ("all", *(f"without {operator}" for operator in ("GF", "WS", "NEB", "NAI", "NS")))
    config.threats = ConfigDict({
        "attacks": ("advgan", "mgan", "advgan_margin", "pgd", "pgd_mutants"),
        "rates": (0.01, 0.02, 0.2),
        "targets": {"another seed": {}, "lenet": {"name": "lenet"}},
    })  # fmt: skip
    return config
