"""Defenses end to end on small networks: cells by hand, stages that are read again, mistakes in one line."""

import copy
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax import checkpoint, workdir
from mgan_jax.datasets.digits import digits
from mgan_jax.experiments import comparing, defenses, masking, options
from mgan_jax.experiments.options import Options
from mgan_jax.report.defenses import cell_table, compared_table, sentences, summary_table, worst_table, write_defenses
from mgan_jax.report.heatmap import words
from mgan_jax.report.material import PurifiedMaterial

TRAINING = {"epochs": 2, "learning_rate": 5e-3, "batch_size": 50, "chunk_size": 20}
SMALL = {"classifier": {"name": "mlp", "widths": (16,)}}
CONFIG = {
    "experiment": "defenses", "seed": 0, "epsilon": 0.2, "rows": (),
    "dataset": {"name": "digits", "num_validation": 350},
    "target": {"name": "mlp", "epochs": 3, "learning_rate": 5e-3, "batch_size": 50, "chunk_size": 20, "weight_decay": 0.0,
               "max_shift": 0, "standardize": 0.1},
    "attacks": {
        "fgsm": {"knowledge": "white box", "arguments": {"epsilon": 0.2}},
        "pgd": {"knowledge": "white box", "arguments": {"epsilon": 0.2, "num_steps": 5, "step_size": None}},
        "latent_space": {"knowledge": "white box", "unaware": False, "defenses": ("invert_and_classify",),
                         "arguments": {"epsilon": 0.2, "num_steps": 3, "inversion_steps": 3, "num_restarts": 2}},
        "expectation": {"knowledge": "white box", "unaware": False, "defenses": ("invert_and_classify",),
                        "method": "expectation_over_transformations", "arguments": {"num_draws": 2},
                        "attacks": {"make_attack": {"name": "fgsm", "epsilon": 0.2}}},
    },
    "teachers": {"short": {"method": "pgd", "arguments": {"epsilon": 0.2, "num_steps": 1}}},
    "generators": {"vae": {"method": "vae", "code_size": 4, "epochs": 1, "batch_size": 50, "chunk_size": 20,
                           "networks": {"encoder": {"name": "encoder", "widths": (8,)},
                                        "decoder": {"name": "decoder", "widths": (8,)}}}},
    "defenses": {
        "fast_adversarial_training": {"arguments": {"epsilon": 0.2}, "networks": SMALL, "training": TRAINING},
        "bit_depth": {"method": "squeezing", "arguments": {"squeeze": {"name": "bit_depth", "bits": 1}}},
        "invert_and_classify": {"generator": "vae", "arguments": {"num_restarts": 2, "num_steps": 3}, "num_images": 20,
                                "num_adaptive_images": 10, "masking": {"steps": (1, 2)}},
        "non_robust_features": {"learned_from": ("short",), "networks": SMALL, "training": TRAINING, "fit_images": 100},
        "robust_features": {"of": "fast_adversarial_training", "arguments": {"num_steps": 2}, "networks": SMALL,
                            "training": TRAINING, "fit_images": 100},
    },
    "masking": {"attack": "pgd", "black_box": "fgsm", "single_step": "fgsm", "epsilon": 0.2, "epsilons": (0.0, 0.2, 1.0),
                "steps": (1, 4), "draws": 2},
    "testing": {"num_images": 40, "num_adaptive_images": 30, "batch_size": 50, "pictures": ("pgd",), "operators": (),
                "method": "auto", "compared": (("fast_adversarial_training", "bit_depth"),)},
}  # fmt: skip


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp("defenses")
    defenses.run(ConfigDict(CONFIG), Options(path))
    return path, json.loads((path / "results.json").read_text())


def test_every_rate_has_its_interval_and_its_size(made, unsized):
    assert not unsized(made[1])


def test_every_cell_is_there_with_its_size(made):
    _, results = made
    names = ["none", *CONFIG["defenses"]]
    expected = [(d, a, aware) for d in names for aware in (False, True) for a in ("fgsm", "pgd")]
    expected += [("invert_and_classify", name, True) for name in ("latent_space", "expectation")]
    assert sorted((row["defense"], row["attack"], row["aware"]) for row in results["rows"]) == sorted(expected)
    for row in results["rows"]:
        wide, narrow = (20, 10) if row["defense"] == "invert_and_classify" else (40, 30)
        assert row["num_images"] == (narrow if row["aware"] else wide)
        low, high = row["robust_accuracy_ci95"]
        assert low <= row["robust_accuracy"] <= high


