"""Reconstruction from logits against least squares, and what the supervised form learns of an attack that it has not seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import metrics
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.pgd import pgd
from mgan_jax.detectors.reconstruction import reconstructed, reconstruction
from mgan_jax.detectors.supervised_reconstruction import supervised_reconstruction
from mgan_jax.models.discriminator import discriminator
from mgan_jax.training.minimise import minimiser
from mgan_jax.types import Network

pytestmark = pytest.mark.numerical


def init(key, image_shape):
    return {"kernel": jnp.zeros((10, *image_shape)), "bias": jnp.zeros(image_shape)}


def apply(variables, codes):
    return jnp.tensordot(codes, variables["kernel"], 1) + variables["bias"][None]


LINEAR = Network(init, apply)
SIGMOID = Network(init, lambda variables, codes: jax.nn.sigmoid(apply(variables, codes)))


def test_a_linear_decoder_is_the_least_squares_from_logits_to_images(trained):
    classifier, variables, data = trained
    images = data.train.images[:300]
    detector = reconstruction(classifier.apply, LINEAR, minimiser(epochs=60, batch_size=100, learning_rate=0.05))
    state = detector.fit(jax.random.key(0), variables, images, data.train.labels[:300])
    with_one = lambda x: np.c_[np.asarray(classifier.apply(variables, x), np.float64), np.ones(len(x))]  # noqa: E731
    solution = np.linalg.lstsq(with_one(images), images.reshape(300, -1))[0]
    tested = data.test.images[:50]
    expected = (with_one(tested) @ solution).reshape(tested.shape)
    np.testing.assert_allclose(reconstructed(classifier.apply, LINEAR, variables, state, tested), expected, atol=0.05)
    error = np.square(tested - expected).mean((1, 2, 3))
    np.testing.assert_allclose(detector.score(variables, state, tested), error, atol=5e-3)


def test_a_logit_that_never_changes_is_no_division_by_zero(images):
    constant = lambda variables, x: jnp.concatenate([x[:, 0, :9, 0], jnp.ones((len(x), 10 - x[:, 0, :9, 0].shape[1]))], -1)  # noqa: E731
    detector = reconstruction(constant, LINEAR, minimiser(epochs=2, batch_size=8))
    state = detector.fit(jax.random.key(0), {}, *images)
    assert np.isfinite(detector.score({}, state, images[0])).all()


def test_the_supervised_form_sees_an_attack_that_was_left_out(trained):
    classifier, variables, data = trained
    train = minimiser(epochs=15, batch_size=50, learning_rate=5e-3)
    learned_from = [fgsm(classifier.apply, 0.3)]
    detector = supervised_reconstruction(classifier.apply, SIGMOID, discriminator((4,)), train, learned_from, 64)
    state = detector.fit(jax.random.key(0), variables, data.train.images[:300], data.train.labels[:300])
    images, labels = jnp.asarray(data.test.images[:100]), jnp.asarray(data.test.labels[:100])
    left_out = jax.jit(pgd(classifier.apply, 0.3, 10, 0.05))(jax.random.key(1), variables, images, labels)
    kept = np.asarray(left_out.success)
    assert kept.sum() > 50
    clean, adversarial = (detector.score(variables, state, x)[kept] for x in (images, left_out.adversarial))
    assert metrics.auroc(adversarial, clean) > 0.9
    probability = jax.nn.sigmoid(clean)
    assert (probability < 0.5).mean() > 0.8


def test_it_learns_from_successes_and_the_same_images_clean_in_equal_numbers(trained):
    classifier, variables, data = trained
    images, labels = data.train.images[:50], data.train.labels[:50]
    asked = {}

    def look(key, name, params, loss, data):
        asked[name] = params, loss, data
        return params

    attacks = [fgsm(classifier.apply, 0.3), fgsm(classifier.apply, 0.05)]
    number = sum(int(a(jax.random.key(0), variables, images, labels).success.sum()) for a in attacks)
    detector = supervised_reconstruction(classifier.apply, SIGMOID, discriminator((4,)), look, attacks, batch_size=16)
    detector.fit(jax.random.key(0), variables, images, labels)
    params, loss, (shown, adversarial) = asked["supervised_reconstruction"]
    assert shown.shape == (2 * number, 8, 8, 2) and adversarial.sum() == number
    changes = np.abs(shown[adversarial > 0, ..., 0] - shown[adversarial == 0, ..., 0]).max((1, 2))
    assert changes.max() <= 0.3 + 1e-6 and changes.min() > 0
    clean = {image.tobytes() for image in images[..., 0]}
    assert all(np.ascontiguousarray(image).tobytes() in clean for image in shown[adversarial == 0, ..., 0])
    answers = np.asarray(discriminator((4,)).apply(params, shown), np.float64)
    expected = np.log1p(np.exp(np.where(adversarial > 0, -answers, answers))).mean()
    assert float(loss(params, jax.random.key(0), 0, shown, adversarial)[0]) == pytest.approx(expected, rel=1e-4)


def test_no_attack_and_one_that_never_succeeds_are_refused(trained):
    classifier, variables, data = trained
    with pytest.raises(ValueError, match="at least one"):
        supervised_reconstruction(classifier.apply, SIGMOID, discriminator((4,)), minimiser(1), [])
    detector = supervised_reconstruction(
        classifier.apply, SIGMOID, discriminator((4,)), minimiser(1), [fgsm(classifier.apply, 0.0)]
    )
    with pytest.raises(ValueError, match="attack 0 fools the network on none of 100 images"):
        detector.fit(jax.random.key(0), variables, data.train.images[:100], data.train.labels[:100])
