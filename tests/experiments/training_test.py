"""Trainings of an experiment: what a checkpoint may continue."""

import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax import checkpoint, workdir
from mgan_jax.experiments.training import Run, train


@pytest.mark.parametrize("leaves", ([np.zeros(3, np.float32)], [np.zeros(2, np.float32), np.zeros(1, np.float32)]))
def test_a_checkpoint_of_another_state_is_refused_in_words(tmp_path, leaves):
    folder = tmp_path / "checkpoints" / "mgan"
    checkpoint.save(folder, 50, {"state": leaves, "step": 50, "history": {"loss": np.ones(50)}})
    run = Run(None, tmp_path, 0, None, None)
    workdir.claim(tmp_path, "mgan", {"seed": 0}, tmp_path / "none")
    with pytest.raises(ValueError, match=r"mgan holds another kind of state.*--overwrite"):
        train(run, "mgan", lambda: {"weights": jnp.zeros(2)}, None, ConfigDict(), 100, {"seed": 0})
    assert checkpoint.latest_step(folder) == 50
