"""Every experiment with every kind of its stages, on networks and numbers that take seconds."""

import runpy
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

CONFIGS = Path(__file__).parent.parent.parent / "configs"
TRAINING = {"epochs": 1, "learning_rate": 1e-3, "batch_size": 50, "chunk_size": 1}
DECODER = {"name": "decoder", "widths": (8,)}
CLASSIFIER = {"classifier": {"name": "mlp", "widths": (16,)}}
FGSM = {"knowledge": "white box", "arguments": {"epsilon": 0.2}}
PGD = {"knowledge": "white box", "arguments": {"epsilon": 0.2, "num_steps": 2, "step_size": None}}


def of_mgan(config, place):
    config.attacks.pgd.arguments.num_steps = config.attacks.pgd_mutants.arguments.num_steps = 2
    config.testing.operators, config.testing.num_validation_images = ("NAI",), 100
    config.threats = {"attacks": ("pgd",), "rates": (0.2,), "targets": {"another": {"model": {"widths": (16,)}}}}
    config.protocols.qualified.min_accuracy_ratio = 0.1


def of_attacks(config, place):
    config.rows = ("fgsm", "bim", "pgd_l2", "universal_perturbation", "carlini_wagner_l2", "advgan")
    config.attacks.universal_perturbation.arguments.num_steps = 5
    config.attacks.carlini_wagner_l2.arguments.update({"num_steps": 5, "num_searches": 2})
    config.curve.update({"attacks": ("fgsm",), "epsilons": (0.0, 0.3), "steps": (1, 2)})
    config.confidence.update({"kappas": (0.0,), "num_images": 5, "batch_size": 5})
    config.confidence.arguments.update({"num_steps": 5, "num_searches": 1})
    config.testing.operators, config.protocols.qualified.min_accuracy_ratio = ("NAI",), 0.1


def of_detectors(config, place):
    counting = {"operator": "GF", "rate": 0.1, "fit_on": "validation", "fit_images": 50,
                "arguments": {"num_mutants": 2, "min_accuracy_ratio": 0.1}}  # fmt: skip
    config.attacks = ConfigDict({"fgsm": FGSM, "pgd": PGD, "mgan": config.attacks.mgan}, sort_keys=False)
    config.detectors = ConfigDict({
        "label_change_rate": counting, "feature_squeezing": {},
        "supervised_reconstruction": {
            "networks": {"decoder": {**DECODER, "code_size": 10}, "classifier": {"name": "discriminator", "widths": (4,)}},
            "training": TRAINING, "learned_from": ("fgsm", "pgd"), "fit_images": 100,
        },
    }, sort_keys=False)  # fmt: skip
    config.joint, config.adaptive.detectors = ("label_change_rate", "feature_squeezing"), ("label_change_rate", "joint")
    config.adaptive.update({"num_mutants": 2, "num_images": 10})
    config.adaptive.arguments.num_steps = 2
    config.testing.update({"num_fit_images": 100, "num_validation_images": 60, "batch_size": 60})


def of_defenses(config, place):
    generated = {**config.attacks.advgan.to_dict(), "defenses": ("none",)}
    config.attacks = ConfigDict({"fgsm": FGSM, "pgd": PGD, "advgan": generated}, sort_keys=False)
    config.teachers = ConfigDict({"short": {"method": "pgd", "arguments": {"epsilon": 0.2, "num_steps": 1}}})
    networks = {"encoder": {"name": "encoder", "widths": (8,)}, "decoder": DECODER}
    vae = {"method": "vae", "code_size": 4, "epochs": 1, "batch_size": 50, "chunk_size": 1, "networks": networks}
    config.generators = ConfigDict({"vae": vae})
    learned = {"networks": CLASSIFIER, "training": TRAINING, "fit_images": 100}
    config.defenses = ConfigDict({
        "fast_adversarial_training": {"arguments": {"epsilon": 0.2}, **learned},
        "opposed": {"method": "adversarial_training", "opponent": "advgan", **learned},
        "bit_depth": {"method": "squeezing", "arguments": {"squeeze": {"name": "bit_depth", "bits": 1}}},
        "invert_and_classify": {"generator": "vae", "arguments": {"num_restarts": 2, "num_steps": 2}, "fit_images": 100},
        "non_robust_features": {"learned_from": ("short",), **learned},
        "robust_features": {"of": "fast_adversarial_training", "arguments": {"num_steps": 2}, **learned},
    }, sort_keys=False)  # fmt: skip
    config.masking.update({"black_box": "fgsm", "epsilons": (0.0, 0.2, 1.0), "steps": (1, 2), "draws": 1})
    config.testing.update({"num_adaptive_images": 10, "pictures": ("pgd",)})


def of_transfer(config, place):
    networks = {"mlp": {}, "other": {"seed_offset": 1}}
    config.networks = ConfigDict(networks, sort_keys=False)
    config.learners = ConfigDict({"nearest_neighbours": {"n_neighbors": 1}})
    config.attacks = ConfigDict({"fgsm": {"arguments": {"epsilon": 0.3}}})
    config.testing.num_images, config.transformations = 20, ConfigDict({"rounding": (8,)})


def of_visualize(config, place):
    config.networks = ConfigDict({"mlp": {}})
    config.testing.num_images, config.fooling.num_steps = 20, 2
    config.shown = ConfigDict(dict.fromkeys(config.shown, 2))


def of_fooling(config, place):
    config.networks = ConfigDict({"mlp": {}})
    config.noise.num_images, config.iterated.arguments.num_steps = 2, 2
    config.quadratic.update({"num_starts": 1, "distance_weights": (0.1,), "goals": (2,)})
    config.quadratic.arguments.num_steps = 2


def of_mutation_testing(config, place):
    np.savez(place / "images.npz", images=np.random.default_rng(0).random((10, 8, 8, 1), np.float32))
    config.images, config.testing.operators = str(place / "images.npz"), ("NAI",)


def of_trials(config, place):
    config.trials = ConfigDict({"plain": {}, "surer": {"attacks": {"mgan": {"arguments": {"kappa": 3.0}}}}}, sort_keys=False)
    config.testing.operators, config.protocols.qualified.min_accuracy_ratio = ("NAI",), 0.1


EXPERIMENTS = {name.removeprefix("of_"): change for name, change in dict(globals()).items() if name.startswith("of_")}
EXPERIMENTS["target"] = lambda config, place: None


def small(name, place):
    """The configuration of an experiment, which may lay files in `place`."""
    config = runpy.run_path(CONFIGS / f"{name}.py")["get_config"]("digits" if name == "target" else "smoke").unlock()
    config.target.update({"name": "mlp", "epochs": 8, "chunk_size": 40, "learning_rate": 5e-3})
    config.target.model = ConfigDict({"widths": (32,)})
    if "generator" in config:
        config.generator.update({"widths": (4, 8), "num_residual_blocks": 1})
        config.discriminator.widths = (4, 8)
    EXPERIMENTS[name](config, place)
    return config
