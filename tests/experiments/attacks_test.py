"""The comparison of attacks on tiny settings, its arithmetic, and the lines that must hold."""

import json
import runpy
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.build import experiment
from mgan_jax.datasets.digits import digits
from mgan_jax.experiments import sanity, sweeps
from mgan_jax.experiments.attacking import Attacked
from mgan_jax.experiments.attacks import bound, check, check_row, chosen_rows, facts, tried, worst_cases
from mgan_jax.experiments.data import correct_images
from mgan_jax.experiments.options import Options
from mgan_jax.experiments.populations import NOTHING_USED
from mgan_jax.experiments.sanity import violated
from mgan_jax.experiments.training import Run
from mgan_jax.models.mlp import mlp
from mgan_jax.report.comparison import write_comparison
from mgan_jax.report.material import Material
from mgan_jax.types import Split

CONFIG = Path(__file__).parent.parent.parent / "configs" / "attacks.py"


@pytest.fixture(scope="module")
def config():
    config = runpy.run_path(CONFIG)["get_config"]("smoke")
    config.target.name = "mlp"
    config.rows = ("fgsm", "pgd", "pgd_l2", "universal_one_class")
    config.attacks.universal_one_class.arguments.num_steps = 5
    config.testing.operators = ("NAI",)
    config.curve.epsilons = (0.0, 0.3, 1.0)
    config.confidence.kappas = ()
    return config


def test_the_comparison_runs_keeps_its_parts_and_says_what_it_did(config, tmp_path, capsys, several_seeds, unsized):
    run = experiment("attacks")
    assert not violated(run(config, Options(tmp_path / "run"))[0])
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert not unsized(results)
    names = {row["attack"] for row in results["rows"]}
    assert names == {"fgsm", "pgd", "pgd_l2", "universal_one_class"}
    claims = {line["claim"]: line["holds"] for line in results["sanity"]}
    assert claims["pgd_l2: success at epsilon 0 is 0"] and claims["pgd_l2: success at epsilon 8 is 100 %"]
    (universal,) = (row for row in results["rows"] if row["attack"] == "universal_one_class" and "operator" not in row)
    assert universal["num_fooling"] == 2 and universal["num_collateral"] == 18, "those of one class were to be fooled"
    with np.load(tmp_path / "run" / "adversarial.npz") as kept:
        for row in results["rows"]:
            if row["attack"] != "universal_one_class":
                assert row["success_rate"] == kept[f"success_{row['attack']}"].mean()
            change = kept[f"images_{row['attack']}"] - kept["clean"]
            assert np.abs(change).max() <= 0.3 + 1e-6 or row["norm"] == "l2"
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Sanity" in page and "http" not in page.replace("http://www.w3.org", "")
    assert "DOES NOT HOLD" not in capsys.readouterr().out
    assert {row["attack"] for row in results["curve_rows"]} == {"fgsm", "pgd"}, "APGD's curve belongs to no chosen row"
    first = results["curve_rows"][0]
    assert first["epsilon"] == 0 and first["robust_accuracy"] == results["target"]["test_accuracy"], "clean accuracy"
    assert results["step_rows"] == [] and results["confidence_rows"] == []
    material = Material(*[np.zeros(0)] * 3, (), adversarial={}, lcr={}, epsilon_rows=[], history={}, threat_model=[])
    page = several_seeds(write_comparison, results, material)
    assert "universal_one_class (n = 2)" in page and "±0.7% of n = 2; " in page
    stages = sorted((tmp_path / "run" / "stages").glob("attack_*"))
    written = [path.stat().st_mtime_ns for path in stages]
    config = config.copy_and_resolve_references()
    config.rows = ("universal_one_class",)
    config.testing.operators = ()
    (alone,) = run(config, Options(tmp_path / "run"))
    assert not violated(alone) and alone["curve_rows"] == alone["worst_cases"] == []
    assert [path.stat().st_mtime_ns for path in stages] == written, "finished attacks are read"
    assert "Against epsilon" not in (tmp_path / "run" / "report.html").read_text()


