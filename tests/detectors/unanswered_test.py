"""An image that the network or a detector cannot answer for: it is suspicious, and nothing else of the batch changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.detectors.class_conditional import class_conditional
from mgan_jax.detectors.combined import clean_ranks, combined, rank, threshold
from mgan_jax.detectors.entry import checked
from mgan_jax.detectors.feature_squeezing import feature_squeezing
from mgan_jax.detectors.kernel_density import kernel_density
from mgan_jax.detectors.label_change_rate import label_change_rate
from mgan_jax.detectors.soft_label_change_rate import soft_label_change_rate
from mgan_jax.detectors.sprt import sprt
from mgan_jax.experiments.evading import mutant_loss
from mgan_jax.metrics import auroc, true_positive_rate
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing
from mgan_jax.types import Detector

BRIGHT = 3
MUTATION = gaussian_fuzzing(rate=0.3)
SQUEEZERS = ({"name": "bit_depth", "bits": 2},)
MAKE = {
    "class_conditional": lambda f, c: class_conditional(f, label_change_rate(f, MUTATION, 4, 0.1)),
    "class_conditional, two-sided": lambda f, c: class_conditional(f, feature_squeezing(f, SQUEEZERS), two_sided=True),
    "combined": lambda f, c: combined({"squeezing": feature_squeezing(f, SQUEEZERS), "density": kernel_density(f, c.features)}),
    "feature_squeezing": lambda f, c: feature_squeezing(f, SQUEEZERS),
    "kernel_density": lambda f, c: kernel_density(f, c.features),
    "label_change_rate": lambda f, c: label_change_rate(f, MUTATION, 4, 0.1),
    "soft_label_change_rate": lambda f, c: soft_label_change_rate(f, MUTATION, 4, 0.1),
    "sprt": lambda f, c: sprt(f, MUTATION, 4, 0.1),
}


@pytest.fixture(scope="module")
def broken(trained):
    """The trained network, which answers NaN for an image that is white."""
    classifier = trained[0]

    def apply(variables, images):
        return classifier.apply(variables, images) + jnp.where(images.min((1, 2, 3)) > 0.99, jnp.nan, 0.0)[:, None]

    return apply


@pytest.mark.parametrize("name", MAKE)
def test_an_image_that_the_network_does_not_answer_is_suspicious(name, trained, broken):
    classifier, variables, data = trained
    detector = MAKE[name](broken, classifier)
    state = detector.fit(jax.random.key(0), variables, data.validation.images[:150], data.validation.labels[:150])
    images = np.array(data.test.images[:6])
    usual = np.asarray(detector.score(variables, state, images))
    images[BRIGHT] = 1.0
    scores = np.asarray(detector.score(variables, state, images))
    assert scores[BRIGHT] == np.inf and np.isfinite(usual).all()
    others = np.arange(6) != BRIGHT
    np.testing.assert_allclose(scores[others], usual[others], rtol=1e-4, atol=1e-5)


def test_what_attacks_follow_in_place_of_votes_calls_it_suspicious_too(trained, broken):
    _, variables, data = trained
    images = jnp.asarray(data.test.images[:4]).at[BRIGHT].set(1.0)
    scores = mutant_loss(broken)(variables, jax.tree.map(lambda leaf: leaf[None], variables), images)
    np.testing.assert_array_equal(np.isinf(scores), np.arange(4) == BRIGHT)


def test_a_score_that_is_not_a_number_lies_above_every_threshold():
    clean = np.array([1.0, 2.0, np.nan, 3.0], np.float32)
    for host in (np.asarray, jnp.asarray):
        detector = checked(Detector(lambda *_: {}, lambda *_, host=host: host(clean)))
        scores = np.asarray(detector.score({}, {}, np.zeros((4, 2, 2, 1), np.float32)))
        np.testing.assert_array_equal(scores, [1, 2, np.inf, 3])
        assert scores.dtype == np.float32
    assert threshold(clean, 0.25) == 3.0
    ranks = clean_ranks(clean)
    np.testing.assert_allclose(rank(ranks, jnp.array([3.0, 4.0, jnp.nan])), [0.625, 1.625, np.inf])
    with pytest.raises(ValueError, match="none of 2 clean scores is finite"):
        clean_ranks(np.array([np.nan, np.inf]))


def test_rates_of_scores_that_are_not_numbers_are_those_of_the_largest():
    for missing in (np.nan, np.inf):
        adversarial, clean = np.array([0.5, missing]), np.array([0.1, 0.6, 0.7])
        assert auroc(adversarial, clean) == pytest.approx(4 / 6)
        assert auroc(clean, adversarial) == pytest.approx(2 / 6)
        assert true_positive_rate(adversarial, clean) == 0.5
