"""Expectation over transformations: its mean and derivative by hand, and a defense whose draws mislead a single gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.expectation_over_transformations import expectation_over_transformations
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.pgd import pgd
from mgan_jax.defenses.invert_and_classify import invert_and_classify
from mgan_jax.types import AttackResult


def flipping(variables, images):
    """Two classes by the sum of the pixels; a draw of signs says which count negative, on average one in five."""
    total = images.reshape(len(images), -1) @ variables["signs"]
    return jnp.stack([-total, total], -1)


def redraw(key, variables):
    return {**variables, "signs": jnp.where(jax.random.uniform(key, variables["signs"].shape) < 0.8, 1.0, -1.0)}


@pytest.mark.parametrize("method", ["map", "vmap"])
def test_it_attacks_the_mean_of_the_logits_of_its_own_draws(method):
    images = jnp.asarray(np.random.default_rng(0).random((3, 4, 4, 1)), jnp.float32)
    variables = {"signs": jnp.ones(16)}
    seen = {}

    def make_attack(apply_fn):
        def attack(key, drawn, images, labels, targets):
            seen["signs"] = drawn["signs"]
            seen["logits"], seen["slopes"] = apply_fn(drawn, images), jax.grad(lambda x: apply_fn(drawn, x)[:, 0].sum())(images)
            return fgsm(apply_fn, 0.1)(key, drawn, images, labels, targets)

        return attack

    attack = expectation_over_transformations(flipping, make_attack, redraw, num_draws=5, method=method)
    result = attack(jax.random.key(1), variables, images, jnp.zeros(3, jnp.int32))
    signs = np.asarray(seen["signs"])
    assert signs.shape == (5, 16) and len(np.unique(signs, axis=0)) == 5
    flat = np.asarray(images).reshape(3, 16)
    totals = flat @ signs.mean(0)
    np.testing.assert_allclose(seen["logits"], np.stack([-totals, totals], 1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(np.asarray(seen["slopes"]).reshape(3, 16), [-signs.mean(0)] * 3, rtol=1e-5)
    expected = np.clip(flat + 0.1 * np.sign(signs.mean(0))[None], 0, 1)
    np.testing.assert_allclose(np.asarray(result.adversarial).reshape(3, 16), expected, atol=1e-6)
    np.testing.assert_array_equal(result.used, 5)


def test_the_mean_finds_what_one_draw_does_not():
    """The signs on average are positive: many draws say so, one has a fifth of them wrong, and the defense another fifth."""
    count = 200
    images, labels = jnp.full((count, 8, 8, 1), 0.5), jnp.zeros(count, jnp.int32)
    variables = {"signs": jnp.ones(64)}

    def moved(num_draws):
        attack = jax.jit(expectation_over_transformations(flipping, lambda f: fgsm(f, 0.1), redraw, num_draws))
        return np.mean([attack(jax.random.key(k), variables, images, labels).adversarial[0] > 0.5 for k in range(20)])

    assert moved(1) == pytest.approx(0.8, abs=0.06)
    assert moved(25) > 0.98


def test_every_step_draws_anew_and_attacks_the_mean_of_its_draws():
    variables = {"signs": jnp.ones(16)}
    images, labels = jnp.asarray(np.random.default_rng(0).random((3, 4, 4, 1)), jnp.float32), jnp.zeros(3, jnp.int32)
    slopes = []

    def make_attack(apply_fn, loss):
        def attack(key, drawn, images, labels, targets):
            for step in (0, 1, 1):
                slope = jax.grad(lambda x: loss(key, step, drawn, x, None, labels).sum())(images)  # noqa: B023
                slopes.append(np.asarray(slope).reshape(3, 16))
            return pgd(apply_fn, 0.1, 2, 0.05, loss=loss)(key, drawn, images, labels, targets)

        return attack

    attack = expectation_over_transformations(flipping, make_attack, redraw, num_draws=5, every_step=True)
    with jax.debug_key_reuse(False):
        result = attack(jax.random.key(1), variables, images, labels)
    np.testing.assert_array_equal(result.used, 10)
    np.testing.assert_allclose(slopes[1], slopes[2])
    assert np.abs(slopes[0] - slopes[1]).max() > 0.1
    # d CE / dx = 2 p_1 mean(signs) for logits -t, t: a multiple of an odd number from -5 to 5.
    shares = slopes[0] / np.abs(slopes[0]).max(1, keepdims=True)
    assert len(np.unique(np.abs(shares[0]).round(4))) > 1 and (np.abs(shares) > 0.19).all()


@pytest.mark.parametrize("num_draws", [1, 4])
def test_draws_of_every_step_are_at_least_as_strong_as_those_of_a_batch(num_draws):
    """Steps of one set of draws all go the same wrong way; those of many average out."""
    count = 200
    images, labels = jnp.full((count, 8, 8, 1), 0.5), jnp.zeros(count, jnp.int32)
    variables = {"signs": jnp.ones(64)}

    def moved(every_step):
        make = lambda f, **more: pgd(f, 0.1, 20, 0.01, random_start=False, **more)  # noqa: E731
        attack = expectation_over_transformations(flipping, make, redraw, num_draws, every_step=every_step)
        attack = jax.jit(attack)
        return np.mean([attack(jax.random.key(k), variables, images, labels).adversarial[0] > 0.5 for k in range(10)])

    once, anew = moved(False), moved(True)
    assert anew > once + (0.1 if num_draws == 1 else 0) and anew > 0.98


def test_success_is_that_on_the_draws_of_the_defense():
    images, labels = jnp.full((1, 2, 2, 1), 0.5), jnp.zeros(1, jnp.int32)
    attack = expectation_over_transformations(flipping, lambda f: fgsm(f, 0.1), lambda key, v: {"signs": jnp.ones(4)}, 2)
    results = [attack(jax.random.key(0), {"signs": sign * jnp.ones(4)}, images, labels) for sign in (1.0, -1.0)]
    assert all(isinstance(result, AttackResult) for result in results)
    assert not results[0].clean_correct and results[1].clean_correct and not results[1].success


def test_invert_and_classify_draws_other_starts_and_keeps_the_rest():
    matrix = jnp.eye(4)
    classify = lambda weights, images: images.reshape(len(images), -1) @ weights  # noqa: E731
    decode = lambda state, codes: (codes @ state).reshape(-1, 2, 2, 1)  # noqa: E731
    defense = invert_and_classify(classify, decode, lambda key, images: matrix, 4, 2, 5, 0.2)
    state = defense.fit(jax.random.key(0), None, jnp.zeros((1, 2, 2, 1)), jnp.zeros(1, jnp.int32))
    variables = {"target": matrix, "defense": state}
    other = defense.redraw(jax.random.key(1), variables)
    assert jax.tree.structure(other) == jax.tree.structure(variables)
    assert (other["defense"]["starts"] != variables["defense"]["starts"]).all()
    assert other["target"] is variables["target"] and other["defense"]["generator"] is variables["defense"]["generator"]


def test_no_draws_and_unknown_methods_are_refused():
    with pytest.raises(ValueError, match="num_draws is 0"):
        expectation_over_transformations(flipping, fgsm, redraw, 0)
    with pytest.raises(ValueError, match="method is 'foo'"):
        expectation_over_transformations(flipping, fgsm, redraw, method="foo")
