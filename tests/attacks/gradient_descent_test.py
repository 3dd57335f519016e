"""Gradient descent on the quadratic cost by other routes: NumPy steps by hand, what lambda trades, noise read as a class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.gradient_descent import gradient_descent
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical


@pytest.fixture
def aims(trained):
    """The trained classifier, its variables, 20 test images, labels, and classes to reach."""
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:20]), jnp.asarray(data.test.labels[:20])
    return classifier, variables, images, labels, (labels + 1 + jnp.arange(20) % 9) % 10


def by_hand(x, pictures, kernel, bias, goal, weight, output, bounds, steps, size):
    """Plain steps in float64 with the derivatives written out; returns the iterate of least cost."""
    best, best_cost = x, np.full(len(x), np.inf)
    for _ in range(steps + 1):
        logits = x @ kernel + bias
        if output == "softmax":
            y = np.exp(logits - logits.max(1, keepdims=True))
            y /= y.sum(1, keepdims=True)
        else:
            y = 1 / (1 + np.exp(-logits))
        cost = np.square(goal - y).sum(1) / 2 + weight * np.square(x - pictures).sum(1)
        better = cost < best_cost
        best, best_cost = np.where(better[:, None], x, best), np.where(better, cost, best_cost)
        slope = y - goal
        back = y * (slope - (slope * y).sum(1, keepdims=True)) if output == "softmax" else y * (1 - y) * slope
        x = x - size * (back @ kernel.T + 2 * weight * (x - pictures))
        x = np.clip(x, 0, 1) if bounds else x
    return np.clip(best, 0, 1)


@pytest.mark.parametrize(("output", "bounds", "weight"), [("softmax", True, 0.02), ("sigmoid", False, 0.005)])
def test_steps_on_a_linear_model_are_those_written_out(output, bounds, weight, images):
    classifier = linear((8, 8, 1), 10)
    variables = classifier.init(jax.random.key(0))
    head = variables["params"]["output"]
    images, labels = images
    targets = (labels + 3) % 10
    run = lambda steps, size: jax.jit(  # noqa: E731
        gradient_descent(classifier.apply, weight, steps, size, output, bounds)
    )(jax.random.key(1), variables, images, labels, targets)
    # A step of nearly nothing shows the start.
    start = np.asarray(run(1, 1e-12).adversarial, np.float64).reshape(8, -1)
    assert 0 <= start.min() < 0.05 and 0.25 < start.max() <= 0.3
    flat, kernel, bias = (np.asarray(a, np.float64) for a in (images.reshape(8, -1), head["kernel"], head["bias"]))
    expected = by_hand(start, flat, kernel, bias, np.eye(10)[targets], weight, output, bounds, 20, 2.0)
    np.testing.assert_allclose(run(20, 2.0).adversarial.reshape(8, -1), expected, atol=1e-4)


def test_noise_is_read_as_a_class_and_the_larger_lambda_the_nearer_the_picture(aims):
    classifier, variables, images, labels, targets = aims
    weights = (0.0, 0.005, 0.05, 5.0)
    attack = gradient_descent(classifier.apply, weights, 400, 0.15)
    result = jax.jit(attack)(jax.random.key(0), variables, images, labels, targets)
    confidence = jnp.take_along_axis(jax.nn.softmax(result.logits), jnp.broadcast_to(targets, (4, 20))[..., None], -1)[..., 0]
    assert (confidence[0] > 0.9).mean() > 0.9
    medians = np.median(result.l2, axis=1)
    assert (np.diff(medians) < 0).all() and medians[0] > 1.2 * medians[1]
    # At the largest lambda, giving up is cheaper: the picture itself comes back, and no success is claimed.
    assert medians[3] < 0.1 and not result.success[3].any()
    assert result.success[1].mean() > 0.8
    single = jax.jit(gradient_descent(classifier.apply, 0.05, 400, 0.15))(jax.random.key(0), variables, images, labels, targets)
    np.testing.assert_allclose(result.adversarial[2], single.adversarial, atol=1e-3)


def test_steps_that_run_away_come_back_as_the_iterate_of_least_cost(aims):
    classifier, variables, images, labels, targets = aims
    attack = gradient_descent(classifier.apply, 1.0, 200, 100.0, bounds=False)
    result = jax.jit(attack)(jax.random.key(0), variables, images, labels, targets)
    assert np.isfinite(result.adversarial).all() and np.isfinite(result.logits).all()
    assert result.adversarial.max() <= 0.3 and result.adversarial.min() >= 0


@pytest.mark.parametrize(
    "more",
    [
        {"distance_weight": -1.0},
        {"distance_weight": [0.1, float("inf")]},
        {"distance_weight": []},
        {"num_steps": 0},
        {"step_size": 0.0},
        {"output": "logits"},
        {"brightness": 1.5},
    ],
)
def test_bad_arguments_are_refused_when_building(more, target):
    with pytest.raises(ValueError, match=r"choose|positive"):
        gradient_descent(target[0].apply, **more)
