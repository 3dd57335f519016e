"""Every attack where a number is not finite: one image beside others, a gradient, logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.result import robust_accuracy, success_rate
from mgan_jax.losses import margin_to_fool
from mgan_jax.training import gan

pytestmark = pytest.mark.numerical

BLACK, WHITE = 2, 5


@pytest.fixture(scope="module")
def broken(target):
    """The target, whose gradient at a black image is NaN, and whose logits are at one nearly white."""

    def apply(variables, images):
        root = jnp.sqrt(jnp.square(images).sum((1, 2, 3)))
        nothing = jnp.where(images.mean((1, 2, 3)) > 0.95, jnp.nan, 0.0)
        return target[0].apply(variables, images) + (0.0 * root + nothing)[:, None]

    return apply


def batch(images):
    images = images.at[BLACK].set(0.0).at[WHITE].set(1.0)
    return images, jnp.arange(len(images), dtype=jnp.int32)


def test_one_image_that_is_not_finite_leaves_the_others_alone(attack_name, target, compiled, images, check):
    """Under jit, where nothing refuses it."""
    classifier, variables = target
    images, _ = images
    labels = classifier.apply(variables, images).argmax(-1).astype(jnp.int32)
    run = lambda x: compiled(attack_name)(jax.random.key(1), variables, x, labels)  # noqa: E731
    result, usual = run(images.at[3, 2, 2].set(jnp.nan)), run(images)
    assert not result.finite[3] and not result.success[3] and not result.success_rounded[3] and not result.clean_correct[3]
    others = np.arange(len(images)) != 3
    assert result.finite[others].all()
    part = lambda tree: jax.tree.map(lambda leaf: leaf[others], tree)  # noqa: E731
    check(part(result), classifier, variables, images[others], labels[others])
    if attack_name != "autoattack":  # where draws belong to places among the images that are left
        assert (np.abs(part(result).adversarial - part(usual).adversarial) < 1e-5).mean() > 0.98


def test_gradients_and_logits_that_are_not_finite_are_no_success(attack_name, target, broken, images, cases):
    classifier, variables = target
    images, _ = batch(images[0])
    labels = classifier.apply(variables, images).argmax(-1).astype(jnp.int32)
    result = jax.jit(cases.make(attack_name, broken, 0.2, variables))(jax.random.key(1), variables, images, labels)
    logits = broken(variables, result.adversarial)
    finite = np.isfinite(logits).all(-1) & (np.arange(8) != WHITE)
    assert np.isfinite(result.adversarial).all() and np.isfinite(result.l2).all() and np.isfinite(result.linf).all()
    assert not result.clean_correct[WHITE] and not result.finite[WHITE] and not result.success[WHITE]
    assert not (result.finite & ~finite).any() and not (result.success & ~finite).any()
    np.testing.assert_array_equal(result.clean_correct, np.arange(8) != WHITE)
    others = np.array([i for i in range(8) if i not in (BLACK, WHITE)])
    assert result.finite[others].all()
    fools = margin_to_fool(logits, labels) < 0
    np.testing.assert_array_equal(result.success[others], fools[others])
    assert np.isfinite(success_rate(result))
    read = np.where(finite, np.asarray(logits).argmax(-1), -1)
    assert robust_accuracy(result) == (result.clean_correct & (read == labels)).sum() / 8


def test_what_one_learns_from_many_images_is_finite(learned_name, target, broken, images, cases):
    learned = cases.learn(learned_name, broken, 0.2, target[1])
    state = jax.jit(learned.fit)(jax.random.key(2), target[1], *batch(images[0]))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("name", ["advgan", "mgan", "undetected"])
def test_a_generator_learns_beside_images_that_are_not_finite(name, target, broken, images, cases):
    attack = cases.generative(name, broken, 0.2)
    images, labels = batch(images[0])
    state = gan.init_state(jax.random.key(3), attack, (8, 8, 1), gan.optimizer(1e-3, 10))
    step = jax.jit(gan.make_train_step(attack, target[1], gan.optimizer(1e-3, 10)))
    state, metrics = step(state, jax.random.key(4), 0, images, labels)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((state.params, metrics)))
