"""Every attack on one target and one fixed set of images: success, distances, time, and what mutation testing sees of each.

    python main.py --config=configs/attacks.py                                  scikit-learn's digits
    python main.py --config=configs/attacks.py:mnist --data_dir=FOLDER          MNIST
    python main.py --config=configs/attacks.py --config.rows=pgd,jsma           two rows of it

A row is `name: {knowledge, arguments}`; `method`, where the name is not the attack's; `targeted`, for random classes to reach;
`networks`, `optimizers` and `attacks`, arguments that are models, Optax's or other attacks; `fit_images`, training images of an
attack that learns; `samples_of`, the class whose training images its patches are to look like; `substitutes`, networks trained on
the target's labels, on which it learns in the target's place; `norm` and `epsilon`, where they are not among the arguments.
Variants: digits, mnist, smoke.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

WHITE, SCORES, LABELS = "white box", "scores", "labels"


def row(knowledge: str = WHITE, method: str | None = None, arguments: dict | None = None, **more) -> dict:
    named = {"method": method} if method else {}
    return {"knowledge": knowledge, **named, "arguments": arguments or {}, **more}


def substitute(model: str, **more) -> dict:
    """Arguments of a substitute of the target that is trained on its labels."""
    return {
        "arguments": {"step_size": 0.2, "period": 1, **more},
        "networks": {"classifier": {"name": model}},
        "optimizers": {"optimizer": {"name": "adam", "learning_rate": 1e-3}},
    }


def attacks(epsilon: float, epsilon_l2: float, fit_images: int, steps: int) -> dict:
    """All rows; `steps` scales those that would take the most time."""
    linf, l2 = {"epsilon": epsilon}, {"epsilon": epsilon_l2, "norm": "l2"}
    searched = {"num_steps": steps, "learning_rate": 0.1}
    fewer = {"num_steps": steps // 2}
    patch_networks = {
        "generator": {"name": "autoencoder", "form": "dense", "widths": (128,), "output": "sigmoid"},
        "discriminator": {"name": "discriminator", "widths": (8, 16)},
    }
    learned = {"loss": "cross_entropy", "beta": 0.5, "num_steps": 15 * steps}
    # As published, with its reranking; what fools most images is ours, `learned`.
    published = {"target_label": 3, "num_steps": 30 * steps}
    dense = {"name": "autoencoder", "form": "dense", "widths": (512,)}
    # With a fixed beta: the smallest changes that fool a substitute fool little else.
    unseen = {
        "method": "adversarial_transformation_network",
        "arguments": {**learned, "beta": 0.002},
        "networks": {"network": dense},
        "fit_images": fit_images * steps // 100,
        "norm": "l2",
    }
    return {
        "fgsm": row(arguments=linf),
        "bim": row(arguments=linf),
        "pgd": row(arguments={**linf, "num_steps": 40, "step_size": 0.01}),
        "apgd": row(arguments=linf),
        "apgd_dlr": row(method="apgd", arguments={**linf, "loss": "dlr"}),
        "apgd_targeted_dlr": row(method="apgd", arguments={**linf, "loss": "targeted_dlr"}),
        "autoattack": row(arguments=linf),
        "fgsm_l2": row(method="fgsm", arguments=l2),
        "pgd_l2": row(method="pgd", arguments={**l2, "step_size": None}),
        "autoattack_l2": row(method="autoattack", arguments=l2),
        "square": row(SCORES, arguments=linf),
        "evolutionary": row(SCORES, arguments={**linf, "num_queries": 10000}),
        "substitute_model": row(
            LABELS,
            **substitute("cnn", num_rounds=5),
            attacks={
                "make_attack": {
                    "name": "variance_reduced_gradient",
                    "epsilon": epsilon,
                    "num_steps": 20,
                    "step_size": epsilon / 10,
                    "scale": 0.5,
                }
            },
            epsilon=epsilon,
            fit_images=300,
        ),
        "universal_perturbation": row(arguments={**linf, "num_steps": 15 * steps}, fit_images=min(fit_images, 5000)),
        "universal_one_class": row(
            method="universal_perturbation",
            arguments={**linf, "classes": (3,), "collateral_weight": 1.0},
            fit_images=min(fit_images, 2000),
        ),
        "universal_two_classes": row(
            method="universal_perturbation",
            arguments={**linf, "classes": (3, 7), "collateral_weight": 1.0},
            fit_images=min(fit_images, 2000),
        ),
        "deepfool": row(norm="l2"),
        "deepfool_linf": row(method="deepfool", arguments={"norm": "linf"}),
        "fab": row(arguments={"num_steps": steps}, batch_size=100),
        "fab_l2": row(method="fab", arguments={"num_steps": steps, "norm": "l2"}, batch_size=100),
        "lbfgs": row(arguments={"num_searches": 8, "num_evaluations": 30}, norm="l2"),
        "carlini_wagner_l2": row(arguments=searched, norm="l2", batch_size=100),
        "carlini_wagner_l2_targeted": row(
            method="carlini_wagner_l2", arguments=searched, norm="l2", batch_size=100, targeted=True
        ),
        "carlini_wagner_l0": row(
            arguments={**fewer, "learning_rate": 0.1, "initial_constant": 0.1, "largest_constant": 100.0},
            norm="l0",
            batch_size=100,
        ),
        "carlini_wagner_linf": row(
            arguments={**fewer, "learning_rate": 0.05, "initial_constant": 0.01}, norm="linf", batch_size=100
        ),
        "jsma": row(arguments={"outputs": "softmax", "gamma": 0.1}, norm="l0"),
        "jsma_targeted": row(method="jsma", arguments={"outputs": "softmax", "gamma": 0.145}, norm="l0", targeted=True),
        "few_pixel": row(
            SCORES, arguments={"num_pixels": 5, "population_size": 100, "num_generations": 50, "num_slots": 4}, norm="l0"
        ),
        "adversarial_patch": row(norm="l0", fit_images=fit_images),
        "adversarial_patch_generator": row(networks=patch_networks, norm="l0", fit_images=fit_images),
        "patch_like_zeros": row(
            method="adversarial_patch_generator",
            arguments={"num_steps": 20 * steps},
            networks=patch_networks,
            norm="l0",
            fit_images=fit_images,
            samples_of="0",
        ),
        "perturbation_network": row(
            method="adversarial_transformation_network",
            arguments={**learned, "success_rate": 0.94},
            networks={"network": dense},
            fit_images=5 * fit_images,
            norm="l2",
        ),
        "perturbation_network_reranking": row(
            method="adversarial_transformation_network",
            arguments={**published, "target_label": None, "aim": "runner_up"},
            networks={"network": dense},
            fit_images=5 * fit_images,
            norm="l2",
        ),
        "perturbation_network_targeted": row(
            method="adversarial_transformation_network",
            arguments=published,
            networks={"network": dense},
            fit_images=5 * fit_images,
            norm="l2",
        ),
        "perturbation_network_substitute": row(
            LABELS, **unseen, substitutes={"cnn": substitute("cnn", num_rounds=0, num_epochs=30)}
        ),
        "perturbation_network_substitutes": row(
            LABELS,
            **unseen,
            substitutes={name: substitute(name, num_rounds=0, num_epochs=30) for name in ("cnn", "lenet", "mlp")},
        ),
        "autoencoding_network": row(
            method="adversarial_transformation_network",
            arguments={**learned, "form": "autoencoding", "success_rate": 0.95},
            networks={"network": {**dense, "widths": (512, 512), "output": "sigmoid"}},
            fit_images=5 * fit_images,
            norm="l2",
        ),
        "autoencoding_network_reranking": row(
            method="adversarial_transformation_network",
            arguments={**published, "target_label": None, "aim": "runner_up", "form": "autoencoding"},
            networks={"network": {**dense, "widths": (512, 512), "output": "sigmoid"}},
            fit_images=5 * fit_images,
            norm="l2",
        ),
        "autoencoding_network_targeted": row(
            method="adversarial_transformation_network",
            arguments={**published, "form": "autoencoding"},
            networks={"network": {**dense, "widths": (512, 512), "output": "sigmoid"}},
            fit_images=5 * fit_images,
            norm="l2",
        ),
    }


def get_config(variant: str = "digits") -> ConfigDict:
    config = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    mnist, smoke = variant == "mnist", variant == "smoke"
    generators = {name: {**config.attacks[name].to_dict(), "knowledge": WHITE} for name in ("advgan", "mgan")}
    del config.skip
    config.experiment = "attacks"
    config.rows = ()  # names below, which leave out the curve, steps and kappas of all others; empty: all
    config.target.name = "lenet"
    config.protocols = ConfigDict({"qualified": config.protocols.qualified})
    config.testing.operators = ("GF", "NAI")
    config.testing.num_images = 1000 if mnist else 20 if smoke else 200
    rows = attacks(0.3, 2.0, 10000 if mnist else 1000, 10 if smoke else 100)
    config.attacks = ConfigDict({**rows, **generators}, sort_keys=False)
    config.curve = ConfigDict({
        "attacks": ("fgsm", "pgd", "apgd"),
        "epsilons": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 1.0),
        "steps_of": "bim",
        "steps": (10, 40, 100),
        "steps_epsilon": 0.1,
    })  # fmt: skip
    config.confidence = ConfigDict({
        "attack": "carlini_wagner_l2",
        "kappas": (0.0, 5.0, 10.0, 20.0, 30.0, 40.0),
        "num_images": 200 if mnist else 100,
        "batch_size": 100,
        # From the clean image 0 and 1 are 73 steps away from grey: a large kappa takes steps rather than searches.
        "arguments": {"num_steps": 200, "num_searches": 5, "initial_constant": 0.5, "learning_rate": 0.1},
    })  # fmt: skip
    if mnist:
        config.target.epochs = 6
        config.attacks.mgan.epochs = 3
    if smoke:
        config.curve.epsilons, config.curve.steps = (0.0, 0.3, 1.0), (5, 10)
        config.confidence.kappas, config.confidence.num_images = (0.0, 5.0), 10
        config.confidence.arguments.num_steps = 20
    return config
