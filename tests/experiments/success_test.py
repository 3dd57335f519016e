"""One definition of success: whatever counts it, counts the same images, untargeted, of drawn targets and of one class."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax.attacks.entry import checked
from mgan_jax.attacks.result import attack_result, robust_accuracy, success_rate
from mgan_jax.experiments import (
    attack_testing,
    attacks,
    curves,
    defenses,
    detectors,
    masking,
    measuring,
    mutation_testing,
    sweeps,
    transfer,
)
from mgan_jax.experiments.aims import aims
from mgan_jax.experiments.attacking import Attacked
from mgan_jax.experiments.defending import Defended
from mgan_jax.experiments.populations import NOTHING_USED
from mgan_jax.experiments.stages import Run
from mgan_jax.experiments.testing import attack_row, subject
from mgan_jax.models.mlp import mlp
from mgan_jax.success import fooled, tried, withstands
from mgan_jax.types import Classifier, Dataset, GenerativeAttack, Split, Variables

AIMS = {"untargeted": {}, "drawn targets": {"targeted": True}, "one class": {"arguments": {"target_label": 3}}}
NAME = "pgd"
CONFIG = {
    "epsilon": 0.3, "mutation": {"neuron_switch": {"min_neurons": 2}}, "target": {"name": "mlp"}, "dataset": {"name": "none"},
    "protocols": {"unfiltered": {"rate": 0.1, "min_accuracy_ratio": 0.0}},
    "testing": {"operators": (), "num_mutants": 2, "num_validation_mutants": 2, "num_images": None, "num_validation_images": 8,
                "method": "auto", "epsilon_shares": (1.0,)},
    "generator": {}, "discriminator": {},
    "curve": {"steps_of": NAME, "steps": (1,), "steps_epsilon": 0.3}, "defenses": {},
    "masking": {"attack": NAME, "epsilon": 0.3, "epsilons": (0.3,), "steps": (1,)},
}  # fmt: skip


def moved(images):
    """What the attack of this file makes of images: each becomes the next."""
    return images[np.roll(np.arange(len(images)), -1)]


class Case(NamedTuple):
    """A network, images of which it misreads some (`split`) and none (`right`), and an attack with one of the aims."""

    run: Run
    network: Classifier
    variables: Variables
    settings: ConfigDict
    split: Split
    right: Split

    def read(self, images):
        return np.asarray(self.network.apply(self.variables, images).argmax(-1))

    def by_hand(self, test):
        """(how many succeed, how many are tried), image by image."""
        aimed = aims(self.run, self.settings, NAME, test.labels)
        won = asked = 0
        for i, label in enumerate(test.labels):
            if self.read(test.images)[i] != label or (aimed is not None and aimed[i] == label):
                continue
            asked += 1
            new = self.read(moved(test.images))[i]
            won += new != label if aimed is None else new == aimed[i]
        return won, asked

    def attack(self, key, variables, images, labels, targets=None):
        return attack_result(self.network.apply, variables, images, moved(images), labels, targets)

    def made(self, test):
        result = self.attack(None, self.variables, test.images, test.labels, aims(self.run, self.settings, NAME, test.labels))
        kept = [np.asarray(of) for of in (result.adversarial, result.success, result.success_rounded, result.used)]
        return Attacked(*kept, {"seconds": 1.0, "compile_seconds": 0.0, "fit_seconds": None, "extras": {}, "out_of_bounds": 0,
                                "not_finite": 0})  # fmt: skip


def case_of(path, aim):
    network = mlp((8, 8, 1), 10, (12,))
    variables = network.init(jax.random.key(0))
    images = np.random.default_rng(1).random((60, 8, 8, 1)).astype(np.float32)
    read = np.asarray(network.apply(variables, images).argmax(-1))
    labels = np.where(np.arange(60) % 5 == 0, (read + 1) % 10, read).astype(np.int32)
    split, right = Split(images, labels), Split(images[labels == read], labels[labels == read])
    settings = ConfigDict({"knowledge": "white box", **AIMS[aim]})
    settings.arguments = ConfigDict({"epsilon": 0.3, **settings.get("arguments", {})})
    config = ConfigDict({**CONFIG, "attacks": {NAME: settings, "advgan": settings}})
    data = Dataset(split, split, split, 10, (8, 8, 1), tuple("0123456789"))
    run = Run(config, path, 0, data, lambda *of: lambda done, **numbers: None)
    return Case(run, network, variables, settings, split, right)


def of_result(case):
    result = case.made(case.split)
    aimed = aims(case.run, case.settings, NAME, case.split.labels)
    correct = case.read(case.split.images) == case.split.labels
    return case.split, result.success.sum() / tried(case.split.labels, correct, aimed).sum(), None


def of_rows(case):
    made = {(NAME, None): moved(case.split.images)}
    rows, *_ = measuring.measure(case.run, case.network, case.variables, case.split, made, judged=False)
    return case.split, rows[1]["success_rate"], rows[1]["num_clean_correct"]


def of_comparison_rows(case):
    rows = attack_testing.attack_rows(case.run, case.network, case.variables, case.split, {NAME: case.made(case.split)})
    return case.split, rows[NAME]["success_rate"], rows[NAME]["num_clean_correct"]


def of_generators(case):
    perturb = lambda state, images, scale: moved(images)  # noqa: E731
    generators = {("advgan", None): (GenerativeAttack(None, None, None, perturb, None, None), {"generator": {}})}
    (row,), _ = curves.epsilon_rows(case.run, case.network, case.variables, case.split, generators, NOTHING_USED)
    return case.split, row["success_rate"], row["num_clean_correct"]


def of_facts(case):
    row = attacks.facts(case.run.config, NAME, case.made(case.right), case.right)
    return case.right, row["success_rate"], row["num_images"]


def of_worst_cases(case):
    made = {NAME: case.made(case.right)}
    rows, read = {NAME: attacks.facts(case.run.config, NAME, made[NAME], case.right)}, {NAME: case.read(made[NAME].images)}
    found = attacks.worst_cases(rows, made, read, case.right.labels)
    return (case.right, found[0]["success_rate"], found[0]["num_images"]) if found else None


def of_epsilons(case):
    settings = sweeps.changed(case.settings, epsilon=(0.3, 0.3))
    row, _ = sweeps.bounds_rows(case.run, "curve", NAME, settings, case.network, case.variables, case.right)
    return case.right, row["success_rate"], row["num_images"]


def of_steps(case):
    (row,) = sweeps.step_rows(case.run, case.network, case.variables, case.right)
    return case.right, row["success_rate"], row["num_images"]


def of_masking(case):
    defended = Defended(case.run, case.network, case.variables, None, {}, 0.0)
    row, *_ = masking.curve_rows(defended, "none", case.split)
    return case.split, row["success_rate"], row["num_clean_correct"]


def of_defenses(case):
    made, correct = case.made(case.split), case.read(case.split.images) == case.split.labels
    row = defenses.row(case.run, None, "none", NAME, False, made, case.split, correct, case.read(made.images))
    return case.split, row["success_rate"], row["num_clean_correct"]


def of_detectors(case):
    row = detectors.attack_row(case.run, NAME, case.made(case.right), {}, case.right)
    return case.right, row["success_rate"], row["num_images"]


def of_transfer(case):
    made, goals = case.made(case.split), {NAME: case.settings.arguments.get("target_label")}
    decisions = {"net": {"clean": case.read(case.split.images), f"{NAME} net": case.read(made.images)}}
    _, (row,) = transfer.matrix_rows(case.split, {(NAME, "net"): made}, decisions, goals)
    return case.split, row["success_rate"], row["num_clean_correct"]


COUNTERS = (of_result, of_rows, of_comparison_rows, of_generators, of_facts, of_worst_cases, of_epsilons, of_steps, of_masking,
            of_defenses, of_detectors, of_transfer)  # fmt: skip
SWEPT = (of_epsilons, of_steps, of_masking)
"""Attacks that learn are not swept, and others are told of no class by their arguments; generators are given no targets."""


def stub_of(case):
    """`build_attack` that builds the case's attack, for one epsilon or several."""

    def built(settings, name, classifier, dataset):
        epsilon = settings["arguments"]["epsilon"]
        attack = checked(classifier.apply, lambda key, *of: case.attack(key, *of))
        if np.ndim(epsilon) == 0:
            return attack
        return lambda *of: jax.tree.map(lambda leaf: jnp.stack([leaf] * len(epsilon)), attack(*of))

    return built


