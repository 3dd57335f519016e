"""AutoAttack by other routes: its stages called one after another, and what they add up to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.apgd import apgd
from mgan_jax.attacks.autoattack import autoattack
from mgan_jax.attacks.fab import fab
from mgan_jax.attacks.result import attack_result
from mgan_jax.models.linear import linear


def test_is_the_worst_case_of_its_stages_and_counts_what_each_image_got(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:60]), jnp.asarray(data.test.labels[:60])
    key = jax.random.key(0)
    epsilons = (0.03, 0.1)
    # Logits so large that cross-entropy has no gradient left for many images: the later stages have work.
    huge = lambda v, x: 1e4 * classifier.apply(v, x)  # noqa: E731
    attack = autoattack(huge, epsilons, num_steps=8, num_target_classes=3, num_queries=30, group_size=7)
    result = jax.jit(attack)(key, variables, images, labels)
    first = jax.jit(apgd(huge, epsilons, num_steps=8))(jax.random.fold_in(key, 0), variables, images, labels)
    # It draws nothing, so that every image gets in its group what it gets here.
    third = jax.jit(fab(huge, num_steps=8, num_target_classes=3, epsilon=epsilons))(key, variables, images, labels)
    everything = 8 + 3 * 8 + 3 * 8 + 30
    assert (result.success >= third.success).all()
    assert (result.success >= first.success).all() and result.success.sum(1)[1] > result.success.sum(1)[0] > 0
    assert result.success.sum() > first.success.sum() + 5
    for k in range(2):
        fooled = first.logits[k].argmax(-1) != labels
        assert (result.used[k][fooled] == 8).all() and (result.used[k][~fooled] > 8).all()
        assert (result.used[k][result.clean_correct[k] & ~result.success[k]] == everything).all()
        np.testing.assert_allclose(result.adversarial[k][fooled], first.adversarial[k][fooled], atol=1e-5)
        assert result.linf[k].max() <= epsilons[k] + 1e-6


@pytest.mark.parametrize("num_classes, aimed, used", [(2, False, 28), (3, False, 36), (3, True, 28), (4, True, 32)])
def test_leaves_out_what_dlr_cannot_do(num_classes, aimed, used, images):
    classifier = linear((8, 8, 1), num_classes)
    safe = lambda v, x: classifier.apply(v, x) + 1e3 * jnp.eye(num_classes)[:1]  # noqa: E731
    labels = jnp.zeros(8, jnp.int32)
    targets = jnp.ones(8, jnp.int32) if aimed else None
    attack = jax.jit(autoattack(safe, 0.01, num_steps=4, num_queries=20))
    result = attack(jax.random.key(0), classifier.init(jax.random.key(0)), images[0], labels, targets)
    assert (result.used == used).all() and not result.success.any()


def stage(name, change, used, calls):
    """A factory like `apgd_within` of an attack that adds `change(images)` and counts `used`; `calls` gets its settings."""

    def build(apply_fn, *settings, **more):
        def attack(epsilon, key, variables, images, labels, targets=None):
            calls.append((name, *settings[1:2], *([more] if "stretched" in more else [])))
            return attack_result(apply_fn, variables, images, images + change(images), labels, targets, used)

        return attack

    return build


def test_is_the_worst_case_of_all_four_in_the_published_order(monkeypatch):
    """Images of four kinds, each of which one stage alone fools."""
    calls = []
    kind = np.arange(14) % 5
    images = jnp.zeros((14, 4, 4, 1)).at[:, 0, 0, 0].set(kind / 5)
    apply_fn = lambda v, x: jnp.stack([jnp.full(len(x), 0.1), x[:, 1, 1, 0], x[:, 0, 0, 0] - 9, x[:, 0, 0, 0] - 9], 1)  # noqa: E731

    def of_kind(kind):
        return lambda images: jnp.zeros_like(images).at[:, 1, 1, 0].set(jnp.where(images[:, 0, 0, 0] == kind / 5, 0.2, 0.0))

    of_loss = {"cross_entropy": (0, 1), "dlr": (4, 0), "targeted_dlr": (1, 10)}

    def apgd_stage(apply_fn, norm, loss, *settings, **more):
        kind, used = of_loss[loss]
        return stage(loss, of_kind(kind), used, calls)(apply_fn, norm, loss, *settings, **more)

    monkeypatch.setattr("mgan_jax.attacks.autoattack.apgd_within", apgd_stage)
    monkeypatch.setattr("mgan_jax.attacks.autoattack.fab_within", stage("fab", of_kind(2), 100, calls))
    monkeypatch.setattr("mgan_jax.attacks.autoattack.square_within", stage("square", of_kind(3), 1000, calls))
    labels = jnp.zeros(14, jnp.int32)
    result = autoattack(apply_fn, 0.2, group_size=4)(jax.random.key(0), {}, images, labels)
    np.testing.assert_array_equal(result.success, kind < 4)
    np.testing.assert_array_equal(result.used, np.asarray([1, 11, 111, 1111, 1111])[kind])
    assert [name for name, *_ in calls] == ["cross_entropy", "targeted_dlr", "fab", "square"]
    # The published numbers: steps of APGD and FAB, queries of Square, whose schedule remains that of 10,000.
    assert calls[2:] == [("fab", 100), ("square", 5000, {"num_slots": 4, "stretched": False})]


@pytest.mark.parametrize("norm, epsilon", [("linf", 0.08), ("l2", 0.4)])
def test_what_fab_finds_outside_epsilon_does_not_count(norm, epsilon, trained, monkeypatch):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:30]), jnp.asarray(data.test.labels[:30])
    idle = stage("idle", jnp.zeros_like, 0, [])
    monkeypatch.setattr("mgan_jax.attacks.autoattack.apgd_within", idle)
    monkeypatch.setattr("mgan_jax.attacks.autoattack.square_within", idle)
    run = lambda attack: jax.jit(attack)(jax.random.key(0), variables, images, labels)  # noqa: E731
    free = run(fab(classifier.apply, norm, 10, num_target_classes=3))
    result = run(autoattack(classifier.apply, epsilon, norm, 10, num_target_classes=3, group_size=8))
    near = np.asarray(getattr(free, norm)) <= epsilon
    assert free.success.sum() > 25 and 0 < (free.success & near).sum() < free.success.sum() - 5
    np.testing.assert_array_equal(result.success, free.success & near)
    assert getattr(result, norm).max() <= epsilon + 1e-6


@pytest.mark.parametrize("arguments", [{"group_size": 0}, {"num_steps": 0}, {"num_queries": 0}, {"norm": "l1"}])
def test_bad_arguments_are_refused_when_building(arguments, target):
    with pytest.raises(ValueError, match=r"choose|positive"):
        autoattack(target[0].apply, **arguments)
