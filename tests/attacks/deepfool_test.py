"""DeepFool by other routes: the distance to a hyperplane, a NumPy loop over classes, Foolbox."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.deepfool import deepfool
from mgan_jax.attacks.fab import fab
from mgan_jax.attacks.lbfgs import lbfgs
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical

DISTANCE = {"l2": lambda d: np.linalg.norm(d.reshape(len(d), -1), axis=1), "linf": lambda d: np.abs(d).reshape(len(d), -1).max(1)}


@pytest.fixture
def digits(trained):
    """The trained classifier, its variables, 100 test images and labels."""
    classifier, variables, data = trained
    return classifier, variables, jnp.asarray(data.test.images[:100]), jnp.asarray(data.test.labels[:100])


@pytest.fixture
def hyperplanes():
    """A linear model, its weights [64, 10] and biases, and grey images far from 0 and 1 with the classes it gives them."""
    classifier = linear((8, 8, 1), 10)
    variables = classifier.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (8, 8, 8, 1), minval=0.45, maxval=0.55)
    head = variables["params"]["output"]
    return classifier, variables, np.asarray(head["kernel"], np.float64), np.asarray(head["bias"], np.float64), images


@pytest.mark.parametrize("norm", ["l2", "linf"])
def test_one_step_reaches_the_nearest_hyperplane_of_a_linear_model(norm, hyperplanes):
    classifier, variables, weights, bias, images = hyperplanes
    flat = np.asarray(images, np.float64).reshape(8, -1)
    logits = flat @ weights + bias
    labels = logits.argmax(1)
    result = jax.jit(deepfool(classifier.apply, norm))(jax.random.key(0), variables, images, jnp.asarray(labels, jnp.int32))
    expected = np.zeros_like(flat)
    for i, own in enumerate(labels):
        nearest = np.inf
        for k in set(range(10)) - {own}:
            w, f = weights[:, k] - weights[:, own], logits[i, k] - logits[i, own]
            distance = abs(f) / (np.linalg.norm(w) if norm == "l2" else np.abs(w).sum())
            if distance < nearest:
                nearest = distance
                expected[i] = 1.02 * distance * (w / np.linalg.norm(w) if norm == "l2" else np.sign(w))
    np.testing.assert_allclose(np.asarray(result.adversarial - images).reshape(8, -1), expected, atol=2e-6)
    assert result.success.all() and (result.used == 9).all()


def test_a_target_is_reached_where_its_half_spaces_meet(hyperplanes):
    classifier, variables, _, _, images = hyperplanes
    logits = classifier.apply(variables, images)
    order = jnp.argsort(logits, axis=-1).astype(jnp.int32)
    attack = jax.jit(deepfool(classifier.apply))
    result = attack(jax.random.key(0), variables, images, order[:, -1], order[:, 0])
    second = attack(jax.random.key(0), variables, images, order[:, -1], order[:, -2])
    assert result.success.all() and second.success.all()
    assert (second.l2 <= result.l2).all()
    # No half-space alone is farther than the place where all meet.
    kernel = np.asarray(variables["params"]["output"]["kernel"])
    for i in range(8):
        own, target = order[i, -1], order[i, 0]
        alone = (logits[i, own] - logits[i, target]) / np.linalg.norm(kernel[:, target] - kernel[:, own])
        assert alone <= result.l2[i]


def test_it_is_as_near_as_foolbox_and_the_shorter_the_fewer_classes_are_left_out(digits):
    classifier, variables, images, labels = digits
    run = lambda **more: jax.jit(deepfool(classifier.apply, **more))(jax.random.key(0), variables, images, labels)  # noqa: E731
    result = run()
    correct = np.asarray(result.clean_correct)
    ours = np.where(result.success, result.l2, np.inf)[correct]
    two = run(num_candidates=2)
    assert (two.used <= 2 * 50).all() and two.success[correct].all()
    assert np.median(ours) <= np.median(two.l2[correct])
    # Those that are wrong from the start are left alone.
    assert not result.used[~correct].any() and not result.l2[~correct].any()

    foolbox = pytest.importorskip("foolbox")
    model = foolbox.models.JAXModel(lambda x: classifier.apply(variables, x), bounds=(0, 1), data_format="channels_last")
    with jax.numpy_rank_promotion("allow"):
        attack = foolbox.attacks.L2DeepFoolAttack(candidates=10)
        _, advs, success = attack(model, images, labels, epsilons=None)
    theirs = np.where(success, DISTANCE["l2"](np.asarray(advs - images)), np.inf)[correct]
    assert np.isfinite(ours).mean() >= np.isfinite(theirs).mean() - 0.02
    assert np.median(ours) <= 1.05 * np.median(theirs)
    assert np.median(ours) >= 0.8 * np.median(theirs)
    # Foolbox's steps undo the overshoot, ours end beyond the boundary by it.
    hardly = np.where((little := run(overshoot=1e-3)).success, little.l2, np.inf)[correct]
    assert np.median(ours / theirs) > 1.004
    assert np.abs(np.median(hardly / theirs) - 1) < 1e-3


def test_each_norm_is_smallest_where_it_is_asked_for_and_every_image_stops_by_itself(digits):
    classifier, variables, images, labels = digits
    run = lambda *more: jax.jit(deepfool(classifier.apply, *more))(jax.random.key(0), variables, images, labels)  # noqa: E731
    l2, linf = run("l2"), run("linf")
    correct = np.asarray(l2.clean_correct)
    assert l2.success[correct].all() and linf.success[correct].all()
    assert np.median(l2.l2[correct]) < np.median(linf.l2[correct])
    assert np.median(linf.linf[correct]) < np.median(l2.linf[correct])
    used = np.asarray(l2.used)
    assert len(np.unique(used[correct])) > 1 and (used % 9 == 0).all()
    seven = jax.jit(deepfool(classifier.apply, num_slots=7))(jax.random.key(0), variables, images, labels)
    np.testing.assert_allclose(seven.adversarial, l2.adversarial, atol=1e-5)
    np.testing.assert_array_equal(seven.used, used)
    # One step less than an image took is not enough for it, and all it took for the others.
    most = int(used.max()) // 9
    np.testing.assert_array_equal(run("l2", most - 1).success, np.asarray(l2.success) & (used < 9 * most))


def test_where_a_network_saturates_fab_is_nearer_than_deepfool_and_lbfgs(digits):
    """Pixels pass a steep sigmoid, much as networks trained adversarially in L-inf on MNIST come to do."""
    classifier, variables, images, labels = digits
    squashed = lambda variables, x: classifier.apply(variables, jax.nn.sigmoid(16 * (x - 0.5)))  # noqa: E731
    attacks = deepfool(squashed), lbfgs(squashed), fab(squashed, "l2", num_target_classes=3)
    deep, searched, nearest = (jax.jit(attack)(jax.random.key(0), variables, images, labels) for attack in attacks)
    all_ = np.asarray(deep.success & searched.success & nearest.success)
    assert all_.sum() > 80
    assert np.median(deep.l2[all_]) > 1.3 * np.median(nearest.l2[all_])
    assert np.median(searched.l2[all_]) > 1.05 * np.median(nearest.l2[all_])


@pytest.mark.parametrize(
    "more",
    [{"norm": "l1"}, {"num_steps": 0}, {"num_candidates": 0}, {"num_slots": 0}, {"overshoot": -0.1}, {"overshoot": float("nan")}],
)
def test_bad_arguments_are_refused_when_building(more, target):
    with pytest.raises(ValueError, match=r"choose|positive"):
        deepfool(target[0].apply, **more)
