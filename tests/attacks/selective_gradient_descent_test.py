"""The attack on detectors: in two pixels by hand, and where PGD is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.selective_gradient_descent import ORTHOGONAL, selective_gradient_descent, without
from mgan_jax.detectors.combined import threshold
from mgan_jax.detectors.kernel_density import kernel_density

pytestmark = pytest.mark.numerical


def total(variables, images):
    """Class 1 where the two pixels sum to more than 1."""
    return jnp.stack([jnp.zeros(len(images)), images.sum((1, 2, 3)) - 1], axis=-1)


def second(variables, images):
    """A detector that looks at the second pixel alone."""
    return images[:, 0, 1, 0]


IMAGES, LABELS = jnp.full((2, 1, 2, 1), 0.3), jnp.zeros(2, jnp.int32)


def test_without_leaves_what_is_orthogonal(images):
    first, other = images[0], images[0][::-1] - 0.5
    rest = without(first, other)
    np.testing.assert_allclose((rest * other).sum((1, 2, 3)), 0, atol=1e-4)
    by_hand = first - ((first * other).sum((1, 2, 3)) / jnp.square(other).sum((1, 2, 3)))[:, None, None, None] * other
    np.testing.assert_allclose(rest, by_hand, atol=1e-5)
    np.testing.assert_array_equal(without(first, jnp.zeros_like(first)), first)


def constant(variables, images):
    """A detector that passes everything."""
    return jnp.zeros(len(images))


def test_orthogonal_steps_in_two_pixels_are_those_by_hand():
    """(1, 1) less its part along (0, 1) is (1, 0): the first pixel alone moves, a step of sqrt(2) of the size, until it fools."""
    attack = selective_gradient_descent(
        total, second, 0.35, 0.5, num_steps=5, step_size=0.1, random_start=False, orthogonal="both"
    )
    found = attack(jax.random.key(0), {}, IMAGES, LABELS)
    # Three steps to .3 + 3 * .1 sqrt(2) = .724 fool; from there the score falls along (1, -1), which leaves the sum.
    assert found.success.all() and found.used[0] == 10
    x = np.asarray(found.adversarial[0]).ravel()
    steps = [np.array([0.3, 0.3])]
    for _ in range(5):
        fools = steps[-1].sum() > 1
        move = np.array([1, -1]) / 2**0.5 if fools else np.array([1.0, 0.0])
        steps.append(np.clip(steps[-1] + 0.1 * 2**0.5 * move, 0, 0.8))
    passing = [s for s in steps if s.sum() > 1 and s[1] <= 0.35]
    np.testing.assert_allclose(x, min(passing, key=lambda s: s[1]), atol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("orthogonal", ORTHOGONAL)
def test_a_constant_detector_costs_nothing_of_pgds_success(norm, orthogonal, trained):
    """From the same start the iterates are PGD's until an image fools; from draws of their own within two images."""
    classifier, variables, data = trained
    images, labels = (jnp.asarray(array[:100]) for array in data.test)
    epsilon, steps = {"linf": 0.08, "l2": 0.4}[norm], 10
    size = 0.01 if norm == "linf" else None
    for start in (False, True):
        plain = pgd(classifier.apply, epsilon, steps, size, random_start=start, norm=norm)
        attack = selective_gradient_descent(
            classifier.apply, constant, 0.0, epsilon, steps, norm=norm, random_start=start, orthogonal=orthogonal
        )
        theirs, ours = (jax.jit(one)(jax.random.key(0), variables, images, labels) for one in (plain, attack))
        fooled = int(theirs.success.sum()), int(ours.success.sum())
        assert 20 <= fooled[0] <= 80, "neither nothing nor everything fools"
        assert abs(fooled[0] - fooled[1]) <= (2 if start else 0)
        np.testing.assert_array_equal(ours.used, steps)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_targets_are_descended_to_as_pgd_does(norm, trained):
    classifier, variables, data = trained
    images, labels = (jnp.asarray(array[:60]) for array in data.test)
    given = jax.random.key(0), variables, images, labels, (labels + 1) % 10
    epsilon, size = {"linf": (0.15, 0.01), "l2": (0.8, None)}[norm]
    attacks = (
        pgd(classifier.apply, epsilon, 20, size, random_start=False, norm=norm),
        selective_gradient_descent(classifier.apply, constant, 0.0, epsilon, 20, norm=norm, random_start=False),
    )
    theirs, ours = (jax.jit(attack)(*given) for attack in attacks)
    assert 10 <= theirs.success.sum() <= 50
    np.testing.assert_array_equal(ours.success, theirs.success)


