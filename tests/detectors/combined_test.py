"""Ranks and the joint rule by hand, against SciPy, and on clean images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import percentileofscore

from mgan_jax.detectors.combined import clean_ranks, combined, rank, threshold
from mgan_jax.types import Detector

pytestmark = pytest.mark.numerical


def pixel(column, scale=1.0):
    """A detector whose score is a pixel, in units of its own."""
    score = lambda variables, state, images: scale * images[:, 0, column, 0]  # noqa: E731
    return Detector(lambda key, variables, images, labels: {"seen": len(images)}, score)


def on_host(column):
    """The same, which NumPy alone computes, with ties."""
    score = lambda variables, state, images: np.round(np.asarray(images)[:, 0, column, 0] * 4)  # noqa: E731
    return Detector(lambda key, variables, images, labels: None, score)


def draws(number, seed, columns=3):
    return np.random.default_rng(seed).random((number, 1, columns, 1), np.float32)


def test_threshold_is_the_least_that_keeps_the_share():
    scores = np.random.default_rng(0).permutation(20) + 1.0
    assert threshold(scores, 0.05) == 19 and threshold(scores, 0.049) == 20 and threshold(scores, 0.0) == 20
    for share in (0.05, 0.1, 0.33):
        limit = threshold(scores, share)
        assert (scores > limit).mean() <= share < (scores >= limit).mean()
    assert threshold(np.r_[np.zeros(90), np.ones(10)], 0.05) == 1
    assert threshold(np.r_[np.zeros(95), np.full(3, np.inf), np.full(2, np.nan)], 0.05) == 0
    with pytest.raises(ValueError, match="more than 5 of 100 clean scores are infinite"):
        threshold(np.r_[np.zeros(94), np.full(6, np.inf)], 0.05)
    for wrong in ((scores, 1.0), (scores, -0.1), (np.zeros(0), 0.1)):
        with pytest.raises(ValueError, match="choose a share"):
            threshold(*wrong)


def test_ranks_are_scipys_between_lines_and_go_on_beyond_the_largest():
    clean = np.asarray([3.0, 1.0, 1.0, 2.0, 7.0])
    found = rank(clean_ranks(clean), jnp.asarray([1.0, 2.0, 3.0, 7.0]))
    np.testing.assert_allclose(found * 100, percentileofscore(clean, [1.0, 2.0, 3.0, 7.0], kind="mean"), rtol=1e-5)
    between = rank(clean_ranks(clean), jnp.asarray([0.0, 2.5, 12.0, 17.0]))
    np.testing.assert_allclose(between, [0.2, 0.6, 0.9 + 1, 0.9 + 2], rtol=1e-5)
    slopes = jax.vmap(jax.grad(lambda s: rank(clean_ranks(clean), s[None])[0]))(jnp.asarray([1.5, 2.5, 5.0, 30.0]))
    np.testing.assert_allclose(slopes, [0.3, 0.2, 0.05, 0.2], rtol=1e-5)


def test_scores_that_are_all_the_same_still_show_what_exceeds_them():
    np.testing.assert_allclose(rank(clean_ranks(np.zeros(9)), jnp.asarray([-1.0, 0.0, 0.3])), [0.5, 0.5, 0.8], rtol=1e-6)


def test_the_joint_score_is_the_largest_rank_whatever_the_units():
    images = draws(400, 0)
    small, large = ({"first": pixel(0), "second": pixel(1, scale)} for scale in (1.0, 1e3))
    scores = []
    for detectors in (small, large):
        detector = combined(detectors)
        state = detector.fit(jax.random.key(0), {}, images, np.zeros(400, np.int32))
        assert state["first"]["state"]["seen"] == 200
        scores.append(jax.jit(detector.score)({}, state, draws(100, 1)))
    np.testing.assert_allclose(*scores, rtol=1e-4)
    uniform = draws(100, 1)[:, 0, :2, 0].max(1)
    np.testing.assert_allclose(scores[0], uniform, atol=0.12)


def test_false_positives_are_those_allowed_and_each_detector_sees_its_own_anomaly():
    detector = combined({"first": pixel(0), "second": on_host(1)})
    state = detector.fit(jax.random.key(0), {}, draws(600, 0) / 2, np.zeros(600, np.int32))
    limit = threshold(detector.score({}, state, draws(1000, 1) / 2), 0.05)
    fresh = np.asarray(detector.score({}, state, draws(1000, 2) / 2))
    assert (fresh > limit).mean() < 0.08
    for column in (0, 1):
        strange = draws(50, 3) / 2
        strange[:, :, column] = 1.0
        assert (np.asarray(detector.score({}, state, strange)) > limit).all()


def test_the_derivative_is_that_of_the_detector_that_is_most_alarmed():
    detector = combined({"first": pixel(0), "second": pixel(1)})
    state = detector.fit(jax.random.key(0), {}, draws(100, 0), np.zeros(100, np.int32))
    tested = jnp.asarray([[[[0.2], [3.0], [0.5]]], [[[5.0], [0.1], [0.5]]]])
    gradient = jax.grad(lambda x: detector.score({}, state, x).sum())(tested)
    np.testing.assert_array_equal(gradient[..., 0] > 0, [[[False, True, False]], [[True, False, False]]])


def test_mistakes_are_refused():
    for wrong in (({},), ({"first": pixel(0)}, 1.0)):
        with pytest.raises(ValueError, match="choose at least one"):
            combined(*wrong)
    with pytest.raises(ValueError, match="of 3 images"):
        combined({"first": pixel(0)}, 0.01).fit(jax.random.key(0), {}, draws(3, 0), np.zeros(3, np.int32))
