"""Every detector under every attack, attacks that know the detectors, and MGAN against all of them.

    python main.py --config=configs/detectors.py                                  scikit-learn's digits
    python main.py --config=configs/detectors.py:mnist --data_dir=FOLDER          MNIST
    python main.py --config=configs/detectors.py --config.rows=feature_squeezing  one detector

A detector is `name: {arguments}`; `method`, where the name is not the detector's; `networks`, arguments that are models;
`training`, of what it learns; `fit_images`, how many clean images it gets; `fit_on`, "validation" for what judges mutants;
`operator` and `rate`, where it evaluates mutants; `learned_from`, attacks that it learns from, each of which it is then tested
without; `threshold`, where it has one of its own. `joint` names the detectors that are one rule together. An attack is as in
configs/attacks.py. `adaptive`: attacks that know a detector; in place of one that counts votes they follow L_mutate of
`num_mutants` mutants of their own. `undetected`: weights in MGAN's loss of a hinge for each detector of the joint rule, a
training each. Variants: digits, mnist, smoke.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder


def training(epochs: float, learning_rate: float, batch_size: int, chunk_size: int = 50) -> dict:
    return {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "chunk_size": chunk_size}


def get_config(variant: str = "digits") -> ConfigDict:
    config = runpy.run_path(Path(__file__).with_name("attacks.py"))["get_config"](variant)
    mnist, smoke = variant == "mnist", variant == "smoke"
    for field in ("curve", "confidence"):
        del config[field]
    config.experiment = "detectors"
    config.skip = ()  # attacks, named below, that are not run
    rows = ("fgsm", "pgd", "pgd_l2", "deepfool", "jsma", "carlini_wagner_l2", "advgan", "mgan")
    attacks = {name: config.attacks[name] for name in rows}
    if mnist:
        attacks["fgsm"].arguments.epsilon = 0.108  # the paper of mutation testing: .35 of pixels standardized by .1307 and .3081
    config.attacks = ConfigDict(attacks, sort_keys=False)
    batch, epochs = (100, 5) if mnist else (50, 1 if smoke else 40)
    learned = lambda rate=2e-3, part=1.0: training(max(1, epochs * part), rate, batch)  # noqa: E731
    nai = {"operator": "NAI", "rate": 0.05, "fit_on": "validation", "fit_images": 1000 if mnist else 175}
    # Slope, for those who attack it: of 4 and 10 and the identity's derivative the strongest on 100 MNIST validation images.
    squeezers = ({"name": "bit_depth", "bits": 1, "slope": 10.0}, {"name": "median", "size": 2})
    decoder = {"name": "decoder", "code_size": 10, "widths": (256, 512)}
    mutants = 4 if smoke else 500 if mnist else 100
    config.detectors = ConfigDict({
        "label_change_rate": {**nai, "arguments": {"num_mutants": mutants}},
        # On MNIST's validation images, JSMA's 1,000 and 2,000 clean: 99.6 % detected, 7.1 % false positives, 26 mutants used; as
        # published, mu 1 and delta_ratio .1, 100, 14.1 and 38. The threshold is the test's own, log(.95 / .05).
        "sprt": {**nai, "arguments": {"num_mutants": mutants, **({"mu": 2.5, "delta_ratio": 0.2} if mnist else {})},
                 "threshold": 2.9444},
        "feature_squeezing": {"arguments": {"squeezers": squeezers, "differentiable": True}},
        "kernel_density": {"arguments": {"bandwidth": None}, "fit_images": 6000 if mnist else 1000},
        "autoencoder": {
            "networks": {"network": {"name": "autoencoder", "form": "convolutional", "widths": (8, 16), "output": "sigmoid"}},
            "training": learned(),
        },
        "reconstruction": {"networks": {"decoder": {**decoder}}, "training": learned()},
        "supervised_reconstruction": {
            "networks": {"decoder": {**decoder}, "classifier": {"name": "discriminator", "widths": (8, 16)}},
            "training": learned(part=0.5),
            "learned_from": ("fgsm", "pgd", "deepfool"),
            "fit_images": 3000 if mnist else 500,
        },
    }, sort_keys=False)  # fmt: skip
    config.joint = ("label_change_rate", "feature_squeezing", "kernel_density", "autoencoder", "reconstruction")
    config.adaptive = ConfigDict({
        "detectors": (*config.detectors, "joint"),
        "num_mutants": 4 if smoke else 16,
        "arguments": {"norm": "linf", "epsilon": 0.3, "num_steps": 5 if smoke else 200, "num_restarts": 1,
                      "step_size": placeholder(float)},  # the attack's own where none is given
        "num_images": 200 if mnist else 10 if smoke else 100,
        "batch_size": 100,
    })  # fmt: skip
    config.undetected = ConfigDict({"weights": (1.0,), "margin": 0.1})
    config.testing.num_fit_images = 10000 if mnist else 1000
    config.testing.num_validation_images = 5000 if mnist else 175
    config.testing.batch_size = 250
    if smoke:
        config.attacks.jsma.arguments.gamma = 0.05
    return config
