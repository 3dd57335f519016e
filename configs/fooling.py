"""Noise that networks are sure of, and pictures that people read as one class and a network as another.

    python main.py --config=configs/fooling.py                                  scikit-learn's digits, a minute on 2 cores
    python main.py --config=configs/fooling.py:mnist --data_dir=FOLDER          MNIST, minutes on 2 cores

Goodfellow et al. 2015 (arXiv:1412.6572), rubbish class examples: one gradient-sign step from Gaussian noise, and the iterated
form of Nguyen et al. 2015 (arXiv:1412.1897). The quadratic cost 1/2 ||y_goal - y(x)||^2 + lambda ||x - x_target||^2, a curve
over lambda. Variants: digits, mnist, smoke.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config(variant: str = "digits") -> ConfigDict:
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    smoke = variant == "smoke"
    for name in ("skip", "attacks", "protocols", "epsilon", "mutation", "generator", "discriminator"):
        del config[name]
    config.experiment = "fooling"
    config.target.name = "lenet"
    if variant == "mnist":
        config.target.epochs = 6
    config.networks = ConfigDict({"lenet": {}, "mlp": {"name": "mlp"}}, sort_keys=False)
    config.testing.operators = ()  # no mutants here
    config.noise = ConfigDict({"mean": 0.5, "std": 0.25, "num_images": 10 if smoke else 200})  # images of each class
    config.one_step = ConfigDict({"method": "fooling", "arguments": {"step_size": 0.25, "num_steps": 1, "confidence": 0.5}})
    config.iterated = ConfigDict({"method": "fooling", "arguments": {"step_size": 0.01, "num_steps": 200}})
    config.confidences = (0.5, 0.99)  # where the iterated form stops
    config.quadratic = ConfigDict({
        "network": "mlp",
        "picture": 4,  # the class that people shall read
        "goals": (2, 3, 6, 8),  # those that the network shall read
        "noise_goal": 2,
        "confidence": 0.96,
        "num_starts": 10,  # random images to begin with; the surest result of each goal and lambda counts
        "distance_weights": (0.5, 0.1, 0.05, 0.02, 0.01, 0.007, 0.005, 0.004, 0.003, 0.002),
        "method": "gradient_descent",
        "arguments": {"num_steps": 20 if smoke else 500},
    })  # fmt: skip
    return config
