"""Clauses that hold for every attack of `cases`: bounds, balls, success, batches, hostile images and logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import build
from mgan_jax.models.mlp import mlp

pytestmark = pytest.mark.numerical


def test_every_attack_is_here(cases):
    assert set(cases.names) == set(build.available("attacks"))


def test_inside_bounds_and_ball_and_success_recomputed(attack_name, target, compiled, images, cases, check):
    classifier, variables = target
    images, _ = images
    labels = classifier.apply(variables, images).argmax(-1).astype(jnp.int32)
    result = compiled(attack_name)(jax.random.key(1), variables, images, labels)
    check(result, classifier, variables, images, labels)
    if attack_name in cases.bounded:
        assert result.linf.max() <= 0.2 + 1e-6


def test_hostile_inputs_have_defined_results(attack_name, target, compiled, cases, check):
    """Constant images, exact 0 and 1, misclassified images; huge, negative, equal logits, learned from too; targets as labels."""
    classifier, variables = target
    images = jnp.stack([jnp.full((8, 8, 1), value) for value in (0.0, 1.0, 0.5, 0.0, 1.0, 0.25)] + [jnp.eye(8)[..., None]] * 2)
    labels = jnp.arange(8, dtype=jnp.int32)
    head = variables["params"]["output"]
    heads = {
        "huge": {**head, "kernel": head["kernel"] * 1e6},
        "negative": {**head, "bias": head["bias"] - 1e4},
        "equal": jax.tree.map(jnp.zeros_like, head),
    }
    for change in heads.values():
        other = {**variables, "params": {**variables["params"], "output": change}}
        learns = attack_name in cases.learned
        attack = jax.jit(cases.make(attack_name, classifier.apply, 0.2, other)) if learns else compiled(attack_name)
        check(attack(jax.random.key(2), other, images, labels), classifier, other, images, labels)
    if attack_name not in cases.untargeted:
        result = compiled(attack_name)(jax.random.key(2), variables, images, labels, targets=labels)
        check(result, classifier, variables, images, labels, labels)
        assert not result.success.any()


def test_balls_in_l2_hold_whatever_the_inputs(l2_name, target, images, cases, check):
    """Misclassified images and constant ones, exact 0 and 1; targets by position and by l2_name."""
    classifier, variables = target
    images = jnp.concatenate([images[0][:5], jnp.zeros((1, 8, 8, 1)), jnp.ones((1, 8, 8, 1)), jnp.full((1, 8, 8, 1), 0.5)])
    labels = jnp.arange(8, dtype=jnp.int32)
    attack = jax.jit(cases.in_l2[l2_name](classifier.apply, 0.5, "l2"))
    results = [attack(jax.random.key(2), variables, images, labels)]
    check(results[0], classifier, variables, images, labels)
    if l2_name != "selective_gradient_descent":
        targets = labels[::-1]
        results += [attack(jax.random.key(2), variables, images, labels, targets)]
        check(results[1], classifier, variables, images, labels, targets)
        named = attack(jax.random.key(2), variables, images, labels, targets=targets)
        np.testing.assert_array_equal(named.adversarial, results[1].adversarial)
    for result in results:
        assert result.l2.max() <= 0.5 + 1e-5 and (result.l2.max() > 0.25 or l2_name == "fab")  # which returns the smallest change


@pytest.mark.parametrize("name", ["bim", "carlini_wagner_l2", "deepfool", "fgsm", "jsma", "square"])
def test_compiled_or_not_it_is_the_same(name, target, compiled, images, cases):
    classifier, variables = target
    attacks = compiled(name), cases.make(name, classifier.apply, 0.2, variables)
    runs = [attack(jax.random.key(3), variables, *images) for attack in attacks]
    assert (np.abs(runs[0].adversarial - runs[1].adversarial) < 1e-5).mean() > 0.98


def test_a_batch_of_one_and_two_classes(attack_name, cases, check):
    classifier = mlp((8, 8, 1), 2, (4,))
    variables = classifier.init(jax.random.key(0))
    images, labels = jnp.full((1, 8, 8, 1), 0.5), jnp.zeros(1, jnp.int32)
    result = jax.jit(cases.make(attack_name, classifier.apply, 0.2, variables))(jax.random.key(3), variables, images, labels)
    check(result, classifier, variables, images, labels)


def test_epsilon_zero_returns_the_input(bounded_name, target, images, cases):
    classifier, variables = target
    result = jax.jit(cases.make(bounded_name, classifier.apply, 0.0, variables))(jax.random.key(1), variables, *images)
    np.testing.assert_array_equal(result.adversarial, images[0])


def test_batch_equals_one_by_one_for_attacks_that_draw_nothing(steady_name, target, compiled, images):
    variables = target[1]
    images, labels = images
    whole = compiled(steady_name)(jax.random.key(0), variables, images, labels).adversarial
    single = [
        compiled(steady_name)(jax.random.key(0), variables, images[i : i + 1], labels[i : i + 1]).adversarial[0] for i in range(3)
    ]
    # A pixel whose gradient is nearly zero may go the other way.
    assert (np.abs(whole[:3] - np.stack(single)) < 1e-5).mean() > 0.98


def test_one_trace_serves_many_batches_and_a_key_gives_one_result(attack_name, target, compiled, images):
    variables = target[1]
    attack = compiled(attack_name)
    first = attack(jax.random.key(3), variables, *images).adversarial
    count = compiled.traces
    attack(jax.random.key(4), variables, images[0][::-1], images[1])
    assert compiled.traces == count
    np.testing.assert_array_equal(attack(jax.random.key(3), variables, *images).adversarial, first)