def test_a_defended_network_meets_attacks_of_its_own(made):
    path, results = made
    cells = {(row["defense"], row["attack"], row["aware"]): row["robust_accuracy"] for row in results["rows"]}
    assert cells["none", "pgd", True] < 0.2
    assert cells["bit_depth", "pgd", True] < cells["bit_depth", "pgd", False]
    kept = [np.load(path / folder / "stages" / "attack_pgd.npz")["images"] for folder in (".", "defenses/bit_depth")]
    assert len(kept[0]) == 40 and len(kept[1]) == 30


def test_the_worst_case_is_no_better_than_its_attacks(made):
    _, results = made
    for worst in results["worst_cases"]:
        knowing = [row["robust_accuracy"] for row in results["rows"] if row["defense"] == worst["defense"]
                   and row["aware"] and row["attack"] in worst["attacks"]]  # fmt: skip
        assert knowing and (not worst["aware"] or worst["robust_accuracy"] <= min(knowing))
    least = {(worst["defense"], worst["aware"]): worst["robust_accuracy"] for worst in results["worst_cases"]}
    assert all(least[name, True] <= least[name, False] for name in ("none", *CONFIG["defenses"]))


def test_a_larger_epsilon_takes_a_smaller_one_in():
    facts = {"norm": "linf", "targeted": False, "defense": "none"}
    rows = [{**facts, "attack": name, "epsilon": epsilon, "aware": aware}
            for name, epsilon, aware in (("pgd", 0.2, True), ("pgd", 0.2, False), ("substitute", 0.3, False))]  # fmt: skip
    kept = {("pgd", True): np.arange(4) < 1, ("pgd", False): np.arange(4) < 3, ("substitute", False): np.arange(4) > 0}
    found = {(one["epsilon"], one["aware"]): one["robust_accuracy"] for one in comparing.worst_cases(rows, kept)}
    assert found == {(0.2, False): 0.75, (0.2, True): 0.25, (0.3, False): 0.5, (0.3, True): 0.0}


def test_two_defenses_are_compared_image_by_image(made):
    _, results = made
    assert [(row["defense"], row["other"], row["attack"]) for row in results["compared"]] == [
        ("fast_adversarial_training", "bit_depth", attack) for attack in ("fgsm", "pgd")
    ]
    cells = {(row["defense"], row["attack"]): row["robust_accuracy"] for row in results["rows"] if row["aware"]}
    for row in results["compared"]:
        apart = cells["fast_adversarial_training", row["attack"]] - cells["bit_depth", row["attack"]]
        assert row["difference"] == pytest.approx(apart) and row["num_images"] == 30
        assert row["difference_ci95"][0] <= row["difference"] <= row["difference_ci95"][1]


def test_the_checklist_looks_at_what_it_names(made):
    _, results = made
    claims = [line["claim"] for line in results["checklists"]["bit_depth"]]
    assert len(claims) == 8 and "without a bound nothing withstands" in claims
    for name in ("none", *CONFIG["defenses"]):
        own = {(row["epsilon"], row["num_steps"]) for row in results["curve_rows"] if row["defense"] == name}
        steps = (1, 2) if name == "invert_and_classify" else (1, 4)
        assert own == {(0.0, steps[1]), (0.2, steps[1]), (1.0, steps[1]), (0.2, steps[0])}
    undefended = next(row for row in results["curve_rows"] if row["defense"] == "none" and row["epsilon"] == 0.0)
    assert undefended["success_rate"] == 0


