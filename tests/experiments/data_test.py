"""Which images an experiment takes."""

import numpy as np
import pytest

from mgan_jax.datasets.split import classes_of
from mgan_jax.experiments import data
from mgan_jax.experiments.data import correct_images
from mgan_jax.experiments.defenses import subset
from mgan_jax.types import Dataset, Split


def test_choices_are_made_on_half_of_the_validation_images_and_no_test_image_is_seen():
    rng = np.random.default_rng(0)
    train, validation, test = (Split(rng.random((n, 2, 2, 1), np.float32), np.arange(n) % 3) for n in (9, 7, 5))
    dataset = Dataset(train, validation, test, 3, (2, 2, 1), ("a", "b", "c"))
    assert data.tested_on(dataset, "test") is dataset
    chosen = data.tested_on(dataset, "validation")
    assert chosen.train is train and len(chosen.validation.labels) == 3
    for whole, *parts in zip(validation, chosen.validation, chosen.test, strict=True):
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert data.data_digest(chosen) != data.data_digest(dataset)
    for split in ("train", "Test", None):
        with pytest.raises(ValueError, match=r"config.testing.split is .*, of 7 validation images; choose test or validation"):
            data.tested_on(dataset, split)


def test_a_class_of_which_nothing_is_left_is_missed_by_all_that_take_as_many_of_each():
    """A target that never answers 9, or a test set without it: no comparison of the other nine goes unnoticed."""
    labels = np.tile(np.arange(10), 20).astype(np.int32)
    split, decisions = Split(np.zeros((200, 2, 2, 1), np.float32), labels), np.where(labels == 9, 4, labels)
    nine = Split(split.images[labels < 9], labels[labels < 9])
    without = Dataset(split, split, nine, 10, (2, 2, 1), tuple("0123456789"))
    classes = classes_of(without)
    takers = [
        ("of 180 test images that the target classifies correctly: ", lambda: correct_images(split, decisions, 50, classes)),
        ("^50 class-balanced images ", lambda: data.test_images(without, 50)),
        ("^50 class-balanced images ", lambda: subset(nine, 50, classes)),
    ]
    for said, take in takers:
        with pytest.raises(ValueError, match=f"{said}.*need 5 of class 9, and there are 0; choose fewer"):
            take()
    assert len(correct_images(split, decisions, 8, classes).labels) == 8, "of nine classes and more one each would be needed"