def test_what_is_swept_belongs_to_a_chosen_row():
    config = runpy.run_path(CONFIG)["get_config"]()
    assert sweeps.chosen(config, chosen_rows(config)) == (["fgsm", "pgd", "apgd"], True, True)
    for rows, found in (
        (("deepfool",), ([], False, False)),
        (("apgd", "jsma"), (["apgd"], False, False)),
        (("bim",), ([], True, False)),
        (("carlini_wagner_l2",), ([], False, True)),
    ):
        config.rows = rows
        assert sweeps.chosen(config, chosen_rows(config)) == found
    config.testing.num_images = 1
    config.rows = ("deepfool",)
    check(config, digits(0))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c: c.update(rows=("jsma_targeted", 3)), "'3'"),
        (lambda c: c.curve.update(attacks=("universal_perturbation",)), "learns"),
        (lambda c: c.curve.update(attacks=("deepfool",)), "epsilon"),
        (lambda c: c.curve.update(epsilons=()), "epsilons"),
        (lambda c: c.curve.update(steps=(10, 5)), r"config.curve.steps are \(10, 5\)"),
        (lambda c: c.confidence.update(kappas=(-1.0,)), "-1"),
        (lambda c: c.confidence.update(kappas=(0.0,), num_images=0), "num_images is 0"),
        (lambda c: c.attacks.pgd.update(batch_size=0), "batch_size is 0"),
        (lambda c: c.attacks.pgd.update(knowledge="all"), "'all'"),
        (lambda c: c.testing.update(num_mutants=0), "num_mutants is 0"),
        (lambda c: c.update(rows=("mgan",)) or c.attacks.mgan.update(trained_on=("GF",)), "trained_on"),
        (lambda c: c.update(rows=("substitute_model",)) or c.attacks.substitute_model.update(epsilon=0.1), "both"),
        (
            lambda c: c.update(rows=("substitute_model",)) or c.attacks.substitute_model.optimizers.optimizer.update(name="no"),
            "Optax",
        ),
    ],
)
def test_mistakes_are_found_before_anything_runs(config, change, said):
    config = config.copy_and_resolve_references().unlock()
    config.rows = ()
    change(config)
    with pytest.raises(ValueError, match=said):
        check(config, digits(0))


def test_norm_and_bound_are_those_of_the_attack():
    rows = runpy.run_path(CONFIG)["get_config"]("smoke").attacks
    assert bound(rows.substitute_model, "substitute_model") == ("linf", 0.3)
    assert bound(rows.deepfool_linf, "deepfool_linf") == ("linf", None) and bound(rows.jsma, "jsma") == ("l0", None)
    assert bound(rows.pgd_l2, "pgd_l2") == ("l2", 2.0)
    del rows.pgd.arguments.epsilon
    assert bound(rows.pgd, "pgd") == ("linf", 0.3)


def test_apgd_with_each_of_its_losses_is_held_against_the_others(config):
    images, labels = np.zeros((4, 2, 2, 1)), np.arange(4)
    losses = {"apgd": "cross_entropy", "apgd_dlr": "dlr", "apgd_targeted_dlr": "targeted_dlr"}
    attacks = {name: made(np.arange(4) == i, images=images) for i, name in enumerate(losses)}
    own = {name: facts(config, name, one, Split(images, labels)) for name, one in attacks.items()}
    read = {name: np.where(one.success, labels + 1, labels) for name, one in attacks.items()}
    (worst,) = worst_cases(own, attacks, read, labels)
    assert worst["attacks"] == list(losses) and worst["success_rate"] == 0.75
    for name, loss in losses.items():
        assert own[name]["method"] in sanity.ITERATED and config.attacks[name].arguments.get("loss", "cross_entropy") == loss
        check_row(config, name, mlp((8, 8, 1), 10), digits(0))


def test_a_large_confidence_is_reached_where_the_network_allows_it(config, trained, tmp_path):
    classifier, variables, data = trained
    config = config.copy_and_resolve_references()
    full = runpy.run_path(CONFIG)["get_config"]()
    config.confidence.update(kappas=(20.0, 40.0), arguments=full.confidence.arguments)
    run = Run(config, tmp_path, 0, data, start=None)
    test = Split(data.test.images[:20], data.test.labels[:20])
    # The same decisions at twice the logits: as they are, this little network has hardly a lead of 40 to give.
    doubled = {**variables["params"], "output": {name: 2 * leaf for name, leaf in variables["params"]["output"].items()}}
    twenty, forty = sweeps.confidence_rows(run, classifier, {**variables, "params": doubled}, test, NOTHING_USED)
    assert twenty["success_rate"] == forty["success_rate"] == twenty["reached_rate"] == 1 and forty["reached_rate"] >= 0.9
    assert twenty["margin"] < 20 and twenty["l2"] < forty["l2"], "a third class may be closer behind than the true one"


