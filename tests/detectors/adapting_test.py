"""The adapting detectors against NumPy, and what they see that the plain rate does not."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax
from scipy.stats import entropy

from mgan_jax.detectors.class_conditional import class_conditional
from mgan_jax.detectors.label_change_rate import label_change_rate
from mgan_jax.detectors.soft_label_change_rate import divergence, soft_label_change_rate
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing
from mgan_jax.types import Detector


def linear(variables, images):
    return images.reshape(len(images), -1) @ variables["params"]["output"]["kernel"]


def network(key):
    return {"params": {"output": {"kernel": jax.random.normal(key, (4, 3))}}}


def test_divergence_is_scipys_relative_entropy():
    p, q = np.random.default_rng(0).normal(size=(2, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(divergence(p, q), entropy(softmax(p, -1), softmax(q, -1), axis=-1), rtol=1e-4)


def test_the_soft_rate_is_a_loop_over_the_mutants():
    variables, images = network(jax.random.key(0)), np.random.default_rng(1).random((6, 2, 2, 1), np.float32)
    detector = soft_label_change_rate(linear, gaussian_fuzzing(rate=0.5), num_mutants=7, min_accuracy_ratio=0.0)
    mutants = detector.fit(jax.random.key(2), variables, images, np.zeros(6, np.int32))
    p = softmax(np.asarray(linear(variables, images)), -1)
    each = [softmax(np.asarray(linear(jax.tree.map(lambda x, m=m: x[m], mutants), images)), -1) for m in range(7)]
    by_loop = np.mean([entropy(p, q, axis=-1) for q in each], axis=0)
    np.testing.assert_allclose(detector.score(variables, mutants, images), by_loop, rtol=1e-4)


def test_it_sees_lost_confidence_that_flips_no_label():
    sure, unsure = jnp.array([[9.0, 0.0, 0.0]]), jnp.array([[1.0, 0.0, 0.0]])
    assert sure.argmax(-1) == unsure.argmax(-1)
    assert divergence(sure, unsure) > 0.5 > divergence(sure, sure) == 0


def test_ranks_are_taken_within_the_predicted_class():
    given = Detector(lambda key, variables, images, labels: None, lambda variables, state, images: images[:, 0, 0, 0])
    apply_fn = lambda variables, images: jax.nn.one_hot((2 * images[:, 0, 0, 1]).astype(int), 3)  # noqa: E731
    image = lambda score, label: [[[score, label / 2]]]  # noqa: E731
    clean = np.array([image(s, 0) for s in (0.1, 0.2, 0.3, 0.4)] + [image(s, 1) for s in (0.7, 0.9)], np.float32)
    tested = np.array([image(0.25, 0), image(0.5, 0), image(0.5, 1), image(0.9, 1), image(0.5, 2)], np.float32)
    for two_sided, expected in ((False, [0.5, 1.0, 0.0, 0.75, 0.5]), (True, [0.0, 1.0, 1.0, 0.5, 0.0])):
        detector = class_conditional(apply_fn, given, two_sided, batch_size=4)
        state = detector.fit(jax.random.key(0), {}, clean, np.zeros(6, np.int32))
        np.testing.assert_allclose(detector.score({}, state, tested), expected)


def test_a_real_detector_inside():
    variables, images = network(jax.random.key(0)), np.random.default_rng(1).random((40, 2, 2, 1), np.float32)
    inner = label_change_rate(linear, gaussian_fuzzing(rate=0.5), num_mutants=9, min_accuracy_ratio=0.0)
    detector = class_conditional(linear, inner)
    state = detector.fit(jax.random.key(3), variables, images, np.zeros(40, np.int32))
    ranks = np.asarray(detector.score(variables, state, images))
    decisions = np.asarray(linear(variables, images)).argmax(-1)
    for label in np.unique(decisions):
        np.testing.assert_allclose(ranks[decisions == label].mean(), 0.5, atol=1e-6)
