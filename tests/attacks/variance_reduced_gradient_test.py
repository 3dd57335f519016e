"""Gradients averaged over noise: a function whose gradient points everywhere and whose mean gradient points up."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.variance_reduced_gradient import variance_reduced_gradient

pytestmark = pytest.mark.numerical


def rippled(variables, images):
    """Two logits whose difference rises by 1 along each pixel, with ripples of slope 12 on top of it."""
    x = images.reshape(len(images), -1)
    rise = (x + 0.2 * jnp.sin(60 * x)).sum(-1) - variables["threshold"]
    return jnp.stack([-rise / 2, rise / 2], -1)


def test_the_mean_gradient_climbs_where_the_gradient_alone_is_caught():
    images = jnp.linspace(0.3, 0.6, 7).reshape(7, 1, 1, 1)
    variables, labels = {"threshold": images.max() + 0.25}, jnp.zeros(7, jnp.int32)
    caught = jax.jit(pgd(rippled, 0.4, 40, 0.02))(jax.random.key(0), variables, images, labels)
    climbs = variance_reduced_gradient(rippled, 0.4, 40, 0.02, scale=0.3, num_samples=400)
    result = jax.jit(climbs)(jax.random.key(0), variables, images, labels)
    np.testing.assert_allclose(result.adversarial, images + 0.4, atol=0.05)
    assert float(caught.linf.mean()) < 0.3
    assert (result.used == 16000).all() and (caught.used == 40).all()


def test_without_noise_it_is_pgd_on_the_margin(target, images):
    classifier, variables = target
    images, labels = images
    mine = variance_reduced_gradient(classifier.apply, 0.1, 5, 0.02, scale=0.0, num_samples=1)
    result = jax.jit(mine)(jax.random.key(1), variables, images, labels, (labels + 1) % 10)

    def margin(key, step, variables, images, logits, goal):
        own = jax.nn.one_hot(goal, 10, dtype=bool)
        return jnp.where(own, -jnp.inf, logits).max(-1) - jnp.where(own, logits, 0.0).sum(-1)

    plain = jax.jit(pgd(classifier.apply, 0.1, 5, 0.02, loss=margin))(
        jax.random.key(1), variables, images, labels, (labels + 1) % 10
    )
    np.testing.assert_allclose(result.adversarial, plain.adversarial, atol=1e-6)


@pytest.mark.parametrize("arguments", [{"scale": -1.0}, {"num_samples": 0}, {"epsilon": 2.0}])
def test_what_makes_no_sense_is_refused(arguments):
    with pytest.raises(ValueError, match="choose"):
        variance_reduced_gradient(rippled, **arguments)
