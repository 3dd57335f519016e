"""Measures against hand examples, closed forms and scikit-learn."""

import numpy as np
import pytest
from scipy.stats import kendalltau
from sklearn.metrics import roc_auc_score

from mgan_jax import metrics


def test_auroc_equals_scikit_learn_with_ties_and_by_hand():
    rng = np.random.default_rng(0)
    positive, negative = rng.integers(0, 6, 50) / 5, rng.integers(0, 4, 70) / 5
    expected = roc_auc_score(np.r_[np.ones(50), np.zeros(70)], np.r_[positive, negative])
    assert metrics.auroc(positive, negative) == pytest.approx(expected)
    assert metrics.auroc(np.array([2.0, 1.0]), np.array([1.0, 0.0])) == pytest.approx(3.5 / 4)
    assert metrics.auroc(np.array([]), np.array([1.0])) is None


def test_true_positive_rate_is_read_off_the_roc_curve():
    negative = np.arange(100.0)
    assert metrics.true_positive_rate(np.array([94.0, 94.5, 95.0, 200.0]), negative) == 0.75
    # Of two levels, .2 and .6 of the sets have the higher: a quarter of the ties at it is called.
    two_levels = [np.r_[np.ones(n), np.zeros(10 - n)] for n in (6, 2)]
    assert metrics.true_positive_rate(*two_levels) == pytest.approx(0.6 / 4)
    assert metrics.true_positive_rate(*(-scores for scores in two_levels)) == pytest.approx(0.4 * 0.05 / 0.8)
    assert metrics.true_positive_rate(np.ones(5), np.ones(100)) == pytest.approx(0.05)
    assert metrics.true_positive_rate(np.ones(0), np.ones(9)) is None


def test_a_paired_difference_by_hand():
    """10 pairs, 4 gained and 1 lost: (4.5 - 1.5) / 12, and the variance of that many, by Agresti and Min's table."""
    first, second = np.array([1, 1, 1, 1, 0, 1, 1, 0, 0, 0], bool), np.array([0, 0, 0, 0, 1, 1, 1, 0, 0, 0], bool)
    found = metrics.paired_difference(first, second)
    assert found["difference"] == pytest.approx(0.3) and found["num_images"] == 10
    half = 1.96 * np.sqrt(6 / 12 - 0.25**2) / np.sqrt(12)
    assert found["difference_ci95"] == pytest.approx((0.25 - half, 0.25 + half))
    low, high = metrics.paired_difference(first, first)["difference_ci95"]
    assert low < 0 < high


def test_wilson_by_hand():
    low, high = metrics.wilson(8, 10)
    assert (low, high) == (pytest.approx(0.4902, abs=1e-3), pytest.approx(0.9433, abs=1e-3))
    assert metrics.wilson(0, 0) is None


def test_two_way_bootstrap_covers_spread_between_mutants_that_images_alone_hide():
    flips = np.zeros((20, 400), bool)
    flips[:10] = True
    low, high = metrics.two_way_bootstrap([flips], lambda r: r[0].mean(), 500, 0.95, seed=0)
    assert low == pytest.approx(0.5 - 1.96 * np.sqrt(0.25 / 20), abs=0.06)
    assert high == pytest.approx(0.5 + 1.96 * np.sqrt(0.25 / 20), abs=0.06)
    assert metrics.two_way_bootstrap([np.zeros((0, 5), bool)], lambda r: r[0].mean(), 5, 0.95, 0) is None


def test_class_matched_rate_follows_the_adversarial_labels():
    rates, predicted = np.array([0.0, 0.2, 0.6]), np.array([0, 0, 1])
    assert metrics.class_matched(rates, predicted, np.array([0, 1, 1, 1])) == pytest.approx((0.1 + 3 * 0.6) / 4)
    assert metrics.class_matched(rates, predicted, np.array([5])) is None


def test_entropy_in_bits():
    assert metrics.entropy(np.array([4, 4, 4, 4])) == pytest.approx(2.0)
    assert metrics.entropy(np.array([7, 0])) == 0.0
    assert metrics.entropy(np.zeros(3)) is None


def test_transfer_counts_only_images_that_both_read_and_that_the_attack_wins():
    success = np.array([1, 1, 1, 0, 1], bool)
    source, other, fooled = np.array([1, 1, 1, 1, 0], bool), np.array([1, 1, 0, 1, 1], bool), np.array([1, 0, 1, 1, 1], bool)
    found = metrics.transfer(success, source, other, fooled)
    assert found == {"rate": 0.5, "ci95": metrics.wilson(1, 2), "n": 2}
    assert metrics.transfer(~success, source, ~other, fooled) == {"rate": None, "ci95": None, "n": 0}


def test_destruction_rate_is_kurakins_sum():
    clean, adversarial = np.array([1, 1, 1, 0, 1, 1], bool), np.array([0, 0, 1, 0, 0, 0], bool)
    transformed = np.array([1, 0, 1, 1, 1, 0], bool)
    found = metrics.destruction(clean, adversarial, transformed)
    c, a, t = (array.astype(int) for array in (clean, adversarial, transformed))
    assert found["rate"] == (c * (1 - a) * t).sum() / (c * (1 - a)).sum() == 0.5 and found["n"] == 4
    readable = np.array([1, 0, 1, 1, 0, 1], bool)
    assert metrics.destruction(clean & readable, adversarial, transformed)["rate"] == 0.5
    assert metrics.destruction(clean, np.ones(6, bool), transformed)["rate"] is None


