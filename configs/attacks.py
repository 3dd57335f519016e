"""Every attack on one target and one fixed set of images: success, distances, time, and what mutation testing sees of each.

    python main.py --config=configs/attacks.py                                  scikit-learn's digits, minutes on 2 cores
    python main.py --config=configs/attacks.py:mnist --data_dir=FOLDER          MNIST, an hour on 2 cores
    python main.py --config=configs/attacks.py --config.rows=pgd,jsma           two rows of it

Variants: digits, mnist, smoke.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

WHITE, SCORES, LABELS = "white box", "scores", "labels"


def get_config(variant: str = "digits") -> ConfigDict:
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    mnist, smoke = variant == "mnist", variant == "smoke"
    generators = {name: {**config.attacks[name].to_dict(), "knowledge": WHITE} for name in ("advgan", "mgan")}
    del config.skip
    config.experiment = "attacks"
    config.rows = ()  # names below; empty: all
    config.target.name = "lenet"
    config.protocols = ConfigDict({"qualified": config.protocols.qualified})
    config.testing.operators = ("GF", "NAI")
    config.testing.num_images = 1000 if mnist else 20 if smoke else 200
    config.attacks = ConfigDict({
        "fgsm": {"knowledge": WHITE, "arguments": {"epsilon": 0.3}},
        "bim": {"knowledge": WHITE, "arguments": {"epsilon": 0.3}},
        "pgd": {"knowledge": WHITE, "arguments": {"epsilon": 0.3, "num_steps": 40, "step_size": 0.01}},
        "pgd_l2": {"method": "pgd", "knowledge": WHITE, "arguments": {"norm": "l2", "epsilon": 2.0, "step_size": None}},
        **generators,
    })  # fmt: skip
    config.curve = ConfigDict({
        "attacks": ("fgsm", "pgd"),
        "epsilons": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 1.0),
        "steps_of": "bim",
        "steps": (10, 40, 100),
        "steps_epsilon": 0.1,
    })  # fmt: skip
    config.confidence = ConfigDict({
        "attack": "carlini_wagner_l2",
        "kappas": (0, 5, 10, 20, 30, 40),
        "num_images": 200 if mnist else 100,
        "batch_size": 100,
        "arguments": {"num_steps": 200, "binary_search_steps": 5, "learning_rate": 0.05},
    })  # fmt: skip
    if smoke:
        config.curve.epsilons, config.curve.steps = (0.0, 0.3, 1.0), (5, 10)
        config.confidence.kappas, config.confidence.num_images = (0, 5), 10
        config.confidence.arguments.num_steps = 20
    return config
