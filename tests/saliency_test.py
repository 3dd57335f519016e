"""Saliency against closed forms of a linear network, and against finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import saliency
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical


def test_of_a_linear_network_the_gradient_is_its_weights(images):
    x, labels = images
    network = linear((8, 8, 1), 10)
    variables = network.init(jax.random.key(0))
    weights = np.asarray(variables["params"]["output"]["kernel"]).T.reshape(10, 8, 8, 1)[np.asarray(labels)]
    for explain in (saliency.gradient(network.apply), saliency.smooth_grad(network.apply, 3, 0.2)):
        np.testing.assert_allclose(explain(jax.random.key(1), variables, x, labels), weights, rtol=1e-4, atol=1e-6)
    product = saliency.gradient_times_input(network.apply)(jax.random.key(1), variables, x, labels)
    logits = np.asarray(network.apply(variables, x))[np.arange(8), np.asarray(labels)]
    np.testing.assert_allclose(product.sum((1, 2, 3)), logits, rtol=1e-4, atol=1e-5)


def test_smooth_grad_is_the_mean_over_noise_of_the_images_own_range():
    # The logit x^3 / 3 of one pixel has the slope x^2, whose mean under noise is x^2 + sigma^2; a flat image has no range.
    apply_fn = lambda variables, x: (x**3 / 3).reshape(len(x), -1)  # noqa: E731
    x, labels = jnp.asarray([0.0, 1.0, 0.5, 0.5]).reshape(2, 1, 2, 1), jnp.asarray([1, 0])
    found = saliency.smooth_grad(apply_fn, 4000, 0.5)(jax.random.key(0), {}, x, labels)
    np.testing.assert_allclose(found[:, 0, :, 0], [[0.0, 1.25], [0.25, 0.0]], atol=0.06)


def test_the_gradient_is_a_difference_quotient(target, images):
    classifier, variables = target
    x, labels = images
    step = 1e-3 * jax.random.normal(jax.random.key(3), x.shape)
    logit = lambda at: classifier.apply(variables, at)[jnp.arange(8), labels]  # noqa: E731
    slope = (saliency.gradient(classifier.apply)(jax.random.key(0), variables, x, labels) * step).sum((1, 2, 3))
    np.testing.assert_allclose(logit(x + step) - logit(x - step), 2 * slope, rtol=0.1, atol=3e-4)


@pytest.mark.parametrize("arguments", [{"num_samples": 0}, {"noise_level": -0.1}, {"noise_level": float("nan")}])
def test_mistakes_are_refused(arguments):
    with pytest.raises(ValueError, match="choose at least 1"):
        saliency.smooth_grad(lambda variables, x: x, **arguments)
