"""Every defense under attacks that do not know it, and under attacks made against the defended network itself.

    python main.py --config=configs/defenses.py                                  scikit-learn's digits
    python main.py --config=configs/defenses.py:mnist --data_dir=FOLDER          MNIST
    python main.py --config=configs/defenses.py --config.rows=median_smoothing   one defense

A defense is `name: {arguments}`; `method`, where the name is not the defense's; `networks`, `optimizers` and `attacks`, arguments
that are models, Optax's or factories of attacks; `training`, of what it learns; `fit_images`, how many training images it gets;
`learned_from`, attacks of `attacks` or `teachers` that it learns from; `opponent`, mgan or advgan trained against the target, for
adversarial training; `generator`, one of `generators`; `of`, the defense whose network it starts from; `num_images` and
`num_adaptive_images`, where it is shown fewer than the others; `masking`, what replaces `config.masking`. An attack is as in
configs/attacks.py; `defenses` names those against which it is made, all without it; `unaware: False` is not made against the
undefended target. `testing.compared`: pairs of defenses that are compared image by image. Variants: digits, mnist, smoke.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

WHITE, SCORES = "white box", "scores"


def training(epochs: float, learning_rate: float, batch_size: int, chunk_size: int = 50) -> dict:
    return {"epochs": epochs, "learning_rate": learning_rate, "batch_size": batch_size, "chunk_size": chunk_size}


def classifier(name: str) -> dict:
    return {"classifier": {"name": name}}


def get_config(variant: str = "digits") -> ConfigDict:
    base = runpy.run_path(Path(__file__).with_name("mgan.py"))["get_config"](variant)
    mnist, smoke = variant == "mnist", variant == "smoke"
    config = ConfigDict()
    config.experiment = "defenses"
    for field in ("seed", "epsilon", "dataset", "target", "mutation", "protocols", "generator", "discriminator"):
        config[field] = base[field]
    config.target.name = "lenet"
    config.rows = ()  # names of defenses; empty: all
    config.skip = ()  # attacks, named below, that are not run
    epsilon = 0.3 if mnist else 0.2
    config.epsilon = epsilon
    linf, l2 = {"epsilon": epsilon}, 1.5 if mnist else 0.75
    pgd = {**linf, "num_steps": 40, "step_size": None}
    batch = 128 if mnist else 50
    robust = {**training(1 if smoke else 10 if mnist else 40, 5e-3, 100 if mnist else 50), "warmup": 0.4}
    plain = training(1 if smoke else 6 if mnist else 40, 2e-3, batch)
    brief = training(1 if smoke else 3 if mnist else 20, 2e-3, batch)
    size = {"code_size": 32 if mnist else 16}
    inversion = {"num_restarts": 10, "num_steps": 200}
    # An inversion costs 2,000 passes of the decoder an image, PixelDefend one for each value; so does a step of an attack on it.
    few = {"num_images": 200, "num_adaptive_images": 100, "batch_size": 100}
    brief_lines = {"steps": (5, 20), "epsilons": (0.0, 0.1, epsilon, 1.0), "black_box": "brief_square"}
    seldom = lambda: {**few, "masking": {**brief_lines}}  # noqa: E731
    part = {"fit_images": 10000 if mnist else 1000}
    denoiser = {"networks": {"network": {"name": "unet"}}, "learned_from": ("clean", "fgsm", "weak_pgd", "short_pgd"),
                "training": {**brief, "learning_rate": 5e-3}, **part}  # fmt: skip
    config.defenses = ConfigDict({
        "fast_adversarial_training": {
            "arguments": {**linf},
            "networks": classifier("strided_cnn"),
            "training": {**robust},
            "num_adaptive_images": 1000 if mnist else 100,
        },
        "two_step_adversarial_training": {
            "method": "fast_adversarial_training",
            "arguments": {**linf, "num_steps": 2, "step_size": epsilon * 2 / 3, "epsilon_warmup": 1000 if mnist else 100},
            "networks": classifier("strided_cnn"),
            "training": {**robust},
            "num_adaptive_images": 1000 if mnist else 100,
        },
        "fgsm_adversarial_training": {
            "method": "adversarial_training",
            "arguments": {"clean_weight": 0.5},
            "networks": classifier("strided_cnn"),
            "attacks": {"make_attack": {"name": "fgsm", **linf}},
            "training": {**robust, "epochs": robust["epochs"] / 2},
        },
        "pgd_adversarial_training": {
            "method": "adversarial_training",
            # Without a warm-up this network stays at chance on MNIST for 4 epochs, at rates of 5e-4, 2e-3 and 5e-3.
            "arguments": {"epsilon_warmup": 1000 if mnist else 100},
            "networks": classifier("strided_cnn"),
            "attacks": {"make_attack": {"name": "pgd", **linf, "num_steps": 7, "step_size": epsilon / 4}},
            "training": {**robust, "epochs": robust["epochs"] * 0.8},
            "num_adaptive_images": 1000 if mnist else 100,
        },
        # Robust features are rebuilt from it: robust within L-inf a network thresholds pixels and has no gradient at black ones.
        "l2_adversarial_training": {
            "method": "adversarial_training",
            "networks": classifier("strided_cnn"),
            "attacks": {"make_attack": {"name": "pgd", "norm": "l2", "epsilon": l2, "num_steps": 5, "step_size": l2 / 3}},
            "training": {**robust, "learning_rate": 2e-3, "epochs": robust["epochs"] * 0.3},
        },
        "mgan_adversarial_training": {
            "method": "adversarial_training",
            "arguments": {"clean_weight": 0.5},
            "networks": classifier("lenet"),
            "opponent": "mgan",
            "training": {**plain},
        },
        "defensive_distillation": {
            "arguments": {"temperature": 20.0},
            "networks": classifier("lenet"),
            "training": {**plain, "learning_rate": 1e-2},
        },
        # The slope is for those who attack it; see configs/detectors.py.
        "bit_depth": {
            "method": "squeezing",
            "arguments": {"squeeze": {"name": "bit_depth", "bits": 1, "slope": 10.0}, "differentiable": True},
        },
        "median_smoothing": {"method": "squeezing", "arguments": {"squeeze": {"name": "median", "size": 2}}},
        # Of strengths of 4, 20, 50, 80 and 120 levels the one that takes most of +-.3 from 100 MNIST validation images; the
        # paper's 2 and 4, for colour, take nothing.
        "non_local_means": {
            "method": "squeezing",
            "arguments": {"squeeze": {"name": "non_local_means", "search_window": 13, "patch_size": 3, "strength": 50.0},
                          "differentiable": True},
            **seldom(),
        },
        "guided_denoiser": {**denoiser},
        "pixel_guided_denoiser": {**denoiser, "method": "guided_denoiser", "arguments": {"guide": "pixels"}},
        "pixel_defend": {
            "arguments": {"epsilon": 0.3},
            "networks": {"density": {"name": "pixel_cnn", "width": 16, "num_layers": 3}},
            "training": {**brief},
            **part,
            **seldom(),
        },
        "invert_and_classify": {"generator": "vae", "arguments": {**inversion}, **seldom()},
        "enhanced_invert_and_classify": {
            "generator": "vae",
            "search": {"eta": 1.5 if mnist else 0.8, "num_steps": 20},
            "arguments": {**inversion},
            "training": {**brief},
            **seldom(),
        },
        "robust_features": {
            "of": "l2_adversarial_training",
            "arguments": {"num_steps": 10 if smoke else 100, "step_size": 0.2},
            "networks": classifier("lenet"),
            "training": {**plain},
            **part,
        },
        "non_robust_features": {
            "learned_from": ("towards",),
            "networks": classifier("lenet"),
            "training": {**plain},
            **part,
        },
    }, sort_keys=False)  # fmt: skip
    config.teachers = ConfigDict({
        "clean": {"method": "pgd", "arguments": {"epsilon": 0.0, "num_steps": 1}},
        "weak_pgd": {"method": "pgd", "arguments": {"epsilon": epsilon * 2 / 3, "num_steps": 5, "step_size": epsilon / 5}},
        "short_pgd": {"method": "pgd", "arguments": {**linf, "num_steps": 5, "step_size": epsilon / 4}},
        "towards": {"method": "pgd", "arguments": {"norm": "l2", "epsilon": 2.0, "num_steps": 20, "step_size": 0.25}},
    })  # fmt: skip
    generator = {**size, "epochs": 1 if smoke else 20 if mnist else 60, "batch_size": batch, "chunk_size": 50}
    players = {"decoder": {"name": "decoder"}, "critic": {"name": "critic"}}
    wider = {"decoder": {"name": "decoder", "widths": (256, 512)}} if mnist else {}
    config.generators = ConfigDict({
        "vae": {"method": "vae", **generator, "networks": {"encoder": {"name": "encoder"}, "decoder": {"name": "decoder"}}},
        # Equation 1 itself never leaves its start on MNIST: D is sure at once, and what G descends is flat there.
        "minimax_gan": {"method": "minimax_gan", **generator, "networks": {**players, **wider},
                        "arguments": {"learning_rate": 0.05, "saturating": False} if mnist else {}},
        # Five steps of the critic a batch, each with a part of it.
        "wgan_gp": {"method": "wgan_gp", **generator, "networks": players, "arguments": {"learning_rate": 1e-3},
                    "batch_size": 5 * batch},
    })  # fmt: skip
    inverting = ("invert_and_classify", "enhanced_invert_and_classify")
    costly = ("non_local_means", "pixel_defend", *inverting)
    cheap = ("none", *(name for name in config.defenses if name not in costly))
    trained = ("none", *(name for name in config.defenses if "classifier" in config.defenses[name].get("networks", {})))
    generated = ("none", "two_step_adversarial_training", "mgan_adversarial_training")
    config.attacks = ConfigDict({
        "fgsm": {"knowledge": WHITE, "arguments": {**linf}},
        "pgd": {"knowledge": WHITE, "arguments": pgd},
        "pgd_10_restarts": {
            "method": "pgd",
            "knowledge": WHITE,
            "arguments": {**pgd, "num_steps": 50, "step_size": 0.01, "num_restarts": 10},
            "defenses": trained,
        },
        "autoattack": {"knowledge": WHITE, "arguments": {**linf}, "defenses": (*trained, "bit_depth", "median_smoothing")},
        "square": {"knowledge": SCORES, "arguments": {**linf, "num_queries": 1000}, "defenses": cheap},
        "brief_square": {
            "method": "square",
            "knowledge": SCORES,
            "arguments": {**linf, "num_queries": 50},
            "defenses": ("none", *costly),
        },
        "latent_space": {
            "knowledge": WHITE,
            "arguments": {**linf},
            "unaware": False,
            "defenses": inverting,
            "batch_size": 100,
        },
        **{name: {**base.attacks[name].to_dict(), "knowledge": WHITE, "defenses": generated} for name in ("advgan", "mgan")},
        "carlini_wagner_l2": {
            "knowledge": WHITE,
            "defenses": cheap,
            "norm": "l2",
            "batch_size": 100,
            "arguments": {"num_steps": 20 if smoke else 100, "num_searches": 5, "learning_rate": 0.1, "initial_constant": 0.1},
        },
    }, sort_keys=False)  # fmt: skip
    config.masking = ConfigDict({
        "attack": "pgd",
        "black_box": "square",
        "single_step": "fgsm",
        "epsilon": epsilon,
        "epsilons": (0.0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 1.0),
        "steps": (10, 40, 100),
        "draws": 10,
    })  # fmt: skip
    config.testing = ConfigDict({
        "num_images": 1000 if mnist else 20 if smoke else 200,
        "num_adaptive_images": 200 if mnist else 20 if smoke else 100,
        "batch_size": 500,
        "pictures": ("fgsm", "pgd", "carlini_wagner_l2"),
        "compared": (),
    })  # fmt: skip
    if mnist:
        config.attacks.mgan.epochs = 3
    if smoke:
        config.attacks.pgd.arguments.num_steps = 5
        config.attacks.autoattack.arguments.update({"num_steps": 5, "num_queries": 20})
        config.attacks.square.arguments.num_queries = 50
        config.masking.epsilons, config.masking.steps, config.masking.draws = (0.0, epsilon, 1.0), (2, 5), 2
    return config
