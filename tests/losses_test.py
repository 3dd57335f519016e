"""Losses by hand, on logits of any sign."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import losses

pytestmark = pytest.mark.numerical

LOGITS = jnp.array([[3.0, 1.0, -2.0], [-5.0, -4.0, -9.0]])
LABELS = jnp.array([0, 0])


def test_margin_and_hinges_by_hand_with_all_negative_logits():
    np.testing.assert_allclose(losses.margin(LOGITS, LABELS), [2.0, -1.0])
    np.testing.assert_allclose(losses.untargeted_hinge(LOGITS, LABELS, 0.5), (2.0 - 0.5) / 2)
    np.testing.assert_allclose(losses.targeted_hinge(LOGITS, jnp.array([1, 1]), 10.0), (2.0 - 1.0) / 2)


def test_a_lead_within_rounding_does_not_fool_and_has_the_margins_gradient():
    logits = jnp.asarray([[9.0, 9.0 + 5e-5], [9.0, 9.0 + 5e-4], [9.0, 9.0], [-1e4, -1e4 + 0.05], [jnp.inf, jnp.inf]])
    labels = jnp.zeros(5, jnp.int32)
    np.testing.assert_allclose(losses.margin_to_fool(logits, labels)[:4], [0.0, -5e-4, 0.0, 0.0], rtol=1e-2)
    assert not losses.margin_to_fool(logits, labels)[4] < 0
    np.testing.assert_array_equal(losses.margin_to_fool(logits, labels, 1 - labels), losses.margin_to_fool(logits, labels))
    slopes = jax.grad(lambda z: losses.margin_to_fool(z, labels[:4]).sum())(logits[:4])
    np.testing.assert_array_equal(slopes, [[1, -1]] * 4)
    # A class that is ruled out has no say in what decides between two others.
    masked = jnp.asarray([[9.0, 9.0 + 5e-4, -1e9], [9.0, 9.0 + 5e-5, -1e9]])
    np.testing.assert_allclose(losses.margin_to_fool(masked, labels[:2]), [-5e-4, 0.0], rtol=1e-2)
    # Two units in the last place of bfloat16 decide nothing, however exact the sums before them were.
    for dtype, lead in ((jnp.bfloat16, 0.125), (jnp.float16, 0.015625)):
        assert losses.margin_to_fool(jnp.asarray([[8.0, 8.0 + lead]], dtype), labels[:1]) == 0
        assert losses.margin_to_fool(jnp.asarray([[8.0, 8.0 + 8 * lead]], dtype), labels[:1]) == -8 * lead


def test_logits_in_a_finer_dtype_keep_their_decision_and_the_rounding_of_their_own():
    logits = jnp.asarray([[100, 100.5, -1e4], [-100.5, -100, -200], [100, 104, 3], [7, 7, 1]], jnp.bfloat16)
    cast = losses.settled(logits, jnp.dtype("float32"))
    assert cast.dtype == jnp.float32
    np.testing.assert_array_equal(cast.argmax(-1), [1, 1, 1, 0])
    np.testing.assert_array_equal(losses.margin_to_fool(cast, jnp.zeros(4, jnp.int32)), [0, 0, -4, 0])
    np.testing.assert_allclose(cast, logits.astype(jnp.float32), rtol=1e-2)
    np.testing.assert_array_equal(cast[2:], logits[2:].astype(jnp.float32))
    slopes = jax.grad(lambda z: losses.settled(z, jnp.dtype("float32")).sum())(logits)
    np.testing.assert_array_equal(slopes, jnp.ones_like(logits))
    np.testing.assert_array_equal(losses.settled(LOGITS, jnp.dtype("bfloat16")), LOGITS.astype(jnp.bfloat16))


def test_runners_up_are_the_likeliest_besides_the_label():
    np.testing.assert_array_equal(losses.runners_up(LOGITS, LABELS, 9), [[1, 2], [1, 2]])
    np.testing.assert_array_equal(losses.runners_up(LOGITS, jnp.array([1, 2]), 1), [[0], [1]])


def test_least_squares_and_norm_hinge_by_hand():
    np.testing.assert_allclose(losses.least_squares(jnp.array([1.0, 3.0]), 1.0), 2.0)
    perturbations = jnp.zeros((2, 2, 2, 1)).at[0, 0, 0, 0].set(3.0).at[0, 1, 1, 0].set(4.0)
    np.testing.assert_allclose(losses.norm_hinge(perturbations, 2.0), 1.5, rtol=1e-6)


def test_disagreement_is_cross_entropy_with_the_decision():
    expected = -(LOGITS[0, 1] - jnp.log(jnp.exp(LOGITS[0]).sum()))
    np.testing.assert_allclose(losses.disagreement(LOGITS, jnp.array([1, 1]))[0], expected, rtol=1e-6)


def test_log_odds_are_those_of_the_softmax():
    p = np.exp(LOGITS[0]) / np.exp(LOGITS[0]).sum()
    np.testing.assert_allclose(losses.log_odds(LOGITS, jnp.array([1, 1]))[0], np.log(p[1] / (1 - p[1])), rtol=1e-5)


def test_relative_disagreement_is_least_where_the_mutant_agrees_as_often_as_on_the_clean_image():
    normal = jnp.array([[0.7, 0.0]])
    at = lambda z: losses.relative_disagreement(jnp.array([[z, 0.0]]), jnp.array([0]), normal, jnp.array([0]))[0]  # noqa: E731
    np.testing.assert_allclose(jax.grad(at)(0.7), 0.0, atol=1e-6)
    assert jax.grad(at)(0.2) < 0 < jax.grad(at)(2.0)
    q, p = 1 / (1 + np.exp(-0.7)), 1 / (1 + np.exp(-2.0))
    np.testing.assert_allclose(at(2.0), -q * np.log(p) - (1 - q) * np.log(1 - p), rtol=1e-5)


def test_relative_disagreement_is_the_slides_where_the_mutant_keeps_the_clean_decision():
    sure = jnp.full((2, 3), -200.0).at[:, 2].set(200.0)
    decisions = jnp.array([1, 0])
    found = losses.relative_disagreement(LOGITS, decisions, sure, jnp.array([2, 2]))
    np.testing.assert_allclose(found, losses.disagreement(LOGITS, decisions), rtol=1e-5)


def test_label_entropy_by_hand_and_finite_where_a_class_has_no_probability():
    one, other = jnp.array([[60.0, 0.0, 0.0], [0.0, 60.0, 0.0]]), jnp.array([[1e4, 0.0, 0.0]])
    np.testing.assert_allclose(losses.label_entropy(one), np.log(2), rtol=1e-6)
    np.testing.assert_allclose(losses.label_entropy(jnp.zeros((4, 3))), np.log(3), rtol=1e-6)
    np.testing.assert_allclose(losses.label_entropy(other), 0.0, atol=1e-6)
    assert np.isfinite(jax.grad(losses.label_entropy)(other)).all()
