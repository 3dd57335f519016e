"""Clauses for attacks, and PGD by a second route."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.advgan import advgan
from mgan_jax.attacks.mgan import mgan
from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.pgd_mutants import pgd_mutants
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.models.linear import linear
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing

BOUNDED = {
    "pgd": lambda apply_fn, epsilon: pgd(apply_fn, epsilon, 5, 0.05),
    "pgd_mutants": lambda apply_fn, epsilon: pgd_mutants(
        apply_fn, [gaussian_fuzzing()], epsilon=epsilon, num_steps=5, step_size=0.05
    ),
    "advgan": lambda apply_fn, epsilon: learned(advgan, apply_fn, epsilon),
    "mgan": lambda apply_fn, epsilon: learned(mgan, apply_fn, epsilon, mutations=[gaussian_fuzzing()]),
}


def attacked(name, epsilon, target, images, key=1):
    """The compiled attack's result on images and labels."""
    classifier, variables = target
    return jax.jit(BOUNDED[name](classifier.apply, epsilon))(jax.random.key(key), variables, *images)


def learned(factory, apply_fn, epsilon, **more):
    made = factory(apply_fn, generator(epsilon, (4, 8), 1), discriminator((4, 8)), **more)
    return jax.tree_util.Partial(made.attack, made.init(jax.random.key(5), (8, 8, 1)))


@pytest.mark.parametrize("name", BOUNDED)
def test_inside_bounds_and_ball_and_success_recomputed(name, target, images):
    classifier, variables = target
    images, _ = images
    labels = classifier.apply(variables, images).argmax(-1).astype(jnp.int32)
    result = attacked(name, 0.2, target, (images, labels))
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    assert jnp.abs(result.adversarial - images).max() <= 0.2 + 1e-6
    assert result.clean_correct.all()
    decisions = classifier.apply(variables, result.adversarial).argmax(-1)
    np.testing.assert_array_equal(result.success, decisions != labels)
    change = np.abs(np.asarray(result.adversarial - images)).reshape(8, -1)
    np.testing.assert_allclose(result.linf, change.max(1), rtol=1e-6)
    np.testing.assert_allclose(result.l2, np.linalg.norm(change, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(result.l0, (change > 0).sum(1))


@pytest.mark.parametrize("name", BOUNDED)
def test_epsilon_zero_returns_the_input(name, target, images):
    result = attacked(name, 0.0, target, images)
    np.testing.assert_array_equal(result.adversarial, images[0])


@pytest.mark.parametrize("name", ["advgan", "mgan"])
def test_batch_equals_one_by_one_for_attacks_that_draw_nothing(name, target, images):
    classifier, variables = target
    images, labels = images
    attack = jax.jit(BOUNDED[name](classifier.apply, 0.3))
    with jax.debug_key_reuse(False):
        whole = attack(jax.random.key(0), variables, images, labels).adversarial
        single = [attack(jax.random.key(0), variables, images[i : i + 1], labels[i : i + 1]).adversarial[0] for i in range(3)]
    np.testing.assert_allclose(whole[:3], np.stack(single), atol=1e-5)


@pytest.mark.parametrize("name", ["pgd", "pgd_mutants"])
def test_jit_equals_eager_and_one_trace_serves_many_batches(name, target, images):
    classifier, variables = target
    images, labels = images
    traces = []

    def counted(v, x):
        traces.append(0)
        return classifier.apply(v, x)

    attack = BOUNDED[name](counted, 0.2)
    compiled = jax.jit(lambda key, x, y: attack(key, variables, x, y))
    first = compiled(jax.random.key(3), images, labels)
    count = len(traces)
    compiled(jax.random.key(4), images[::-1], labels)
    assert len(traces) == count
    eager = attack(jax.random.key(3), variables, images, labels)
    agree = np.abs(np.asarray(first.adversarial - eager.adversarial)) < 1e-4
    assert agree.mean() > 0.98


def test_pgd_reaches_the_closed_form_optimum_of_a_linear_model(images):
    classifier = linear((8, 8, 1), 2)
    variables = classifier.init(jax.random.key(0))
    images, _ = images
    labels = jnp.zeros(8, jnp.int32)
    attack = jax.jit(pgd(classifier.apply, 0.1, 40, 0.02, random_start=False))
    result = attack(jax.random.key(0), variables, images, labels)
    weights = variables["params"]["output"]["kernel"]
    direction = jnp.sign(weights[:, 1] - weights[:, 0]).reshape(1, 8, 8, 1)
    best = jnp.clip(images + 0.1 * direction, 0, 1)
    np.testing.assert_allclose(result.adversarial, best, atol=1e-6)


def test_targeted_pgd_aims(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:50]), jnp.asarray(data.test.labels[:50])
    targets = (labels + 1) % 10
    result = jax.jit(pgd(classifier.apply, 0.5, 40, 0.05))(jax.random.key(0), variables, images, labels, targets)
    reached = classifier.apply(variables, result.adversarial).argmax(-1) == targets
    assert reached.mean() > 0.9
    np.testing.assert_array_equal(result.success, reached & result.clean_correct)


def test_unbounded_pgd_reaches_every_image(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:100]), jnp.asarray(data.test.labels[:100])
    result = jax.jit(pgd(classifier.apply, 1.0, 40, 0.05))(jax.random.key(0), variables, images, labels)
    assert (result.success == result.clean_correct).all()


@pytest.mark.parametrize(
    "make",
    [
        lambda f: pgd(f, epsilon=-0.1),
        lambda f: pgd(f, epsilon=float("nan")),
        lambda f: pgd(f, num_steps=0),
        lambda f: generator(epsilon=-1),
        lambda f: advgan(f, generator(), discriminator(), alpha=-1),
        lambda f: advgan(f, generator(), discriminator(), diversity_weight=-1),
        lambda f: advgan(f, generator(), discriminator(), hinge="jump"),
        lambda f: mgan(f, generator(), discriminator(), [gaussian_fuzzing()], reference="nothing"),
        lambda f: mgan(f, generator(), discriminator(), [], beta=1.0),
        lambda f: mgan(f, generator(), discriminator(), [gaussian_fuzzing()], num_mutants=0),
    ],
)
def test_bad_arguments_are_refused_when_building(make, target):
    with pytest.raises(ValueError, match=r"choose|positive|needs"):
        make(target[0].apply)


def test_an_untargeted_generator_cannot_aim(target, images):
    classifier, variables = target
    images, labels = images
    with pytest.raises(ValueError, match="target_label"):
        BOUNDED["advgan"](classifier.apply, 0.3)(jax.random.key(0), variables, images, labels, labels)
