"""The overpowered attack on a linear generator and classifier, where the supremum is a singular value, and on a trained one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.overpowered import overpowered_pairs
from mgan_jax.models.decoder import decoder

pytestmark = pytest.mark.numerical


def linear(matrix, codes):
    return (codes @ matrix).reshape(-1, 4, 4, 1)


def classify(weights, images):
    return images.reshape(len(images), -1) @ weights


@pytest.mark.parametrize("eta", [0.5, 2.0])
def test_of_linear_maps_it_finds_the_largest_singular_value(eta):
    """sup ||W A d||^2 subject to ||A d|| <= eta is eta^2 sigma_max(W Q)^2, Q an orthonormal basis of what A makes."""
    rng = np.random.default_rng(0)
    matrix, weights = rng.normal(size=(3, 16)).astype(np.float32) / 4, rng.normal(size=(16, 5)).astype(np.float32)
    basis, _ = np.linalg.qr(matrix.T)
    expected = eta**2 * np.linalg.svd(basis.T @ weights)[1][0] ** 2
    search = overpowered_pairs(classify, linear, eta, 1000, 0.01 * eta, 0.5, 20.0, 0.1, "logits")
    codes = jax.random.normal(jax.random.key(0), (4, 3))
    found = jax.jit(search)(jax.random.key(1), weights, matrix, codes)
    assert (found.image_distances <= eta * (1 + 1e-5)).all()
    assert (found.class_distances <= expected * (1 + 1e-4)).all()
    np.testing.assert_allclose(found.class_distances, expected, rtol=0.03)


def test_pairs_keep_the_constraint_and_are_measured_as_they_are(trained):
    classifier, variables, data = trained
    made = decoder(6, (32,))
    generator = made.init(jax.random.key(0), data.image_shape)
    codes = jax.random.normal(jax.random.key(1), (20, 6))
    found = {}
    for num_steps in (1, 60):
        search = jax.jit(overpowered_pairs(classifier.apply, made.apply, 0.7, num_steps, 0.05))
        pairs = found[num_steps] = search(jax.random.key(2), variables, generator, codes)
        first, second = made.apply(generator, pairs.first), made.apply(generator, pairs.second)
        apart = np.linalg.norm((first - second).reshape(20, -1), axis=1)
        np.testing.assert_allclose(pairs.image_distances, apart, rtol=1e-3, atol=1e-5)
        assert apart.max() <= 0.7 * (1 + 1e-5)
        chances = [jax.nn.softmax(classifier.apply(variables, images)) for images in (first, second)]
        np.testing.assert_allclose(pairs.class_distances, np.square(chances[0] - chances[1]).sum(1), rtol=1e-3, atol=1e-6)
    assert found[60].class_distances.mean() > 2 * found[1].class_distances.mean() > 0


def test_where_all_images_are_classified_alike_there_is_no_pair():
    made = decoder(3, (8,))
    generator = made.init(jax.random.key(0), (8, 8, 1))
    flat = lambda variables, images: jnp.zeros((len(images), 3))  # noqa: E731
    pairs = overpowered_pairs(flat, made.apply, 0.5, 3)(jax.random.key(0), {}, generator, jnp.ones((2, 3)))
    np.testing.assert_array_equal(pairs.class_distances, 0)
    np.testing.assert_array_equal(pairs.first, pairs.second)


@pytest.mark.parametrize(
    "bad",
    [{"eta": 0.0}, {"num_steps": 0}, {"outputs": "hinge"}, {"learning_rate": -1.0}, {"initial_multiplier": -0.5}],
)
def test_bad_arguments_are_refused_when_building(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        overpowered_pairs(classify, linear, **bad)
