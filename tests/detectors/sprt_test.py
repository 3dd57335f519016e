"""The sequential test against a plain loop and the protocol's arithmetic."""

import math

import jax
import numpy as np
import pytest

from mgan_jax import engine, population
from mgan_jax.detectors.label_change_rate import label_change_rate
from mgan_jax.detectors.sprt import sequential_test, sprt, stopping_test, threshold
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing

pytestmark = pytest.mark.numerical


def by_loop(flips, kappa, alpha=0.05, beta=0.05, delta_ratio=0.1):
    p1, p0 = kappa * (1 + delta_ratio), kappa * (1 - delta_ratio)
    z = 0
    for n, flip in enumerate(flips, 1):
        z += bool(flip)
        ratio = z * math.log(p1 / p0) + (n - z) * math.log((1 - p1) / (1 - p0))
        if ratio >= math.log((1 - beta) / alpha):
            return "adversarial", n
        if ratio <= math.log(beta / (1 - alpha)):
            return "normal", n
    return "undecided", len(flips)


@pytest.mark.parametrize("kappa", [0.05, 0.3])
def test_equals_a_loop_that_tests_both_boundaries_after_every_mutant(kappa):
    rng = np.random.default_rng(0)
    flips = rng.random((400, 60)) < rng.choice([0.0, 0.04, 0.3, 0.6], 60)
    found = sequential_test(flips, kappa)
    for i in range(60):
        verdict, used = by_loop(flips[:, i], kappa)
        assert bool(found.adversarial[i]) == (verdict == "adversarial")
        assert bool(found.normal[i]) == (verdict == "normal")
        assert int(found.used[i]) == used


@pytest.mark.parametrize(("kappa", "mutants"), [(0.0441, 319), (0.0308, 463), (0.0124, 1173)])
def test_mutants_that_a_never_flipping_image_needs(kappa, mutants):
    assert int(sequential_test(np.zeros((1500, 1), bool), kappa).used[0]) == pytest.approx(mutants, abs=14)


@pytest.mark.parametrize("kappa", [0.0, 1.0, -0.2])
def test_a_threshold_that_is_no_rate_is_refused(kappa):
    with pytest.raises(ValueError, match="kappa"):
        sequential_test(np.zeros((3, 1), bool), kappa)


def test_threshold_by_hand():
    flips = np.array([[1, 0, 0, 0], [1, 0, 1, 0]], bool)
    rates = np.array([1.0, 0.0, 0.5, 0.0])
    expected = 2 * (rates.mean() + 2.5758 * rates.std(ddof=1) / 2)
    assert threshold(flips, mu=2.0) == pytest.approx(expected, rel=1e-4)


def test_detectors_score_a_planted_anomaly_higher_and_ignore_batch_order(trained):
    classifier, variables, data = trained
    images, labels = data.validation
    noise = jax.random.uniform(jax.random.key(9), (40, 8, 8, 1))
    for factory in (label_change_rate, sprt):
        detector = factory(classifier.apply, gaussian_fuzzing(rate=0.3), num_mutants=30, min_accuracy_ratio=0.5)
        state = detector.fit(jax.random.key(0), variables, images, labels)
        clean = np.asarray(detector.score(variables, state, data.test.images[:40]))
        strange = np.asarray(detector.score(variables, state, noise))
        assert strange.mean() > clean.mean()
        if detector.used:
            votes = engine.votes(classifier, state["mutants"], noise, variables)
            expected = sequential_test(votes != engine.predictions(classifier, variables, noise), state["kappa"])
            np.testing.assert_array_equal(detector.used(variables, state, noise), expected.used)
        reversed_scores = detector.score(variables, state, data.test.images[:40][::-1])
        np.testing.assert_allclose(np.asarray(reversed_scores)[::-1], clean, atol=1e-6)


def test_a_filter_that_nothing_passes_is_one_clear_error(trained):
    classifier, variables, data = trained
    detector = label_change_rate(classifier.apply, gaussian_fuzzing(rate=1.0, scale=50.0), 1, 1.0)
    with pytest.raises(ValueError, match="lower the mutation rate"):
        detector.fit(jax.random.key(0), variables, *data.validation)


def test_stopping_early_gives_the_same_verdicts_and_takes_fewer_mutants(trained, monkeypatch):
    classifier, variables, data = trained
    images = np.concatenate([data.test.images[:30], np.random.default_rng(0).random((30, 8, 8, 1), np.float32)])
    mutants = population.sample(gaussian_fuzzing(rate=0.5), jax.random.key(0), variables, 90)
    votes, taken = engine.votes, []

    def counted(network, part, rows, *arguments, **more):
        taken.append(len(jax.tree.leaves(part)[0]) * len(rows))
        return votes(network, part, rows, *arguments, **more)

    flips = votes(classifier, mutants, images, variables) != engine.predictions(classifier, variables, images)
    expected = sequential_test(flips, 0.3)
    assert expected.adversarial.any() and expected.normal.any()
    monkeypatch.setattr(engine, "votes", counted)
    for block in (1, 7, 100):
        taken.clear()
        found = stopping_test(classifier, variables, mutants, images, 0.3, block=block, batch_size=20)
        for ours, theirs in zip(found, expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        if block < 90:
            assert sum(taken) < flips.size