def test_an_attack_on_a_class_without_images_has_no_rates(config):
    images = np.zeros((4, 2, 2, 1))
    row = facts(config, "universal_one_class", made(np.zeros(4, bool), images=images), Split(images, np.array([0, 1, 2, 4])))
    assert row["num_images"] == 0 and row["success_rate"] is None and row["median_l2"] is None and row["used_50"] is None


def test_an_attack_on_one_class_is_not_asked_to_reach_it_from_itself():
    labels = np.arange(10)
    assert tried({"arguments": {"target_label": 3}}, labels).sum() == 9
    assert np.flatnonzero(tried({"arguments": {"classes": (3, 7)}}, labels)).tolist() == [3, 7]


def test_rows_that_there_are_not_are_named(config):
    config = config.copy_and_resolve_references()
    config.rows = ("pgd,fgsm",)
    assert chosen_rows(config) == ["fgsm", "pgd"]
    config.rows = ("pgt",)
    with pytest.raises(ValueError, match=r"'pgt'.*pgd"):
        chosen_rows(config)


def made(success, used=1, images=None):
    success = np.asarray(success)
    images = np.zeros((len(success), 2, 2, 1)) if images is None else images
    numbers = {"seconds": 2.0, "compile_seconds": 1.0, "fit_seconds": None, "out_of_bounds": 0, "not_finite": 0, "extras": {}}
    return Attacked(images, success, success, np.broadcast_to(used, success.shape), numbers)


def test_worst_case_is_over_images_not_over_rates():
    rows = {
        name: {"norm": norm, "epsilon": epsilon, "knowledge": knows, "targeted": False, "some_classes": False}
        for name, norm, epsilon, knows in [
            ("a", "linf", 0.3, "white box"), ("b", "linf", 0.3, "white box"), ("c", "linf", 0.3, "scores"),
            ("d", "l2", 0.3, "white box"), ("e", "l2", None, "white box"),
        ]
    }  # fmt: skip
    attacks = {
        "a": made([1, 0, 0, 0]),
        "b": made([0, 1, 0, 0]),
        "c": made([0, 0, 0, 1]),
        "d": made([1, 1, 1, 1]),
        "e": made([1] * 4),
    }
    attacks = {name: one._replace(success=one.success.astype(bool)) for name, one in attacks.items()}
    # An image of b is misread within rounding: it neither is a success nor withstands.
    read = {name: one.success.astype(int) for name, one in attacks.items()} | {"b": np.array([0, 1, -1, 0])}
    worst = worst_cases(rows, attacks, read, np.zeros(4, int))
    assert worst[0]["success_rate"] == 0.5
    found = {(row["norm"], row["knowledge"]): row["withstand_rate"] for row in worst}
    assert found == {("linf", "white box"): 0.25, ("linf", "scores"): 0.75, ("l2", "white box"): 0.0}


def test_queries_at_half_of_the_images(config):
    config = config.copy_and_resolve_references()
    config.attacks.pgd.knowledge = "scores"
    images = np.zeros((4, 2, 2, 1))
    images[:, 0, 0] = 0.5
    one = made(np.array([True, True, True, False]), [30, 10, 20, 99], images)
    row = facts(config, "pgd", one, Split(np.zeros((4, 2, 2, 1)), np.arange(4)))
    assert row["used_50"] == 20 and row["used_90"] is None, "the second of four; only three of four ever succeed"
    assert row["median_l0"] == 1 and row["median_l2"] == 0.5 and row["seconds_per_1000"] == 500


def test_the_comparison_set_is_balanced_and_classified_correctly():
    labels = np.repeat(np.arange(3), 10).astype(np.int32)
    decisions = labels.copy()
    decisions[[0, 10, 20]] = (decisions[[0, 10, 20]] + 1) % 3
    split = Split(np.arange(30.0).reshape(30, 1, 1, 1), labels)
    chosen = correct_images(split, decisions, 15, np.arange(3))
    assert np.bincount(chosen.labels).tolist() == [5, 5, 5]
    assert not {0.0, 10.0, 20.0} & set(chosen.images.ravel())
    with pytest.raises(ValueError, match="choose fewer"):
        correct_images(split, decisions, 30, np.arange(3))