@pytest.mark.parametrize("orthogonal, times, used", [("score", 0, 10), ("neither", 0, 10), ("both", 10, 20)])
def test_where_no_image_of_a_batch_fools_only_the_published_form_asks_the_detector(orthogonal, times, used):
    asked = []

    def noted(variables, images):
        jax.debug.callback(lambda: asked.append(1))
        return second(variables, images)

    attack = jax.jit(selective_gradient_descent(total, noted, 0.0, 0.05, 10, random_start=False, orthogonal=orthogonal))
    found = attack(jax.random.key(0), {}, IMAGES, LABELS)
    jax.effects_barrier()
    assert not found.success.any() and len(asked) == times
    np.testing.assert_array_equal(found.used, used)


def test_only_images_that_follow_the_score_pay_two_gradients():
    """The first image fools from the start; the second never does."""
    images = jnp.stack([jnp.full((1, 2, 1), 0.6), jnp.full((1, 2, 1), 0.2)])
    for orthogonal, first in (("score", 20), ("neither", 10)):
        attack = selective_gradient_descent(total, second, 0.0, 0.05, 10, random_start=False, orthogonal=orthogonal)
        np.testing.assert_array_equal(attack(jax.random.key(0), {}, images, LABELS).used, [first, 10])


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("orthogonal", ORTHOGONAL)
def test_the_joint_aim_is_reached_where_pgd_is_seen(norm, orthogonal):
    plain = jax.jit(pgd(total, 0.5, 20, 0.05, norm=norm))(jax.random.key(0), {}, IMAGES, LABELS)
    assert plain.success.all() and (second({}, plain.adversarial) > 0.4).all()
    attack = selective_gradient_descent(total, second, 0.4, 0.5, 40, 0.05, norm, orthogonal=orthogonal)
    found = jax.jit(attack)(jax.random.key(0), {}, IMAGES, LABELS)
    assert found.success.all() and (second({}, found.adversarial) <= 0.4).all()


def test_what_cannot_be_had_together_comes_back_fooling_and_what_cannot_fool_as_close_as_it_gets():
    contrary = lambda variables, images: images.sum((1, 2, 3))  # noqa: E731
    make = lambda epsilon: selective_gradient_descent(total, contrary, 0.9, epsilon, 50, 0.02, random_start=False)  # noqa: E731
    fooling = make(0.5)(jax.random.key(0), {}, IMAGES, LABELS)
    assert fooling.success.all() and (contrary({}, fooling.adversarial) > 0.9).all()
    weak = selective_gradient_descent(total, second, 0.35, 0.1, 50, 0.02, random_start=False)
    failing = weak(jax.random.key(0), {}, IMAGES, LABELS)
    assert not failing.success.any()
    np.testing.assert_allclose(failing.adversarial.reshape(2, 2), [[0.4, 0.4]] * 2, atol=1e-6)


def test_it_passes_a_kernel_density_where_pgd_does_not(trained):
    classifier, variables, data = trained
    detector = kernel_density(classifier.apply, classifier.features)
    state = detector.fit(jax.random.key(0), variables, *data.train)
    score = jax.jit(lambda v, x: detector.score(v, state, x))
    limit = threshold(score(variables, data.validation.images))
    images, labels = jnp.asarray(data.test.images[:40]), jnp.asarray(data.test.labels[:40])
    plain = jax.jit(pgd(classifier.apply, 0.2, 20, 0.02))(jax.random.key(0), variables, images, labels)
    adaptive = selective_gradient_descent(classifier.apply, score, limit, 0.2, 60, 0.02)
    found = jax.jit(adaptive)(jax.random.key(0), variables, images, labels)
    passes = lambda result: int((result.success & (score(variables, result.adversarial) <= limit)).sum())  # noqa: E731
    assert found.success.sum() >= plain.success.sum() - 1 and passes(found) > passes(plain) + 6


def test_where_the_gradients_agree_projecting_the_scores_alone_still_fools():
    """The score falls with the margin: their gradients are parallel, and what of one is orthogonal to the other is nothing."""
    fooling_hides = lambda variables, images: 1 - images.sum((1, 2, 3))  # noqa: E731
    attack = selective_gradient_descent(total, fooling_hides, -0.1, 0.5, 20, 0.05, random_start=False)
    found = attack(jax.random.key(0), {}, IMAGES, LABELS)
    assert found.success.all() and (fooling_hides({}, found.adversarial) <= 0).all()


@pytest.mark.parametrize("more", [{"num_steps": 0}, {"step_size": 0.0}, {"norm": "l1"}, {"epsilon": 2.0}, {"num_restarts": 0},
                                  {"orthogonal": True}, {"num_restarts": 2, "random_start": False}])  # fmt: skip
def test_bad_arguments_are_refused_when_building(more):
    with pytest.raises(ValueError, match=r"choose|positive"):
        selective_gradient_descent(total, second, **more)
