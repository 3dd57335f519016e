"""A network for tests of attacks that compiles in no time."""

import jax
import pytest

from mgan_jax.models.mlp import mlp


@pytest.fixture(scope="session")
def target():
    """An untrained mlp for 8 x 8 images and its variables."""
    classifier = mlp((8, 8, 1), 10, (16,))
    return classifier, classifier.init(jax.random.key(0))