def test_tables_and_a_page_come_of_it_and_a_second_start_reads(made):
    path, results = made
    for title, heads, lines in (summary_table(results), cell_table(results), worst_table(results), compared_table(results)):
        assert title and lines and all(len(line) == len(heads) for line in lines)
    assert sentences(results)
    page = (path / "report.html").read_text()
    assert (
        page.count("<img") == 2 + 1 + 2 + 2
        and "Before and after purification" in page
        and "training images of robust_features" in page
    )
    checked = page.split("Masked gradients?")[1]
    assert [name for name, lines in results["checklists"].items() if f"<h3>{words(name)}</h3>" in checked] == [
        name for name, lines in results["checklists"].items() if lines
    ]
    masked = copy.deepcopy(results)
    masked["checklists"]["bit_depth"][1].update(claim="black-box search is not stronger", holds=False)
    write_defenses(path / "masked.html", masked, PurifiedMaterial({}, {}, {}, np.zeros(0), ()))
    red = [
        row for row in (path / "masked.html").read_text().split("Masked gradients?")[1].split("<tr")[1:] if "broken" in row[:30]
    ]
    assert any("black-box search is not stronger" in row for row in red)
    times = {file: file.stat().st_mtime_ns for file in path.rglob("stages/*.npz")}
    # What no stage reads may change.
    config = ConfigDict(copy.deepcopy({**CONFIG, "masking": {**CONFIG["masking"], "single_step": "", "black_box": ""}}))
    config.attacks.pgd.defenses = ("none", *CONFIG["defenses"])
    defenses.run(config, Options(path))
    assert times == {file: file.stat().st_mtime_ns for file in path.rglob("stages/*.npz")}
    config.attacks.pgd.arguments.num_steps = 6
    with pytest.raises(workdir.WorkdirMismatch, match="num_steps: 5 there, 6 here"):
        defenses.run(config, Options(path))


def test_several_seeds_are_means_with_deviations(made, several_seeds):
    page = several_seeds(write_defenses, made[1], PurifiedMaterial({}, {}, {}, np.zeros(0), ()))
    assert "Every cell with its deviation" in page and "<!-- n = 40 -->" in page and "±" in page.split("<!-- n = 40 -->")[0]
    assert "bit depth, linf 0.2: " in page and " % of n = 30 (fewer than 50, too few to say anything) withstand" in page


def test_what_was_trained_against_a_generator_withstands_it_and_pairs_of_codes_are_searched(tmp_path):
    """An opponent is the attack's own row, and the enhanced form of inverting shares the generator of the plain one."""
    plain = CONFIG["defenses"]["invert_and_classify"]
    config = ConfigDict({
        **copy.deepcopy(CONFIG),
        "mutation": {}, "protocols": {}, "generator": {"widths": (4, 8), "num_residual_blocks": 1},
        "discriminator": {"widths": (4, 8)},
        "attacks": {
            "pgd": {**CONFIG["attacks"]["pgd"], "defenses": ("none",)},
            "advgan": {"knowledge": "white box", "defenses": ("none",), "epochs": 10, "learning_rate": 5e-3, "batch_size": 50,
                       "chunk_size": 20, "arguments": {"alpha": 0.1, "kappa": 3.0}},
        },
        "defenses": {
            "advgan_adversarial_training": {"method": "adversarial_training", "arguments": {"clean_weight": 0.5},
                                            "networks": SMALL, "opponent": "advgan", "training": {**TRAINING, "epochs": 10}},
            "invert_and_classify": {**plain},
            "enhanced_invert_and_classify": {**plain, "search": {"eta": 0.5, "num_steps": 2}, "training": TRAINING},
        },
        "masking": {**CONFIG["masking"], "black_box": "", "single_step": "", "epsilons": (0.0, 0.2), "steps": (1, 2)},
        "testing": {**CONFIG["testing"], "compared": ()},
    })  # fmt: skip
    (results,) = defenses.run(config, Options(tmp_path))
    kept = {row["defense"]: row["robust_accuracy"] for row in results["rows"] if row["attack"] == "advgan" and not row["aware"]}
    assert kept["none"] < 0.5 < kept["advgan_adversarial_training"]
    assert (tmp_path / "checkpoints" / "advgan").is_dir(), "trained once, for the attack and the opponent"
    clean = {one["defense"]: one["clean_accuracy"] for one in results["defenses"]}
    assert list(clean) == ["none", *config.defenses] and all(0 <= value <= 1 for value in clean.values())
    inverting = ("invert_and_classify", "enhanced_invert_and_classify")
    states = [checkpoint.restore(tmp_path / "defenses" / name / "checkpoints" / "state")["state"] for name in inverting]
    assert ["classifier" in state for state in states] == [False, True], "the enhanced form trains one"


