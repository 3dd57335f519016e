"""Feature squeezing by hand, its derivative, and as a defense."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage
from scipy.special import softmax

from mgan_jax.defenses.squeezing import squeezing
from mgan_jax.detectors.feature_squeezing import feature_squeezing
from mgan_jax.squeezers import bit_depth, median

pytestmark = pytest.mark.numerical


def linear(variables, images):
    return images.reshape(len(images), -1) @ variables


@pytest.fixture
def weights():
    return jnp.asarray(np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32))


def test_the_score_is_the_largest_distance_of_softmaxes(weights, images):
    images, labels = images
    detector = feature_squeezing(linear)
    answer = lambda x: softmax(np.asarray(linear(weights, x)), -1)  # noqa: E731
    squeezed = np.round(images), ndimage.median_filter(np.asarray(images), (1, 2, 2, 1), mode="reflect")
    distances = [np.abs(answer(images) - answer(x)).sum(-1) for x in squeezed]
    assert (distances[0] > distances[1]).any() and (distances[1] > distances[0]).any()
    state = detector.fit(jax.random.key(0), weights, images, labels)
    np.testing.assert_allclose(detector.score(weights, state, images), np.maximum(*distances), rtol=1e-4, atol=1e-6)


def test_the_derivative_is_that_of_the_network_at_the_squeezed_image_unless_the_squeezers_own_is_asked_for(weights, images):
    images, _ = images

    def gradient(**how):
        return jax.grad(lambda x: feature_squeezing(linear, [bit_depth(1)], **how).score(weights, {}, x).sum())(images)

    apart = jnp.round(images) - images

    def shifted(x):
        return jnp.abs(jax.nn.softmax(linear(weights, x)) - jax.nn.softmax(linear(weights, x + apart))).sum()

    def first_alone(x):
        return jnp.abs(jax.nn.softmax(linear(weights, x)) - jax.nn.softmax(linear(weights, jnp.round(images)))).sum()

    np.testing.assert_allclose(gradient(), jax.grad(shifted)(images), atol=1e-5)
    np.testing.assert_allclose(gradient(differentiable=True), jax.grad(first_alone)(images), atol=1e-5)
    assert np.abs(gradient() - gradient(differentiable=True)).max() > 1e-2


def test_no_squeezer_and_a_wrong_name_are_refused():
    with pytest.raises(ValueError, match="at least one"):
        feature_squeezing(linear, [])
    with pytest.raises(ValueError, match="unknown squeezer 'blur'"):
        feature_squeezing(linear, [{"name": "blur"}])
    with pytest.raises(ValueError, match="size is 99"):
        squeezing(linear, {"name": "median", "size": 99})


def test_as_a_defense_the_target_sees_squeezed_images_and_the_attacker_the_identitys_derivative(weights, images):
    images, labels = images
    for squeeze, function in (({"name": "median", "size": 3}, median(3)), (bit_depth(1), bit_depth(1))):
        defense = squeezing(linear, squeeze)
        variables = {"target": weights, "defense": defense.fit(jax.random.key(0), weights, images, labels)}
        np.testing.assert_allclose(defense.apply(variables, images), linear(weights, function(images)), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(defense.purify(variables, images), function(images))
        gradient = jax.grad(lambda x, d=defense, v=variables: d.apply(v, x)[:, 0].sum())(images)
        np.testing.assert_allclose(gradient, jnp.broadcast_to(weights[:, 0].reshape(1, 8, 8, 1), images.shape), atol=1e-6)
    own = squeezing(linear, bit_depth(1), differentiable=True)
    assert not jax.grad(lambda x: own.apply({"target": weights, "defense": {}}, x).sum())(images).any()