@pytest.mark.parametrize("aim", AIMS)
def test_every_count_of_successes_is_the_one_definition(aim, tmp_path, monkeypatch):
    case = case_of(tmp_path, aim)
    for module in (sweeps, masking):
        monkeypatch.setattr(module, "build_attack", stub_of(case))
    wrong, counts = {}, set()
    for counter in COUNTERS:
        if (counter in SWEPT and aim == "one class") or (counter is of_generators and aim == "drawn targets"):
            continue
        found = counter(case)
        if found is None:
            assert counter is of_worst_cases and aim != "untargeted", "a worst case is of attacks of one aim"
            continue
        test, rate, count = found
        won, asked = case.by_hand(test)
        counts.add((won, asked))
        if rate != pytest.approx(won / asked) or count not in (None, asked):
            wrong[counter.__name__] = (rate, count, won / asked, asked)
    assert not wrong
    assert all(0 < won < asked for won, asked in counts), "an image succeeds, and another does not"


def test_success_is_that_of_a_loop_for_numpy_and_jax():
    labels, correct = np.array([0, 1, 2, 2, 1]), np.array([1, 1, 1, 1, 0], bool)
    decisions = np.array([2, 2, 2, 0, 2])
    for of in (np.asarray, jnp.asarray):
        given = of(labels), of(correct), of(decisions)
        np.testing.assert_array_equal(fooled(*given), [1, 1, 0, 1, 0])
        np.testing.assert_array_equal(fooled(*given, 2), [1, 1, 0, 0, 0])
        np.testing.assert_array_equal(tried(*given[:2], of(np.array([0, 0, 0, 2, 0]))), [0, 1, 1, 0, 0])


