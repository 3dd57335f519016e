"""The images that are measured on."""

import numpy as np
import pytest

from benchmarks import material
from mgan_jax.datasets.digits import digits


def test_enlarged_digits_are_images_like_mnist_and_the_same_every_time():
    source = digits(0).test
    made, again, other = (material.enlarged(source, 30, seed) for seed in (1, 1, 2))
    assert made.images.shape == (30, 28, 28, 1) and made.images.dtype == np.float32
    assert made.images.min() == 0 and 0.9 < made.images.max() <= 1
    assert not made.images[:, :2].any() and not made.images[:, -2:].any()
    np.testing.assert_array_equal(made.images, again.images)
    assert (made.images != other.images).any()


def test_operators_that_need_layers_a_network_lacks_are_left_out_of_the_mix():
    layer = {"kernel": np.zeros((4, 12), np.float32), "bias": np.zeros(12, np.float32)}
    variables = {"params": {"dense1": layer, "output": layer}, "structure": {"dense1": {"activation": np.array(True)}}}
    assert material.applicable(variables) == ("GF", "WS", "NEB", "NAI", "NS", "AFR")


def test_files_of_other_images_are_refused(monkeypatch):
    monkeypatch.setattr(material, "idx", lambda data_dir, seed: digits(0))
    with pytest.raises(ValueError, match="28 x 28 x 1"):
        material.data("small", "folder")
