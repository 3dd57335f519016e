"""Robust and non-robust features, where closed forms and labels say what must come out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.pgd import pgd
from mgan_jax.defenses.non_robust_features import non_robust_features
from mgan_jax.defenses.robust_features import robust_features, robust_images
from mgan_jax.models.mlp import mlp
from mgan_jax.training.minimise import minimiser

pytestmark = pytest.mark.numerical


def project(variables, images):
    """Linear features, the orthonormal rows of a matrix [F, 64]."""
    return images.reshape(len(images), -1) @ variables["rows"].T


def test_of_linear_features_the_image_moves_along_their_rows_alone():
    """x_r = s + W^T W (x - s) in closed form, to the length of a step."""
    rng = np.random.default_rng(0)
    rows = np.linalg.qr(rng.normal(size=(64, 5)))[0].T.astype(np.float32)
    starts, images = (rng.uniform(0.45, 0.55, (6, 8, 8, 1)).astype(np.float32) for _ in range(2))
    expected = starts.reshape(6, -1) + (images - starts).reshape(6, -1) @ rows.T @ rows
    rebuilt = jax.jit(robust_images(project, 200, 0.002))({"rows": jnp.asarray(rows)}, jnp.asarray(starts), jnp.asarray(images))
    assert (np.linalg.norm(expected - starts.reshape(6, -1), axis=1) > 0.03).all()
    assert np.linalg.norm(np.asarray(rebuilt).reshape(6, -1) - expected, axis=1).max() < 0.0025


def test_bounds_hold_and_equal_features_stay(trained):
    classifier, variables, data = trained
    images, starts = (jnp.asarray(data.train.images[rows]) for rows in (slice(20), slice(20, 40)))
    rebuild = jax.jit(robust_images(classifier.features, 60, 0.1))
    rebuilt = rebuild(variables, starts, images)
    assert rebuilt.min() >= 0 and rebuilt.max() <= 1
    goal = classifier.features(variables, images)
    distance = lambda x: jnp.linalg.norm(classifier.features(variables, x) - goal, axis=-1)  # noqa: E731
    assert (distance(rebuilt) < 0.3 * distance(starts)).all()
    np.testing.assert_array_equal(rebuild(variables, images, images), images)


def keep(seen):
    """A `train` that trains nothing and keeps the data it is given."""

    def train(key, name, params, loss, data):
        seen.extend(data)
        return params

    return train


def test_rebuilt_images_keep_labels_and_start_at_other_training_images(trained):
    classifier, variables, data = trained
    images, labels = (array[:30] for array in data.train)
    seen = []
    # Features that see nothing: the starts stay.
    blind = lambda variables, images: 0.0 * images.reshape(len(images), -1)  # noqa: E731
    defense = robust_features(blind, classifier, keep(seen), num_steps=2, batch_size=7)
    defense.fit(jax.random.key(0), variables, images, labels)
    np.testing.assert_array_equal(seen[1], labels)
    ordered = lambda x: np.sort(np.asarray(x).reshape(30, -1) @ np.random.default_rng(0).normal(size=64))  # noqa: E731
    np.testing.assert_allclose(ordered(seen[0]), ordered(images), rtol=1e-5)
    assert (np.asarray(seen[0]) != images).any((1, 2, 3)).mean() > 0.8


@pytest.mark.parametrize("aim", ["random", "next"])
def test_attacked_images_stay_near_and_get_the_label_they_were_moved_to(trained, aim):
    classifier, variables, data = trained
    images, labels = (array[:100] for array in data.train)
    seen = []
    attack = pgd(classifier.apply, 0.3, 10, 0.06)
    non_robust_features(attack, classifier, keep(seen), aim, batch_size=50).fit(jax.random.key(0), variables, images, labels)
    made, targets = (np.asarray(array) for array in seen)
    assert np.abs(made - images).max() <= 0.3 + 1e-6
    moved = np.asarray(classifier.apply(variables, jnp.asarray(made)).argmax(-1)) == targets
    assert moved.mean() > 0.9
    if aim == "next":
        np.testing.assert_array_equal(targets, (labels + 1) % 10)
    else:
        assert len(np.unique(targets)) == 10 and (targets == labels).mean() < 0.3


def test_a_classifier_learns_from_rebuilt_images_and_from_wrong_labels(trained):
    """Both are far better than chance on clean images they never saw, and an attack hurts the non-robust one."""
    classifier, variables, data = trained
    student = mlp(data.image_shape, 10, (32,))
    train = minimiser(epochs=10, batch_size=50, learning_rate=1e-2)
    robust = robust_features(classifier.features, student, train, num_steps=30, step_size=0.2)
    brittle = non_robust_features(pgd(classifier.apply, 0.4, 10, 0.08), student, train)
    images, labels = (jnp.asarray(array) for array in data.validation)
    accuracy = {}
    for name, defense in (("robust", robust), ("brittle", brittle)):
        state = {"defense": defense.fit(jax.random.key(1), variables, *data.train)}
        result = jax.jit(fgsm(defense.apply, 0.2))(jax.random.key(2), state, images, labels)
        accuracy[name] = result.clean_correct.mean(), result.withstood.mean()
    assert accuracy["robust"][0] > 0.8 and accuracy["brittle"][0] > 0.3
    assert accuracy["brittle"][1] < 0.1


@pytest.mark.parametrize("arguments", [{"num_steps": 0}, {"step_size": 0.0}, {"batch_size": 0}])
def test_impossible_arguments_are_refused(trained, arguments):
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} (is )?{next(iter(arguments.values()))}"):
        robust_features(trained[0].features, trained[0], minimiser(), **arguments)


def test_another_aim_is_refused(trained):
    with pytest.raises(ValueError, match="'first'"):
        non_robust_features(pgd(trained[0].apply), trained[0], minimiser(), "first")
