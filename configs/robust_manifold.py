"""Invert and classify, plain and enhanced, on the network it was made for: the tables of the robust manifold defense.

    python main.py --config=configs/robust_manifold.py:mnist --data_dir=FOLDER              an mlp of about 97 %
    python main.py --config=configs/robust_manifold.py:mnist_lenet --data_dir=FOLDER        a lenet
    python main.py --config=configs/robust_manifold.py                                      scikit-learn's digits, an mlp

Jalal et al. 2017 (arXiv:1712.09196), Samangouei et al. 2018 (arXiv:1805.06605). Fields as in configs/defenses.py. Attacks that
know the defense are made by straight-through gradients and in the latent space of the generator. Variants: digits, mnist, smoke,
and each with _lenet.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

WHITE = "white box"


def row(arguments: dict, knowledge: str = WHITE, **more) -> dict:
    return {"knowledge": knowledge, "arguments": arguments, "batch_size": 100, **more}


def get_config(variant: str = "digits") -> ConfigDict:
    network = "lenet" if variant.endswith("_lenet") else "mlp"
    variant = variant.removesuffix("_lenet")
    config = runpy.run_path(Path(__file__).with_name("defenses.py"))["get_config"](variant)
    attacks = runpy.run_path(Path(__file__).with_name("attacks.py"))["get_config"](variant)
    mnist, smoke = variant == "mnist", variant == "smoke"
    if network == "mlp":
        config.target.name = "mlp"
        config.target.model = ConfigDict({"widths": (512, 256) if mnist else (64,)})
        # Small steps along the sign of its gradient ruin this network; see models.standardized.
        config.target.standardize = 0.03
        config.target.max_shift = 0
        config.target.epochs = 4 if mnist else 1 if smoke else 40
        if mnist:
            config.target.learning_rate = 5e-4
    config.generators.vae.code_size = 16
    config.generators.vae.epochs = 40 if mnist else 1 if smoke else 60
    config.generators.vae.batch_size = 100 if mnist else 50
    config.epsilon = 0.2
    shown = lambda: {"num_images": 200, "batch_size": 100, "masking": {"steps": (5, 20)}}  # noqa: E731
    brief = {"epochs": 2 if mnist else 1 if smoke else 10, "learning_rate": 1e-3, "batch_size": 100, "chunk_size": 50}
    inversion = {"num_restarts": 10, "num_steps": 20 if smoke else 200}
    config.defenses = ConfigDict({
        "invert_and_classify": {"generator": "vae", "arguments": {**inversion}, **shown()},
        # The classifier trained on as long, without the pairs: what is left of a gain is not theirs.
        "without_pairs": {
            "method": "enhanced_invert_and_classify",
            "generator": "vae",
            "search": {"eta": 1.5, "num_steps": 1},
            "arguments": {"mu": 0.0, **inversion},
            "training": {**brief},
            **shown(),
        },
        "enhanced_invert_and_classify": {
            "generator": "vae",
            "search": {"eta": 1.5 if mnist else 0.8, "num_steps": 10},
            "arguments": {"mu": 0.5, **inversion},
            "training": {**brief},
            **shown(),
        },
    }, sort_keys=False)  # fmt: skip
    aware = {"unaware": False, "defenses": tuple(config.defenses)}
    searching = {"method": "latent_space", **aware}
    unaware = {"defenses": ("none",)}
    fewer = {"num_steps": 20} if smoke else {}
    searched = {"num_searches": 5, "num_steps": 20 if smoke else 100, "learning_rate": 0.1}
    rows = {
        **{f"fgsm_{100 * e:02.0f}": row({"epsilon": e}, method="fgsm") for e in (0.05, 0.1, 0.2)},
        "pgd": row({"epsilon": 0.2, "num_steps": 20, "step_size": None}),
        # By an attacker who does not know which starts the defense drew.
        "pgd_expectation": row(
            {"num_draws": 2 if smoke else 4, "every_step": True}, method="expectation_over_transformations", **aware,
            attacks={"make_attack": {"name": "pgd", "epsilon": 0.2, "num_steps": 20, "step_size": None}},
        ),
        **{f"latent_space_{100 * e:02.0f}": row({"epsilon": e, **fewer}, **searching) for e in (0.1, 0.2, 0.3)},
        "latent_space_l2": row({"epsilon": 2.0, "norm": "l2", **fewer}, **searching),
        "square": row({"epsilon": 0.2, "num_queries": 10 if smoke else 50}, "scores"),
        "carlini_wagner_l2": row({**searched, "initial_constant": 0.1}, norm="l2", **unaware),
        "carlini_wagner_l2_straight_through": row(
            {"num_searches": 2, "num_steps": 10 if smoke else 40, "learning_rate": 0.1, "initial_constant": 10.0},
            method="carlini_wagner_l2", norm="l2", **aware,
        ),
        # Few steps and constants, as each step is an inversion: they begin with a constant that fools.
        "carlini_wagner_l0_straight_through": row(
            {"num_steps": 10, "learning_rate": 0.1, "initial_constant": 10.0, "largest_constant": 20.0},
            method="carlini_wagner_l0", norm="l0", **aware,
        ),
        "carlini_wagner_linf_straight_through": row(
            {"num_steps": 10 if smoke else 20, "learning_rate": 0.1, "initial_constant": 10.0, "tau_factor": 0.7},
            method="carlini_wagner_linf", norm="linf", **aware,
        ),
        "substitute_model_of_defended": {**attacks.attacks.substitute_model.to_dict(), "method": "substitute_model", **aware},
        "carlini_wagner_l0": {**attacks.attacks.carlini_wagner_l0.to_dict(), **unaware},
        "carlini_wagner_linf": {**attacks.attacks.carlini_wagner_linf.to_dict(), **unaware},
        "substitute_model": {**attacks.attacks.substitute_model.to_dict(), **unaware},
    }  # fmt: skip
    config.attacks = ConfigDict(rows, sort_keys=False)
    config.teachers = ConfigDict({})
    config.masking.update({"attack": "pgd", "black_box": "square", "single_step": "fgsm_20", "epsilon": 0.2,
                           "epsilons": (0.0, 0.05, 0.1, 0.2, 1.0)})  # fmt: skip
    config.testing.num_adaptive_images = 100 if mnist else 10 if smoke else 50
    config.testing.pictures = ("fgsm_10", "carlini_wagner_l2")
    enhanced = "enhanced_invert_and_classify"
    config.testing.compared = ((enhanced, "invert_and_classify"), (enhanced, "without_pairs"))
    return config
