"""A network that all eight operators can mutate."""

import jax
import pytest

from mgan_jax.models.cnn import cnn


@pytest.fixture(scope="session")
def target():
    """An untrained cnn for 8 x 8 images and its variables."""
    classifier = cnn((8, 8, 1), 10)
    return classifier, classifier.init(jax.random.key(0))