def test_an_answer_that_is_not_finite_is_no_success_and_no_class():
    """Of a network that answers NaN where an image is dark, in the rows as in the attack's own result."""
    network = lambda _, x: jnp.where(x.mean((1, 2, 3)) < 0.3, jnp.nan, 1.0)[:, None] * jnp.array([[0.0, 1.0, 0.0]])  # noqa: E731
    light, labels = np.full((2, 4, 4, 1), 0.5, np.float32), np.array([1, 1], np.int32)
    dark = light.copy()
    dark[1] = 0.0
    row = attack_row(labels, subject(network, {}, light), subject(network, {}, dark), 3)
    assert row["success_rate"] == 0 and row["misclassification"] == 0.5 and row["label_histogram"] == [0, 0, 0]
    assert attack_result(network, {}, light, dark, labels).success.sum() == 0


def test_given_images_that_are_read_as_no_class_are_not_tested():
    decisions = np.array([0, 1, -1, 2])
    np.testing.assert_array_equal(mutation_testing.tested_images(decisions, None), [1, 1, 0, 1])
    np.testing.assert_array_equal(mutation_testing.tested_images(decisions, np.array([0, 0, 0, 0])), [0, 1, 0, 1])


@pytest.mark.parametrize("targets", [None, 0], ids=["untargeted", "targeted"])
def test_an_answer_within_rounding_or_not_finite_neither_succeeds_nor_withstands(targets):
    """By a value of the image the network answers class 1, class 0 surely, class 0 by a hair, or NaN."""
    answers = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [1.0 + 1e-6, 1.0, 0.0], [jnp.nan, 1.0, 0.0]])
    network = lambda _, x: answers[(x[:, 0, 0, 0] * 4).astype(int)]  # noqa: E731
    images = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None, None] / 4, (4, 2, 2, 1))
    labels, clean = np.ones(4, np.int32), np.zeros_like(images)
    aims = None if targets is None else np.full(4, targets, np.int32)
    result = attack_result(network, {}, clean, images, labels, aims)
    np.testing.assert_array_equal(result.success, [0, 1, 0, 0])
    np.testing.assert_array_equal(result.withstood, [1, 0, 0, 0])
    assert robust_accuracy(result) == 0.25 and success_rate(result) == 0.25
    # A row goes by decisions, whatever the lead.
    row = attack_row(labels, subject(network, {}, clean), subject(network, {}, images), 3, aims)
    assert row["success_rate"] == 0.5 and row["num_adversarial"] == 2 and row["label_histogram"] == [2, 0, 0]
    shares = sweeps.withstood(np.asarray(result.success), np.asarray(result.withstood))
    assert shares["success_rate"] == shares["withstand_rate"] == 0.25


def test_an_image_withstands_a_targeted_attack_that_does_not_reach_its_target():
    labels, targets, decisions = np.array([1, 1, 1, 1, 0]), np.array([0, 0, 0, 1, 0]), np.array([0, 2, -1, 1, 2])
    correct = np.array([1, 1, 1, 1, 0], bool)
    for of in (np.asarray, jnp.asarray):
        given = of(labels), of(correct), of(decisions)
        np.testing.assert_array_equal(withstands(*given, of(targets)), [0, 1, 0, 1, 0])
        np.testing.assert_array_equal(withstands(*given), [0, 0, 0, 1, 0])


def test_the_rate_of_no_image_is_nan_in_arrays():
    network = mlp((4, 4, 1), 3, (4,))
    variables, images = network.init(jax.random.key(0)), jnp.zeros((2, 4, 4, 1))
    result = attack_result(network.apply, variables, images, images, (network.apply(variables, images).argmax(-1) + 1) % 3)
    assert np.isnan(success_rate(result))


@pytest.mark.parametrize("counter", [of_rows, of_comparison_rows, of_generators, of_masking, of_defenses, of_transfer, of_result])
def test_of_a_network_that_reads_nothing_correctly_there_is_no_success_rate(counter, tmp_path, monkeypatch):
    case = case_of(tmp_path, "untargeted")
    monkeypatch.setattr(masking, "build_attack", stub_of(case))
    wrong = Split(case.split.images, (case.read(case.split.images) + 1).astype(np.int32) % 10)
    case = case._replace(split=wrong, run=case.run._replace(dataset=case.run.dataset._replace(test=wrong, validation=wrong)))
    with np.errstate(invalid="ignore"):
        _, rate, count = counter(case)
    assert (rate is None and count == 0) if count is not None else np.isnan(rate)
