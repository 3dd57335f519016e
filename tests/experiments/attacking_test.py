"""What the rows of a comparison give to attacks that learn, and attacks on more images than a batch holds."""

import runpy
from pathlib import Path

import jax
import numpy as np
import pytest

from mgan_jax import engine
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.pgd import pgd
from mgan_jax.datasets.digits import digits
from mgan_jax.experiments.attacking import build_attack, fit, given_samples, in_batches, run_attack
from mgan_jax.experiments.attacks import check_row
from mgan_jax.experiments.training import Run
from mgan_jax.types import LearnedAttack, Split

CONFIG = Path(__file__).parent.parent.parent / "configs" / "attacks.py"


@pytest.fixture
def config():
    return runpy.run_path(CONFIG)["get_config"]("smoke")


def test_patches_are_to_look_like_training_images_of_the_class_alone(config, target, tmp_path):
    data, row = digits(0), config.attacks.patch_like_zeros
    row.samples_of = "7"
    samples = given_samples(row, "patch_like_zeros", build_attack(row, "patch_like_zeros", target[0], data), data)
    own = data.train.images[data.train.labels == 7]
    told = LearnedAttack(lambda key, variables, images, labels, samples=None: (images, samples), None)
    run = Run(config, tmp_path, 0, data, start=None)
    (images, learned_from), _ = fit(run, told, jax.random.key(0), target[1], 20, samples)
    np.testing.assert_array_equal(learned_from, own)
    np.testing.assert_array_equal(images, data.train.images[:20])
    del row.samples_of
    assert given_samples(row, "patch_like_zeros", told, data) == ()


@pytest.mark.parametrize(
    ("row", "samples_of", "said"),
    [("patch_like_zeros", "ten", "'ten'; choose a class: 0, 1"), ("adversarial_patch", "0", "learns from no samples"),
     ("pgd", "0", "learns from no samples")],
)  # fmt: skip
def test_samples_that_cannot_be_given_are_found_before_anything_runs(config, target, row, samples_of, said):
    settings = config.attacks[row].copy_and_resolve_references().unlock()
    settings.samples_of = samples_of
    config.attacks[row] = settings
    with pytest.raises(ValueError, match=said):
        check_row(config, row, target[0], digits(0))


@pytest.mark.parametrize(("name", "number"), [("perturbation_network_substitute", 1), ("perturbation_network_substitutes", 3)])
def test_a_network_that_learned_on_substitutes_is_judged_by_the_target(config, trained, tmp_path, name, number):
    classifier, variables, data = trained
    row, test = config.attacks[name], Split(data.test.images[:50], data.test.labels[:50])
    assert len(row.substitutes) == number and row.knowledge == "labels"
    row.fit_images = 500
    row.arguments.num_steps = 500
    for one, settings in row.substitutes.items():
        settings.networks.classifier = {"name": "mlp", "widths": (32 + len(one),)}
    run = Run(config, tmp_path, 0, data, start=None)
    arrays, numbers = run_attack(run, name, classifier, {}, variables, *test)
    clean, made = (engine.predictions(classifier.apply, variables, x) for x in (test.images, arrays["images"]))
    np.testing.assert_array_equal(arrays["success"], (clean == test.labels) & (made != test.labels))
    assert arrays["success"].mean() > 0.3
    extras = numbers["extras"]
    assert extras["fit_queries"] == (number + 1) * 500 and extras["num_substitutes"] == number
    assert 0.7 < extras["least_agreement"] <= 1


def test_an_attack_without_a_judge_learns_on_no_substitute(config, target):
    config.attacks.adversarial_patch.unlock().substitutes = config.attacks.perturbation_network_substitute.substitutes
    with pytest.raises(ValueError, match="judge"):
        check_row(config, "adversarial_patch", target[0], digits(0))


def test_batches_that_do_not_divide_are_filled_up_and_cut(trained):
    classifier, variables, data = trained
    test = Split(data.test.images[:7], data.test.labels[:7])
    targets = (test.labels + 1) % 10
    key = jax.random.key(0)
    whole = jax.jit(fgsm(classifier.apply, 0.2))(key, variables, *test, targets)
    for size in (3, 7, 100):
        made, seconds, compile_seconds = in_batches(fgsm(classifier.apply, 0.2), key, variables, test, targets, size)
        assert made.adversarial.shape == test.images.shape and min(seconds, compile_seconds) > 0
        assert (np.abs(made.adversarial - whole.adversarial) < 1e-5).mean() > 0.99
        np.testing.assert_array_equal(made.success, whole.success)


def test_every_batch_draws_for_itself(trained):
    classifier, variables, data = trained
    same = Split(np.repeat(data.test.images[:1], 5, 0), np.repeat(data.test.labels[:1], 5))
    attack = pgd(classifier.apply, 0.2, 1, 1e-3)
    made, _, _ = in_batches(attack, jax.random.key(0), variables, same, None, 2)
    key = jax.random.fold_in(jax.random.key(0), 2)
    second = jax.jit(attack)(key, variables, same.images[:2], same.labels[:2])
    np.testing.assert_array_equal(made.adversarial[2:4], second.adversarial)
    assert len(np.unique(made.adversarial.reshape(5, -1), axis=0)) == 5