def changed(name, **changes):
    """The section of a defense with some fields replaced."""
    return {"defenses": {**CONFIG["defenses"], name: {**CONFIG["defenses"].get(name, {}), **changes}}}


@pytest.mark.parametrize(("change", "message"), [
    (changed("invert_and_classify", generator="gan"), "there is no generator 'gan'"),
    (changed("robust_features", of="later"), "of is 'later'"),
    (changed("non_robust_features", learned_from=("none",)), "learned_from names 'none'"),
    (changed("non_robust_features", learned_from=("short", "pgd")), "2 attacks"),
    ({**changed("non_robust_features", learned_from=("universal",)),
      "teachers": {"universal": {"method": "universal_perturbation"}, **CONFIG["teachers"]}}, "universal, which learns on"),
    ({"generators": {"vae": {**CONFIG["generators"]["vae"], "method": "minimax_gan", "arguments": {"critic_steps": 3},
                             "networks": {"decoder": {"name": "decoder"}, "critic": {"name": "critic"}}}}}, "multiple of"),
    (changed("enhanced_invert_and_classify", generator="vae", search={"eta": 0.5, "outputs": "logits"}), "logits and softmax"),
    (changed("invert_and_classify", num_images=0), r"are \(0, 0\)"),
    (changed("none"), "stands for the undefended target"),
    (changed("squeezing", arguments={"squeeze": {"name": "sharpen"}}), "sharpen"),
    ({"masking": {**CONFIG["masking"], "attack": "square"}}, "square"),
    ({"masking": {**CONFIG["masking"], "epsilons": (0.0, 0.1, 1.0)}}, r"epsilon is 0.2, none of .* the target, \(0.0, 0.1"),
    (changed("invert_and_classify", masking={"epsilons": (0.3,)}), "epsilon is 0.2, none of the epsilons of invert_and_classify"),
    ({"masking": {**CONFIG["masking"], "steps": (5, 2)}}, r"steps of the target are \(5, 2\)"),
    (changed("invert_and_classify", masking={"black_box": "square"}), "square"),
    ({"testing": {**CONFIG["testing"], "compared": (("bit_depth", "nothing"),)}}, "compared names 'nothing'"),
    ({"testing": {**CONFIG["testing"], "compared": (("bit_depth", "invert_and_classify"),)}}, "30 and 10 images"),
    ({"rows": ("nothing",)}, "nothing"),
    ({"attacks": {**CONFIG["attacks"], "expectation": {**CONFIG["attacks"]["expectation"], "unaware": True}}}, "redraw"),
    ({"attacks": {**CONFIG["attacks"], "latent_space": {**CONFIG["attacks"]["latent_space"],
                                                        "defenses": ("invert_and_classify", "bit_depth")}}}, "decode"),
    (changed("again", **CONFIG["defenses"]["invert_and_classify"], method="invert_and_classify", fit_images=100),
     "share the generator vae"),
])  # fmt: skip
def test_mistakes_are_found_before_anything_runs(change, message):
    config = ConfigDict({**copy.deepcopy(CONFIG), **change})
    with pytest.raises(ValueError, match=message):
        defenses.check(config, digits(0))


def test_the_checklist_leaves_out_what_is_skipped_and_the_config_stays():
    config = ConfigDict({**copy.deepcopy(CONFIG), "skip": ("fgsm",)})
    config.testing.pictures = ("fgsm", "pgd")
    left = masking.without_skipped(options.without_skipped(config))
    assert (left.masking.attack, left.masking.black_box, left.masking.single_step) == ("pgd", "", "")
    assert left.testing.pictures == ("pgd",)
    assert config.masking.black_box == "fgsm" and config.testing.pictures == ("fgsm", "pgd")
    defenses.check(left, digits(0))


def test_one_defense_brings_the_one_it_stands_on():
    config = ConfigDict(CONFIG)
    assert defenses.with_bases(config, ["robust_features"]) == ["none", "fast_adversarial_training", "robust_features"]
