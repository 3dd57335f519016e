"""What networks learned, in pictures: weights, activations, saliency, and images of nothing that they are sure of.

    python main.py --config=configs/visualize.py                                  scikit-learn's digits, 2 minutes on 2 cores
    python main.py --config=configs/visualize.py:mnist --data_dir=FOLDER          MNIST, ten minutes on 2 cores

Expected: what an attack changes grows from layer to layer more than what noise of the same size does, 3 times as much at LeNet's
logits; a linear network's weights show digits. Variants: digits, mnist, smoke.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict


def get_config(variant: str = "digits") -> ConfigDict:
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    mnist, smoke = variant == "mnist", variant == "smoke"
    del config.skip
    config.experiment = "visualize"
    config.target.name = "lenet"
    if mnist:
        config.target.epochs = 4
    config.networks = ConfigDict({  # changes to config.target
        "linear": {"name": "linear", "max_shift": 0},
        "mlp": {"name": "mlp", "max_shift": 0},
        "lenet": {},
    }, sort_keys=False)  # fmt: skip
    config.testing.num_images = 20 if smoke else 200  # correctly classified ones that are attacked
    config.testing.operators = ()  # no mutants here
    config.attacks = ConfigDict({"pgd": {"arguments": {"epsilon": 0.3 if mnist else 0.2, "num_steps": 40, "step_size": 0.01}}})
    config.shown = ConfigDict({"activations": 2, "saliency": 5})  # images
    config.smooth_grad = ConfigDict({"num_samples": 50, "noise_level": 0.15})
    # Aimed at each class in turn, from an image of noise and from a black one.
    config.fooling = ConfigDict({"step_size": 0.01, "num_steps": 200, "confidence": 0.99})
    if smoke:
        config.attacks.pgd.arguments.num_steps = 5
        config.smooth_grad.num_samples = 3
        config.fooling.num_steps = 5
    return config
