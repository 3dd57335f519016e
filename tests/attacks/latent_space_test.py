"""The attack in latent space on a plane and a line, where the best code is known, and on a defense that it is made for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.latent_space import latent_space
from mgan_jax.attacks.result import robust_accuracy

SHAPE = (1, 3, 1)


def decode(matrix, codes):
    return (0.5 + codes @ matrix).reshape(-1, *SHAPE)


def behind(variables, images):
    """A line between two classes."""
    scores = (images.reshape(len(images), -1) - 0.5) @ variables["target"]
    return jnp.stack([scores, -scores], axis=-1)


def inverting(variables, images):
    """Least squares in place of a descent."""
    matrix = variables["defense"]["generator"]
    codes = (images.reshape(len(images), -1) - 0.5) @ jnp.linalg.pinv(matrix)
    return behind(variables, decode(matrix, codes))


@pytest.fixture(scope="module")
def problem():
    """Codes are the first two of three pixels; the target looks at the first, and at the third, which no code changes."""
    matrix = jnp.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    variables = {"target": jnp.array([1.0, 0.0, 5.0]), "defense": {"generator": matrix}}
    images = jnp.array([[0.6, 0.4, 0.5], [0.7, 0.5, 0.5], [0.9, 0.5, 0.5], [0.55, 0.2, 0.7]]).reshape(4, *SHAPE)
    return variables, images, jnp.zeros(4, jnp.int32)


def run(problem, attacked=inverting, **more):
    arguments = {"code_size": 2, "epsilon": 0.25, "num_steps": 60, "inversion_steps": 50, **more}
    return jax.jit(latent_space(attacked, decode, behind, **arguments))(jax.random.key(0), *problem)


def test_it_fools_exactly_where_the_ball_reaches_over_the_line(problem):
    result = run(problem)
    np.testing.assert_array_equal(result.success, [True, True, False, True])
    assert result.linf.max() <= 0.25 + 1e-6 and (result.used == 240).all()
    # The third pixel would fool the target alone and is nothing to the inversion: what a code cannot make is left alone.
    np.testing.assert_array_less(jnp.abs(result.adversarial - problem[1])[:3, 0, 2, 0], 1e-6)


def test_a_ball_without_radius_returns_the_images_and_in_one_that_holds_all_codes_the_first_that_fools_is_kept(problem):
    result = run(problem, epsilon=0.0, norm="l2", confidences=(1.0,))
    np.testing.assert_array_equal(result.adversarial, problem[1])
    near = run(problem, epsilon=10.0, norm="l2", confidences=(1e-3,), num_steps=200, learning_rate=0.02)
    # The foot of the perpendicular lies at .5; the ball is so large that no code lies outside, and the first that fools is kept.
    assert near.success.all() and (near.adversarial[:, 0, 0, 0] < 0.5).all()


def test_of_the_codes_that_fool_the_one_closest_to_the_ball_is_kept(problem):
    """No code lies in the ball, and x' is on the way to G(z): the further that is, the less of the third pixel is taken off."""
    variables, images, labels = problem
    images = images.at[:, 0, 2, 0].set(0.6)
    foot = images.at[:, 0, 0, 0].set(0.5).at[:, 0, 2, 0].set(0.5)
    away = foot - images
    expected = images + 0.05 * away / jnp.sqrt(jnp.square(away).sum((1, 2, 3), keepdims=True))
    more = {"norm": "l2", "confidences": (0.0,), "num_steps": 300, "learning_rate": 0.02}
    found = run((variables, images, labels), epsilon=0.05, **more)
    np.testing.assert_allclose(found.adversarial, expected, atol=5e-4)


def test_targets_and_a_sweep(problem):
    variables, images, labels = problem
    attack = latent_space(inverting, decode, behind, 2, (0.05, 0.25, 0.5), num_steps=60, inversion_steps=50)
    sweep = jax.jit(attack)(jax.random.key(0), variables, images, labels, labels + 1)
    np.testing.assert_array_equal(sweep.success.sum(1), [0, 3, 4])
    np.testing.assert_array_equal(sweep.success[1], run(problem).success)


def test_where_it_was_made_for_it_beats_the_attack_that_does_not_know(problem):
    variables, images, labels = problem
    blind = fgsm(behind, 0.25)(jax.random.key(0), variables, images, labels)
    assert robust_accuracy(blind) == 0
    # FGSM moves the first pixel too: give it no advantage there.
    pixels = blind.adversarial.at[:, 0, :2, 0].set(images[:, 0, :2, 0])
    assert (inverting(variables, pixels).argmax(-1) == labels).all()
    assert robust_accuracy(run(problem)) < 0.5


@pytest.mark.parametrize(
    "bad",
    [
        {"epsilon": 1.5},
        {"norm": "l7"},
        {"num_steps": 0},
        {"confidences": (-1.0,)},
        {"confidences": ()},
        {"weight_factor": 1.0},
        {"inversion_rate": 0.0},
        {"num_restarts": 0},
    ],
)
def test_bad_arguments_are_refused_when_building(bad):
    value = str(next(iter(bad.values()))).replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(ValueError, match=value):
        latent_space(inverting, decode, behind, **bad)
