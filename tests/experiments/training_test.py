"""Trainings of an experiment: what a checkpoint may continue, and that it continues as if nothing had happened."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax import checkpoint, workdir
from mgan_jax.experiments import training
from mgan_jax.experiments.training import Run, build_target, train
from mgan_jax.types import Dataset, Split

SETTINGS = ConfigDict({"batch_size": 4, "chunk_size": 5})


def quiet(name, total, unit):
    return lambda done, **numbers: None


@pytest.mark.parametrize("leaves", ([np.zeros(3, np.float32)], [np.zeros(2, np.float32), np.zeros(1, np.float32)]))
def test_a_checkpoint_of_another_state_is_refused_in_words(tmp_path, leaves):
    folder = tmp_path / "checkpoints" / "mgan"
    workdir.claim(tmp_path, "mgan", {"seed": 0}, folder)
    checkpoint.save(folder, 50, {"state": leaves, "step": 50, "history": {"loss": np.ones(50)}})
    run = Run(None, tmp_path, 0, None, quiet)
    with pytest.raises(ValueError, match=r"mgan holds another kind of state.*--overwrite"):
        train(run, "mgan", lambda: {"weights": jnp.zeros(2)}, None, ConfigDict(), 100, {"seed": 0})
    assert checkpoint.latest_step(folder) == 50


def test_a_training_that_was_stopped_between_its_ends_continues_bit_for_bit(tmp_path, monkeypatch):
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)
    split = Split(np.random.default_rng(0).random((18, 2, 2, 1), np.float32), np.arange(18, dtype=np.int32))
    data = Dataset(split, split, split, 10, (2, 2, 1), ())

    def train_step(state, key, step, images, labels):
        moved = 0.9 * state + images.mean() + jax.random.normal(jax.random.fold_in(key, step), state.shape)
        return moved, {"loss": moved.sum() + labels.sum()}

    def trained(place, start=quiet):
        run = Run(None, tmp_path / place, 3, data, start)
        return train(run, "toy", lambda: jnp.zeros(4), train_step, SETTINGS, 30, {"seed": 3})

    def stopping(name, total, unit):
        def update(done, **numbers):
            if done == 20:
                raise KeyboardInterrupt

        return update

    whole = trained("whole")
    with pytest.raises(KeyboardInterrupt):
        trained("stopped", stopping)
    assert checkpoint.latest_step(tmp_path / "stopped" / "checkpoints" / "toy") == 15
    resumed = trained("stopped")
    np.testing.assert_array_equal(resumed.state, whole.state)
    np.testing.assert_array_equal(resumed.history["loss"], whole.history["loss"])


def test_a_target_is_standardized_by_its_training_images_alone():
    train_images, other = np.random.default_rng(0).random((2, 18, 4, 4, 1), np.float32)
    labels = np.arange(18, dtype=np.int32) % 3
    data = Dataset(Split(train_images, labels), Split(other, labels), Split(other, labels), 3, (4, 4, 1), ())
    section = ConfigDict({"name": "linear", "max_shift": 0, "standardize": 0.1})
    variables = build_target(section, data).init(jax.random.key(0))
    np.testing.assert_allclose(variables["statistics"]["standardize"]["mean"], train_images.mean(0), rtol=1e-6)
    assert "statistics" not in build_target(ConfigDict({"name": "linear"}), data).init(jax.random.key(0))
    with pytest.raises(ValueError, match=r"standardize is -1\.0; choose"):
        build_target(ConfigDict({**section, "standardize": -1.0}), data)
    with pytest.raises(ValueError, match="max_shift is 2"):
        build_target(ConfigDict({**section, "max_shift": 2}), data)
