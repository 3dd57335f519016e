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


def learned(factory, apply_fn, epsilon, **more):
    made = factory(apply_fn, generator(epsilon), discriminator(), **more)
    return jax.tree_util.Partial(made.attack, made.init(jax.random.key(5), (8, 8, 1)))


@pytest.mark.parametrize("name", BOUNDED)
def test_inside_bounds_and_ball_and_success_recomputed(name, target, images):
    classifier, variables = target
    images, labels = images
    labels = classifier.apply(variables, images).argmax(-1).astype(jnp.int32)
    result = BOUNDED[name](classifier.apply, 0.2)(jax.random.key(1), variables, images, labels)
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
    classifier, variables = target
    images, labels = images
    result = BOUNDED[name](classifier.apply, 0.0)(jax.random.key(1), variables, images, labels)
    np.testing.assert_array_equal(result.adversarial, images)


@pytest.mark.parametrize("name", ["advgan", "mgan"])
def test_batch_equals_one_by_one_for_attacks_that_draw_nothing(name, target, images):
    classifier, variables = target
    images, labels = images
    attack = BOUNDED[name](classifier.apply, 0.3)
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
    result = pgd(classifier.apply, 0.1, 40, 0.02, random_start=False)(jax.random.key(0), variables, images, labels)
    weights = variables["params"]["output"]["kernel"]
    direction = jnp.sign(weights[:, 1] - weights[:, 0]).reshape(1, 8, 8, 1)
    best = jnp.clip(images + 0.1 * direction, 0, 1)
    np.testing.assert_allclose(result.adversarial, best, atol=1e-6)


def test_targeted_pgd_aims(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:50]), jnp.asarray(data.test.labels[:50])
    targets = (labels + 1) % 10
    result = pgd(classifier.apply, 0.5, 40, 0.05)(jax.random.key(0), variables, images, labels, targets)
    reached = classifier.apply(variables, result.adversarial).argmax(-1) == targets
    assert reached.mean() > 0.9
    np.testing.assert_array_equal(result.success, reached & result.clean_correct)


def test_unbounded_pgd_reaches_every_image(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:100]), jnp.asarray(data.test.labels[:100])
    result = pgd(classifier.apply, 1.0, 40, 0.05)(jax.random.key(0), variables, images, labels)
    assert (result.success == result.clean_correct).all()


def test_beta_zero_is_advgan_exactly(target, images):
    classifier, variables = target
    images, labels = images
    networks = generator(0.3), discriminator()
    plain, zero = advgan(classifier.apply, *networks), mgan(classifier.apply, *networks, [gaussian_fuzzing()], beta=0.0)
    with jax.debug_key_reuse(False):
        states = [attack.init(jax.random.key(2), (8, 8, 1)) for attack in (plain, zero)]
        gradients = [
            jax.grad(attack.generator_loss, has_aux=True)(s["generator"], s, jax.random.key(3), 0, variables, images, labels)[0]
            for attack, s in zip((plain, zero), states, strict=True)
        ]
    jax.tree.map(np.testing.assert_array_equal, *states)
    jax.tree.map(np.testing.assert_array_equal, *gradients)


def test_l_mutate_is_what_a_loop_over_its_mutants_gives(target, images):
    classifier, variables = target
    images, labels = images
    operators = [gaussian_fuzzing(0.5), gaussian_fuzzing(0.9)]
    attack = mgan(classifier.apply, generator(0.3), discriminator(), operators, beta=2.0, num_mutants=3)
    state = attack.init(jax.random.key(2), (8, 8, 1))
    with jax.debug_key_reuse(False):
        _, done = attack.generator_loss(state["generator"], state, jax.random.key(3), 1, variables, images, labels)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(3), 1), 3)
        losses = []
        for i, key in enumerate(keys):
            logits = classifier.apply(operators[(3 + i) % 2](key, variables), done.adversarial)
            rows = jax.nn.log_softmax(logits)[jnp.arange(8), done.logits.argmax(-1)]
            losses.append(-rows.mean())
    np.testing.assert_allclose(done.metrics["mutate_loss"], np.mean(losses), rtol=1e-4)


@pytest.mark.parametrize(("redraw_every", "same"), [(1, False), (10, True)])
def test_mutants_are_drawn_afresh_every_step_or_as_often_as_asked(redraw_every, same, target, images):
    classifier, variables = target
    images, labels = images
    attack = mgan(classifier.apply, generator(0.3), discriminator(), [gaussian_fuzzing(0.9)], redraw_every=redraw_every)
    state = attack.init(jax.random.key(2), (8, 8, 1))
    with jax.debug_key_reuse(False):
        arguments = (state["generator"], state, jax.random.key(3))
        steps = [attack.generator_loss(*arguments, step, variables, images, labels)[1] for step in (0, 1)]
    values = [float(step.metrics["mutate_loss"]) for step in steps]
    assert (values[0] == values[1]) == same


@pytest.mark.parametrize(
    "make",
    [
        lambda f: pgd(f, epsilon=-0.1),
        lambda f: pgd(f, epsilon=float("nan")),
        lambda f: pgd(f, num_steps=0),
        lambda f: generator(epsilon=-1),
        lambda f: advgan(f, generator(), discriminator(), alpha=-1),
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
