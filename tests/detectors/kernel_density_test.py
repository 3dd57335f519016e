"""Kernel density against scikit-learn's estimate."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.neighbors import KernelDensity

from mgan_jax.detectors.kernel_density import kernel_density

pytestmark = pytest.mark.numerical


def flat(variables, images):
    return images.reshape(len(images), -1)


def halves(variables, images):
    """Class 1 where the first pixel is at least a half."""
    return jnp.stack([0.5 - images[:, 0, 0, 0], images[:, 0, 0, 0] - 0.5], axis=-1)


@pytest.fixture
def clean():
    """100 images of 6 pixels and labels that agree with `halves` mostly; classes of different sizes."""
    rng = np.random.default_rng(0)
    images = rng.random((100, 2, 3, 1), np.float32)
    labels = (images[:, 0, 0, 0] > 0.6).astype(np.int32)
    return images, labels


def test_the_score_is_scikit_learns_log_density_in_the_predicted_class(clean, trained):
    images, labels = clean
    far = np.concatenate([np.random.default_rng(1).random((20, 2, 3, 1), np.float32), np.ones((1, 2, 3, 1), np.float32)])
    for bandwidth in (0.01, 0.05, 1.2):
        detector = kernel_density(halves, flat, bandwidth)
        state = detector.fit(jax.random.key(0), {}, images, labels)
        decisions = np.asarray(halves({}, far)).argmax(-1)
        assert set(decisions) == {0, 1}
        expected = np.zeros(21)
        for label in (0, 1):
            density = KernelDensity(bandwidth=bandwidth).fit(flat({}, images[labels == label]))
            expected[decisions == label] = -density.score_samples(flat({}, far[decisions == label]))
        np.testing.assert_allclose(detector.score({}, state, far), expected, rtol=1e-4, atol=1e-2)


def test_on_a_network(trained):
    classifier, variables, data = trained
    detector = kernel_density(classifier.apply, classifier.features)
    state = detector.fit(jax.random.key(0), variables, *data.train)
    images = data.test.images[:30]
    values = lambda x: np.asarray(classifier.features(variables, x), np.float64)  # noqa: E731
    decisions = np.asarray(classifier.apply(variables, images)).argmax(-1)
    expected = [
        -KernelDensity(bandwidth=1.2).fit(values(data.train.images[data.train.labels == t])).score_samples(values(image[None]))[0]
        for image, t in zip(images, decisions, strict=True)
    ]
    np.testing.assert_allclose(detector.score(variables, state, images), expected, rtol=1e-4)


def test_the_bandwidth_chosen_has_the_largest_likelihood_of_held_out_images(clean):
    images, labels = clean
    candidates = (0.01, 0.05, 0.1, 0.2, 0.4, 3.0)
    detector = kernel_density(halves, flat, None, candidates, held_out=0.3, batch_size=7)
    chosen = float(detector.fit(jax.random.key(2), {}, images, labels)["bandwidth"])
    order = np.asarray(jax.random.permutation(jax.random.key(2), 100))
    tested, points = order[:30], order[30:]
    likelihood = [
        sum(
            KernelDensity(bandwidth=width)
            .fit(flat({}, images[points][labels[points] == t]))
            .score(flat({}, images[tested][labels[tested] == t]))
            for t in (0, 1)
        )
        for width in candidates
    ]
    assert chosen == pytest.approx(candidates[int(np.argmax(likelihood))])
    assert chosen not in (candidates[0], candidates[-1])


def test_mistakes_are_refused(clean):
    images, _ = clean
    for wrong in ({"bandwidth": 0.0}, {"bandwidth": float("nan")}, {"bandwidth": None, "candidates": ()}, {"held_out": 1.0}):
        with pytest.raises(ValueError, match="choose"):
            kernel_density(halves, flat, **wrong)
    with pytest.raises(ValueError, match="class 1 has no image among the 100"):
        kernel_density(halves, flat).fit(jax.random.key(0), {}, images, np.zeros(100, np.int32))
