"""Label change rates by a loop over mutants, images and classes."""

import jax
import numpy as np
import pytest

from mgan_jax.detectors.label_change_rate import label_change_rate
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing

pytestmark = pytest.mark.numerical


def test_the_score_is_a_count_of_other_labels(trained):
    classifier, variables, data = trained
    images, labels = (array[:40] for array in data.validation)
    detector = label_change_rate(classifier, gaussian_fuzzing(0.5), 6, 0.0)
    mutants = detector.fit(jax.random.key(0), variables, images, labels)
    shown = data.test.images[:9]
    counts = np.zeros(9)
    own = [int(np.argmax(classifier.apply(variables, image[None])[0])) for image in shown]
    for m in range(6):
        mutant = jax.tree.map(lambda leaf, m=m: leaf[m], mutants)
        for i, image in enumerate(shown):
            counts[i] += int(np.argmax(classifier.apply(mutant, image[None])[0])) != own[i]
    assert 0 < counts.sum() < 6 * 9
    np.testing.assert_allclose(detector.score(variables, mutants, shown), counts / 6, rtol=1e-6)
