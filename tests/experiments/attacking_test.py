"""Attacks on more images than a batch holds."""

import jax
import numpy as np

from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.pgd import pgd
from mgan_jax.experiments.attacking import in_batches
from mgan_jax.types import Split


def test_batches_that_do_not_divide_are_filled_up_and_cut(trained):
    classifier, variables, data = trained
    test = Split(data.test.images[:7], data.test.labels[:7])
    targets = (test.labels + 1) % 10
    key = jax.random.key(0)
    whole = jax.jit(fgsm(classifier.apply, 0.2))(key, variables, *test, targets)
    for size in (3, 7, 100):
        made, seconds, compile_seconds = in_batches(fgsm(classifier.apply, 0.2), key, variables, test, targets, size)
        assert made.adversarial.shape == test.images.shape and min(seconds, compile_seconds) > 0
        assert (np.abs(made.adversarial - whole.adversarial) < 1e-5).mean() > 0.99
        np.testing.assert_array_equal(made.success, whole.success)


def test_every_batch_draws_for_itself(trained):
    classifier, variables, data = trained
    same = Split(np.repeat(data.test.images[:1], 5, 0), np.repeat(data.test.labels[:1], 5))
    attack = pgd(classifier.apply, 0.2, 1, 1e-3)
    made, _, _ = in_batches(attack, jax.random.key(0), variables, same, None, 2)
    key = jax.random.fold_in(jax.random.key(0), 2)
    second = jax.jit(attack)(key, variables, same.images[:2], same.labels[:2])
    np.testing.assert_array_equal(made.adversarial[2:4], second.adversarial)
    assert len(np.unique(made.adversarial.reshape(5, -1), axis=0)) == 5
