"""Rows of the tables by hand examples."""

import numpy as np
import pytest

from mgan_jax.experiments.testing import Subject, attack_row, beside_mgan, subject


def decided(decisions):
    return Subject(np.zeros((len(decisions), 2, 2, 1), np.float32), np.asarray(decisions))


def test_a_targeted_attack_succeeds_where_it_reaches_its_goal_from_another_class():
    labels = np.array([0, 1, 2, 2, 1])
    clean, attacked = decided([0, 1, 2, 2, 0]), decided([2, 2, 2, 0, 2])
    free, aimed = attack_row(labels, clean, attacked, 3), attack_row(labels, clean, attacked, 3, np.full(5, 2))
    assert (free["targeted"], free["num_clean_correct"], free["success_rate"]) == (False, 4, 0.75)
    assert (aimed["targeted"], aimed["num_clean_correct"], aimed["success_rate"]) == (True, 2, 1.0)
    assert free["misclassification"] == aimed["misclassification"] == 0.8


def test_the_margin_is_between_the_first_logit_and_the_second():
    images = np.array([[5.0, 9.0, 7.5], [6.0, 4.0, 0.0]], np.float32).reshape(2, 1, 3, 1) / 10
    seen = subject(lambda variables, x: 10 * x.reshape(len(x), -1) - 4, {}, images)
    np.testing.assert_array_equal(seen.decisions, [1, 0])
    np.testing.assert_allclose(seen.margins, [1.5, 2.0], rtol=1e-5)
    assert attack_row(np.array([0, 1]), seen, seen, 3)["mean_margin"] == pytest.approx(1.75)


def test_the_difference_to_mgan_is_taken_where_both_flip_and_its_interval_is_paired():
    rng = np.random.default_rng(0)
    mgan, chosen = rng.random((40, 300)) < 0.2, rng.random(300) < 0.8
    more = mgan | (rng.random((40, 300)) < 0.1)
    every = np.ones(300, bool)
    row = beside_mgan((mgan, chosen), (more, every), seed=0)
    assert row["lcr_minus_mgan"] == pytest.approx(more[:, chosen].mean() - mgan[:, chosen].mean())
    low, high = row["lcr_minus_mgan_ci95"]
    assert 0 < low < row["lcr_minus_mgan"] < high < 0.12
    assert beside_mgan((mgan, chosen), (more, ~chosen), seed=0)["lcr_minus_mgan"] is None
