"""Losses by hand, on logits of any sign."""

import jax.numpy as jnp
import numpy as np

from mgan_jax import losses

LOGITS = jnp.array([[3.0, 1.0, -2.0], [-5.0, -4.0, -9.0]])
LABELS = jnp.array([0, 0])


def test_margin_and_hinges_by_hand_with_all_negative_logits():
    np.testing.assert_allclose(losses.margin(LOGITS, LABELS), [2.0, -1.0])
    np.testing.assert_allclose(losses.untargeted_hinge(LOGITS, LABELS, 0.5), (2.0 - 0.5) / 2)
    np.testing.assert_allclose(losses.targeted_hinge(LOGITS, jnp.array([1, 1]), 10.0), (2.0 - 1.0) / 2)


def test_least_squares_and_norm_hinge_by_hand():
    np.testing.assert_allclose(losses.least_squares(jnp.array([1.0, 3.0]), 1.0), 2.0)
    perturbations = jnp.zeros((2, 2, 2, 1)).at[0, 0, 0, 0].set(3.0).at[0, 1, 1, 0].set(4.0)
    np.testing.assert_allclose(losses.norm_hinge(perturbations, 2.0), 1.5, rtol=1e-6)


def test_disagreement_is_cross_entropy_with_the_decision():
    expected = -(LOGITS[0, 1] - jnp.log(jnp.exp(LOGITS[0]).sum()))
    np.testing.assert_allclose(losses.disagreement(LOGITS, jnp.array([1, 1]))[0], expected, rtol=1e-6)
