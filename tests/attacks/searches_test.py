"""Searches without gradients beside peers': the few pixels of ART's differential evolution, the genetic search of Foolbox.

There is no peer for `latent_space`, nor for `adversarial_transformation_network`: no library of attacks has either.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.evolutionary import evolutionary
from mgan_jax.attacks.few_pixel import few_pixel


def test_few_pixels_fool_as_many_as_arts(trained):
    """Four pixels, 30 generations of about 400 members on both sides, 12 digits."""
    classification = pytest.importorskip("art.estimators.classification")
    from art.attacks.evasion import PixelAttack

    classifier, variables, data = trained
    images, labels = np.asarray(data.test.images[:12]), np.asarray(data.test.labels[:12])
    forward = jax.jit(lambda x: jax.nn.softmax(classifier.apply(variables, x)))

    def predict(x):
        padded = np.resize(np.asarray(x, np.float32), (512, *x.shape[1:])) if len(x) < 512 else np.asarray(x, np.float32)
        return np.asarray(forward(jnp.asarray(padded)))[: len(x)]

    estimator = classification.BlackBoxClassifierNeuralNetwork(
        predict, data.image_shape, 10, channels_first=False, clip_values=(0.0, 1.0)
    )
    np.random.seed(0)  # noqa: NPY002 ART draws from NumPy's global state
    theirs = PixelAttack(estimator, th=4, es=1, max_iter=30, verbose=False).generate(images.copy(), labels)
    fooled = int((predict(theirs).argmax(-1) != labels).sum())
    ours = jax.jit(few_pixel(classifier.apply, 4, 400, 30))(
        jax.random.key(0), variables, jnp.asarray(images), jnp.asarray(labels)
    )
    own = int((predict(np.asarray(ours.adversarial)).argmax(-1) != labels).sum())
    assert 1 <= fooled and own >= fooled - 1, (own, fooled)


def test_the_evolution_strategy_reaches_as_many_targets_as_foolboxs_genetic_search(trained):
    """Within L-inf .4, the next class, at most 240 queries an image on both sides; Foolbox runs operation by operation."""
    foolbox = pytest.importorskip("foolbox")
    classifier, variables, data = trained
    images, labels = (jnp.asarray(array[:12]) for array in data.test)
    targets = (labels + 1) % 10
    model = foolbox.JAXModel(jax.jit(lambda x: classifier.apply(variables, x)), bounds=(0, 1), data_format="channels_last")
    attack = foolbox.attacks.GenAttack(steps=40, population=6)
    np.random.seed(0)  # noqa: NPY002 Foolbox draws parents from NumPy's global state
    with jax.numpy_rank_promotion("allow"):
        found = attack.run(model, images, foolbox.criteria.TargetedMisclassification(targets), epsilon=0.4)
    theirs = int((classifier.apply(variables, jnp.asarray(found)).argmax(-1) == targets).sum())
    ours = jax.jit(evolutionary(classifier.apply, 0.4, num_queries=240, tiles=8))(
        jax.random.key(0), variables, images, labels, targets
    )
    assert 1 <= theirs and ours.success.sum() >= theirs - 1, (ours.success.sum(), theirs)