def test_fooling_rate_by_hand():
    labels, clean, perturbed = np.array([0, 0, 1, 1, 2]), np.array([0, 1, 1, 1, 2]), np.array([2, 1, 0, 1, 2])
    whole = {"fooling": 2 / 5, "num_images": 5, "collateral": None, "num_others": 0}
    found = lambda *of: {k: v for k, v in metrics.fooling_rate(clean, perturbed, labels, *of).items() if not k.endswith("_ci95")}  # noqa: E731
    assert found() == whole
    single = {"fooling": 1 / 2, "num_images": 2, "collateral": 1 / 3, "num_others": 3}
    assert found([0]) == single
    assert metrics.fooling_rate(clean, perturbed, labels, target_label=2)["fooling"] == 1 / 4
    assert metrics.fooling_rate(clean, perturbed, labels, [7])["fooling"] is None


def test_ssim_is_the_formula_window_by_window():
    rng = np.random.default_rng(0)
    x = rng.random((2, 14, 13, 2))
    y = np.clip(x + rng.normal(0, 0.2, x.shape), 0, 1)
    taps = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(taps, taps) / np.outer(taps, taps).sum()
    for n in range(2):
        values = []
        for i in range(4):
            for j in range(3):
                for c in range(2):
                    a, b = x[n, i : i + 11, j : j + 11, c], y[n, i : i + 11, j : j + 11, c]
                    mu_a, mu_b = (window * a).sum(), (window * b).sum()
                    var_a, var_b = (window * (a - mu_a) ** 2).sum(), (window * (b - mu_b) ** 2).sum()
                    cov = (window * (a - mu_a) * (b - mu_b)).sum()
                    top = (2 * mu_a * mu_b + 0.01**2) * (2 * cov + 0.03**2)
                    values.append(top / ((mu_a**2 + mu_b**2 + 0.01**2) * (var_a + var_b + 0.03**2)))
        assert metrics.ssim(x, y)[n] == pytest.approx(np.mean(values), abs=1e-10)


def test_ssim_of_the_same_of_constant_and_of_small_images():
    x = np.random.default_rng(0).random((3, 8, 8, 1)).astype(np.float32)
    np.testing.assert_allclose(metrics.ssim(x, x), 1)
    assert (metrics.ssim(x, 1 - x) < 0).all()
    half, full = np.full((1, 28, 28, 1), 0.5), np.ones((1, 28, 28, 1))
    np.testing.assert_allclose(metrics.ssim(half, full), (1 + 1e-4) / (1.25 + 1e-4))
    np.testing.assert_allclose(metrics.ssim(half[:, :2, :1], full[:, :2, :1]), (1 + 1e-4) / (1.25 + 1e-4))


def test_kept_order_by_hand_and_by_scipy():
    clean = np.array([[0.6, 0.3, 0.1, 0.0], [0.1, 0.2, 0.3, 0.4], [1.0, 0.0, 0.0, 0.0]])
    # Of the first, class 2 is put first and nothing else changes; of the second class 0, then 2 before 3; the third is kept.
    adversarial = np.array([[0.6, 0.3, 0.9, 0.0], [0.9, 0.2, 0.5, 0.4], [1.0, 0.0, 0.0, 0.0]])
    made = metrics.kept_order(clean, adversarial)
    assert made == {"num": 2, "second": 0.5, "third": 0.5, "kendall": pytest.approx((1 + 1 / 3) / 2)}
    rng = np.random.default_rng(0)
    clean, adversarial = rng.normal(size=(2, 40, 6))
    changed = [n for n in range(40) if clean[n].argmax() != adversarial[n].argmax()]
    taus = [
        kendalltau(np.delete(clean[n], adversarial[n].argmax()), np.delete(adversarial[n], adversarial[n].argmax())).statistic
        for n in changed
    ]
    assert metrics.kept_order(clean, adversarial)["kendall"] == pytest.approx(np.mean(taus))
    assert metrics.kept_order(clean, clean) == {"num": 0, "second": None, "third": None, "kendall": None}
    assert metrics.kept_order(np.array([[1.0, 0.0]]), np.array([[0.0, 1.0]])) == {
        "num": 1, "second": 1.0, "third": None, "kendall": None,
    }  # fmt: skip


NOTHING = np.zeros(0, bool)


@pytest.mark.parametrize("found", [
    metrics.share(NOTHING, NOTHING), metrics.named("rate", NOTHING, NOTHING, "n"), metrics.transfer(*[NOTHING] * 4),
    metrics.destruction(*[NOTHING] * 3), metrics.paired_difference(NOTHING, NOTHING), metrics.wilson(0, 0),
    metrics.standard_error(0.0, 0), metrics.auroc(np.zeros(0), np.ones(3)), metrics.true_positive_rate(np.ones(3), np.zeros(0)),
    metrics.two_way_bootstrap([np.zeros((0, 3), bool)], np.mean, 2, 0.95, 0),
    metrics.two_way_bootstrap([np.zeros((3, 0), bool)], np.mean, 2, 0.95, 0),
    metrics.class_matched(np.zeros(0), np.zeros(0, int), np.zeros(0, int)), metrics.entropy(np.zeros(3)),
    metrics.fooling_rate(*[np.zeros(0, int)] * 3), metrics.kept_order(np.zeros((0, 3)), np.zeros((0, 3))),
])  # fmt: skip
def test_a_measure_of_nothing_is_no_number(found):
    values = found.values() if isinstance(found, dict) else [found]
    assert all(value is None or (isinstance(value, int) and value == 0) for value in values) and None in values
