"""Fooling images by other routes: the closed form of one step on a linear model, steps in a plain loop, shares by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.fooling import fooling, noise, shares
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical


def confidence_of(result, classes):
    return np.take_along_axis(np.asarray(jax.nn.softmax(result.logits)), np.asarray(classes)[:, None], 1)[:, 0]


@pytest.mark.parametrize("bounds", [True, False])
def test_one_step_of_two_classes_is_the_sign_of_the_difference_of_their_weights(bounds):
    classifier = linear((8, 8, 1), 2)
    variables = classifier.init(jax.random.key(0))
    kernel = variables["params"]["output"]["kernel"]
    start = noise(jax.random.key(1), (20, 8, 8, 1), 0.0, 1.0, bounds)
    classes = jnp.arange(20, dtype=jnp.int32) % 2
    attack = jax.jit(fooling(classifier.apply, 0.1, 1, 0.99999, bounds))
    result = attack(jax.random.key(0), variables, start, 1 - classes, classes)
    expected = start + 0.1 * jnp.sign(kernel[:, classes] - kernel[:, 1 - classes]).T.reshape(start.shape)
    expected = jnp.clip(expected, 0, 1) if bounds else expected
    np.testing.assert_allclose(result.adversarial, expected, atol=1e-6)
    assert (result.used == 1).all() and (bounds or result.adversarial.min() < -0.5)


@pytest.mark.parametrize("confidence", [0.5, 0.99])
def test_each_image_takes_the_steps_that_a_plain_loop_takes_for_it(confidence, trained):
    classifier, variables, _ = trained
    start = noise(jax.random.key(1), (50, 8, 8, 1))
    classes = jnp.arange(50, dtype=jnp.int32) % 10
    attack = jax.jit(fooling(classifier.apply, 0.02, 100, confidence))
    result = attack(jax.random.key(0), variables, start, classes)
    assert (confidence_of(result, classes) >= confidence - 1e-6).all()
    share, _ = shares(result.logits, classes, confidence - 1e-6)
    np.testing.assert_array_equal(share, 1)
    assert len(np.unique(result.used)) > 3

    slope = jax.jit(
        jax.grad(
            lambda x, c: classifier.apply(variables, x[None])[0, c] - jax.nn.logsumexp(classifier.apply(variables, x[None])[0])
        )
    )
    probability = jax.jit(lambda x, c: jax.nn.softmax(classifier.apply(variables, x[None])[0])[c])
    for i in range(0, 50, 7):
        x, steps = start[i], 0
        while probability(x, classes[i]) < confidence:
            x, steps = np.clip(x + 0.02 * np.sign(slope(x, classes[i])), 0, 1), steps + 1
        assert abs(steps - int(result.used[i])) <= 1
        assert (np.abs(x - result.adversarial[i]) < 0.021).mean() > 0.95


def test_failed_images_are_the_surest_and_success_is_about_decisions(trained):
    classifier, variables, _ = trained
    start = noise(jax.random.key(1), (50, 8, 8, 1))
    decisions = classifier.apply(variables, start).argmax(-1).astype(jnp.int32)
    classes = (decisions + 1) % 10
    run = lambda *more: jax.jit(fooling(classifier.apply, *more))(jax.random.key(0), variables, start, decisions, classes)  # noqa: E731
    before = np.take_along_axis(np.asarray(jax.nn.softmax(classifier.apply(variables, start))), np.asarray(classes)[:, None], 1)[
        :, 0
    ]
    once, huge, many = run(), run(50.0), run(0.02, 50, 0.99)
    for result in (once, huge, many):
        assert (confidence_of(result, classes) >= before - 1e-6).all()
    assert many.success.all() and once.success.mean() <= many.success.mean()
    at_own = jax.jit(fooling(classifier.apply, 0.02, 50))(jax.random.key(0), variables, start, decisions)
    assert not at_own.success.any() and (confidence_of(at_own, decisions) >= 0.5 - 1e-6).all()


def test_shares_by_hand():
    logits = jnp.log(jnp.array([[0.6, 0.3, 0.1], [0.4, 0.35, 0.25], [0.1, 0.8, 0.1], [0.2, 0.7, 0.1]]))
    share, hardest = shares(logits, jnp.array([0, 0, 1, 1]))
    np.testing.assert_array_equal(share, [0.5, 1.0, np.nan])
    assert hardest == 0
    share, hardest = shares(logits, jnp.array([0, 0, 1, 1]), 0.75)
    np.testing.assert_array_equal(share, [0.0, 0.5, np.nan])


def test_noise_has_the_mean_and_spread_asked_for_and_is_cut_where_asked():
    drawn = noise(jax.random.key(0), (50, 8, 8, 1), 0.2, 0.5, bounds=False)
    assert abs(drawn.mean() - 0.2) < 0.05 and abs(drawn.std() - 0.5) < 0.05
    np.testing.assert_array_equal(noise(jax.random.key(0), (50, 8, 8, 1), 0.2, 0.5), jnp.clip(drawn, 0, 1))


@pytest.mark.parametrize("more", [{"step_size": 0.0}, {"num_steps": 0}, {"confidence": 1.0}, {"confidence": float("nan")}])
def test_bad_arguments_are_refused_when_building(more, target):
    with pytest.raises(ValueError, match=r"choose|positive"):
        fooling(target[0].apply, **more)
