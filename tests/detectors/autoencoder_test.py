"""MagNet's detector: a linear autoencoder against principal components, distances against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax

from mgan_jax.detectors.autoencoder import autoencoder, jensen_shannon
from mgan_jax.training.minimise import minimiser
from mgan_jax.types import Network


def init(key, image_shape):
    """Encoder and decoder share their weights: the best is the orthogonal projection on principal components."""
    return {"down": 0.5 * jax.random.normal(key, (int(np.prod(image_shape)), 2)), "offset": jnp.full(image_shape, 0.5)}


def apply(variables, images):
    change = (images - variables["offset"][None]).reshape(len(images), -1) @ variables["down"] @ variables["down"].T
    return variables["offset"][None] + change.reshape(images.shape)


LINEAR = Network(init, apply)


def halved(key, name, params, loss, data):
    """Trains nothing: an autoencoder that halves its images."""
    del key, name, params, loss, data
    return {"factor": jnp.float32(0.5)}


HALVES = Network(lambda key, image_shape: {"factor": jnp.zeros(())}, lambda variables, images: variables["factor"] * images)


def test_jensen_shannon_is_scipys():
    p, q = 3 * np.random.default_rng(0).normal(size=(2, 6, 4)).astype(np.float32)
    expected = jensenshannon(softmax(p, -1), softmax(q, -1), axis=-1) ** 2
    np.testing.assert_allclose(jensen_shannon(jnp.asarray(p), jnp.asarray(q)), expected, rtol=1e-4)
    far = jnp.asarray([[0.0, 1e4]]), jnp.asarray([[1e4, 0.0]])
    np.testing.assert_allclose(jensen_shannon(*far), np.log(2), rtol=1e-6)
    gradient = jax.grad(lambda x: jensen_shannon(x, far[1]).sum())(far[0])
    assert np.isfinite(gradient).all()


def test_each_distance_by_hand(images):
    images, labels = images
    flat = np.asarray(images).reshape(8, -1)
    weights = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)
    linear = lambda variables, x: x.reshape(len(x), -1) @ variables  # noqa: E731
    answers = [softmax(scale * flat @ weights / 7, -1) for scale in (1.0, 0.5)]
    expected = {
        "l1": np.abs(flat / 2).mean(1),
        "l2": np.square(flat / 2).mean(1),
        "jensen_shannon": jensenshannon(*answers, axis=-1) ** 2,
    }
    for distance, by_hand in expected.items():
        more = {"apply_fn": linear, "temperature": 7.0} if distance == "jensen_shannon" else {}
        detector = autoencoder(HALVES, halved, distance, **more)
        state = detector.fit(jax.random.key(0), weights, images, labels)
        np.testing.assert_allclose(detector.score(weights, state, images), by_hand, rtol=1e-3, atol=1e-6)


def test_a_linear_one_without_noise_finds_the_plane_that_images_lie_in():
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(6, 2)))[0].T
    make = lambda n: (0.5 + 0.1 * rng.normal(size=(n, 2)) @ plane).reshape(n, 2, 3, 1).astype(np.float32)  # noqa: E731
    train = minimiser(epochs=60, batch_size=50, learning_rate=0.03)
    detector = autoencoder(LINEAR, train, "l2", noise=0.0)
    state = detector.fit(jax.random.key(0), {}, np.clip(make(300), 0, 1), np.zeros(300, np.int32))
    near, away = np.clip(make(50), 0, 1), rng.random((50, 2, 3, 1), np.float32)
    change = (away - 0.5).reshape(50, 6)
    residual = np.square(change - change @ plane.T @ plane).mean(1)
    assert np.max(detector.score({}, state, near)) < 0.01
    np.testing.assert_allclose(detector.score({}, state, away), residual, atol=0.02)


def test_noise_is_added_in_training_and_the_clean_image_is_what_is_wanted(images):
    images, _ = images
    asked = {}

    def look(key, name, params, loss, data):
        asked.update(name=name, loss=loss, data=data)
        return params

    for noise in (0.0, 0.3):
        identity = Network(lambda key, shape: {}, lambda variables, x: x)
        grey, labels = jnp.full((400, 8, 8, 1), 0.5), jnp.zeros(400, jnp.int32)
        autoencoder(identity, look, noise=noise).fit(jax.random.key(0), {}, grey, labels)
        value, _ = asked["loss"]({}, jax.random.key(1), jnp.int32(3), *asked["data"])
        assert asked["name"] == "autoencoder"
        assert float(value) == pytest.approx({0.0: 0.0, 0.3: 0.075}[noise], rel=0.1)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [({"distance": "l3"}, "choose one of l1"), ({"distance": "jensen_shannon"}, "with no apply_fn"),
     ({"noise": -0.1}, "-0.1"), ({"temperature": 0.0}, "temperature is 0")],
)  # fmt: skip
def test_mistakes_are_refused(wrong, said):
    with pytest.raises(ValueError, match=said):
        autoencoder(LINEAR, halved, **wrong)