def test_sanity_lines_see_what_is_wrong(trained):
    classifier, variables, data = trained
    test = Split(data.test.images[:50], data.test.labels[:50])
    row = {"norm": "linf", "epsilon": 0.3, "targeted": False, "num_images": 1000, "out_of_bounds": 0, "not_finite": 0}
    two = {"norm": "l2", "epsilon": 2.0}
    rows = [
        {**row, "attack": "pgd", "method": "pgd", "knowledge": "white box", "success_rate": 0.5},
        {**row, "attack": "square", "method": "square", "knowledge": "scores", "success_rate": 0.6},
        {**row, **two, "attack": "fgsm_l2", "method": "fgsm", "knowledge": "white box", "success_rate": 0.9},
        {**row, **two, "attack": "pgd_l2", "method": "pgd", "knowledge": "white box", "success_rate": 0.05},
    ]
    limits = [
        {"attack": "bim", "method": "bim", "epsilon": 0.0, "success_rate": 0.01, "num_images": 100},
        {"attack": "bim", "method": "bim", "epsilon": 1.0, "success_rate": 0.99, "num_images": 100},
        {"attack": "fgsm_l2", "method": "fgsm", "epsilon": 8.0, "success_rate": 0.9, "num_images": 100},
        {"attack": "pgd_l2", "method": "pgd", "epsilon": 8.0, "success_rate": 1.0, "num_images": 100},
    ]
    curve = [
        {"attack": name, "epsilon": epsilon, "success_rate": rate, "num_images": 1000}
        for name, rates in (("fgsm", (0.0, 0.5, 0.6)), ("pgd", (0.0, 0.3, 0.99)))
        for epsilon, rate in zip((0.0, 0.3, 1.0), rates, strict=True)
    ]
    steps = [{"attack": "pgd", "num_steps": n, "success_rate": rate, "num_images": 1000} for n, rate in ((10, 0.5), (40, 0.2))]
    found = {one["claim"]: one["holds"] for one in sanity.checks(classifier, variables, test, rows, curve, steps, limits)}
    wrong = {claim for claim, holds in found.items() if not holds}
    assert wrong == {
        "pgd: success at epsilon 1 is 100 %",
        "pgd is nowhere weaker than fgsm",
        "pgd: more steps (10, 40) are not weaker",
        "black box is not stronger than white box (linf 0.3)",
        "pgd_l2 is not weaker than a single step (l2 2)",
        "bim: success at epsilon 0 is 0",
        "bim: success at epsilon 1 is 100 %",
    }
    assert "pgd_l2: success at epsilon 8 is 100 %" in found and "fgsm_l2: success at epsilon 8 is 100 %" not in found
    chosen = sanity.checks(classifier, variables, test, [rows[1], {**rows[0], "success_rate": 0.9}], [], [], [])
    of_others = {claim for claim in found if "bim" in claim or "l2" in claim}
    assert {one["claim"]: one["holds"] for one in chosen} == dict.fromkeys(set(found) - of_others, True), "a probe says the rest"
    weaker = [{**steps[0], "attack": "bim"}, {**steps[1], "attack": "bim"}]
    alone = sanity.checks(classifier, variables, test, rows[:1], [], weaker, [])
    assert [one["claim"] for one in alone if one["holds"] is False] == ["bim: more steps (10, 40) are not weaker"]
    assert not sanity.look_like_logits(np.full((4, 5), 0.2)) and sanity.look_like_logits(np.array([[3.0, -1.0]]))
    few, many = np.arange(100) < 50, np.arange(100) < 57
    assert sanity.not_fewer(many, few) and sanity.not_fewer(few, few) and not sanity.not_fewer(few, many)
    assert sanity.not_fewer(few, ~few) and sanity.not_fewer(few, np.roll(many, 50)), "as many others might be chance"
    assert sanity.not_weaker(0.5, 0.57, 100), "of other images seven points might be"
    assert sanity.not_weaker(0.49, 0.5, 1000) and not sanity.not_weaker(0.4, 0.5, 1000)
    flat = {
        **variables,
        "params": {**variables["params"], "output": {k: 0 * v for k, v in variables["params"]["output"].items()}},
    }
    steps_only = classifier._replace(apply=lambda v, x: jnp.round(classifier.apply(v, x) * 4) / 4)
    networks = [(classifier, variables), (steps_only, variables)]
    broken = {one["claim"] for one in sanity.of_images(networks, test, []) if one["holds"] is False}
    assert broken == {
        "gradients that are zero: at most 5%",
        "pgd: success at epsilon 1 is 100 %",
        "black box is not stronger than white box (linf 0.3)",
    }
    assert sanity.zero_gradients(classifier, flat, test) == 1 and sanity.zero_gradients(classifier, variables, test) < 0.05
