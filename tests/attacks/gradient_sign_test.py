"""FGSM, BIM and PGD by other routes: closed forms on linear models, Foolbox, and what restarts and sweeps promise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.advgan import advgan
from mgan_jax.attacks.ball import direction, draw, project
from mgan_jax.attacks.bim import bim
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.mgan import mgan
from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.result import robust_accuracy, success_rate
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.models.linear import linear
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing

pytestmark = pytest.mark.numerical


@pytest.fixture
def digits(trained):
    """The trained classifier, its variables, 100 test images and labels."""
    classifier, variables, data = trained
    return classifier, variables, jnp.asarray(data.test.images[:100]), jnp.asarray(data.test.labels[:100])


@pytest.fixture
def two_classes():
    """A linear model of two classes and the direction from class 0 to class 1."""
    classifier = linear((8, 8, 1), 2)
    variables = classifier.init(jax.random.key(0))
    weights = variables["params"]["output"]["kernel"]
    return classifier, variables, (weights[:, 1] - weights[:, 0]).reshape(1, 8, 8, 1)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_fgsm_and_pgd_reach_the_closed_form_of_a_linear_model(norm, two_classes, images):
    classifier, variables, weights = two_classes
    images, labels = images[0], jnp.zeros(8, jnp.int32)
    unit = jnp.sign(weights) if norm == "linf" else weights / jnp.linalg.norm(weights)
    best = jnp.clip(images + 0.1 * unit, 0, 1)
    stepped = jax.jit(fgsm(classifier.apply, 0.1, norm))(jax.random.key(0), variables, images, labels)
    np.testing.assert_allclose(stepped.adversarial, best, atol=1e-6)
    back = jax.jit(fgsm(classifier.apply, 0.1, norm))(jax.random.key(0), variables, images, labels, labels)
    np.testing.assert_allclose(back.adversarial, jnp.clip(images - 0.1 * unit, 0, 1), atol=1e-6)
    if norm == "linf":
        result = jax.jit(pgd(classifier.apply, 0.1, 40, 0.02, random_start=False))(jax.random.key(0), variables, images, labels)
        np.testing.assert_allclose(result.adversarial, best, atol=1e-6)


def test_small_gradients_are_no_zeros_and_zeros_are_no_nan():
    tiny = jnp.zeros((2, 2, 2, 1)).at[0].set(1e-30)
    np.testing.assert_allclose(direction(tiny, "l2")[0], 0.5, rtol=1e-6)
    np.testing.assert_array_equal(direction(tiny, "l2")[1], 0)


def test_draws_and_projections_stay_in_the_ball(images):
    images = images[0]
    for norm in ("linf", "l2"):
        change = (draw(jax.random.key(0), images, 0.3, norm) - images).reshape(8, -1)
        far = (project(images + 5 * jnp.sin(jnp.arange(512.0)).reshape(images.shape), images, 0.3, norm) - images).reshape(8, -1)
        for moved in (change, far):
            size = jnp.abs(moved).max(1) if norm == "linf" else jnp.linalg.norm(moved, axis=1)
            assert (size <= 0.3 + 1e-6).all() and (size > 0).all()


def test_a_sweep_is_the_single_runs(digits):
    classifier, variables, images, labels = digits
    epsilons = (0.0, 0.05, 0.1)
    for factory in (fgsm, pgd):
        swept = jax.jit(factory(classifier.apply, epsilons))(jax.random.key(0), variables, images, labels)
        assert swept.success.shape == (3, 100)
        for k, epsilon in enumerate(epsilons):
            single = jax.jit(factory(classifier.apply, epsilon))(jax.random.key(0), variables, images, labels)
            assert (np.abs(swept.adversarial[k] - single.adversarial) < 1e-5).mean() > 0.99
        np.testing.assert_allclose(success_rate(swept), swept.success.sum(1) / swept.clean_correct[0].sum(), rtol=1e-6)
        np.testing.assert_allclose(robust_accuracy(swept) + swept.success.mean(1), swept.clean_correct[0].mean(), rtol=1e-6)
        assert swept.success[0].sum() == 0 and swept.success[1].sum() < swept.success[2].sum()


def test_restarts_and_steps_only_help(digits):
    classifier, variables, images, labels = digits
    count = lambda attack: int(jax.jit(attack)(jax.random.key(0), variables, images, labels).success.sum())  # noqa: E731
    once = count(pgd(classifier.apply, 0.08, 10, 0.02))
    assert count(fgsm(classifier.apply, 0.08)) <= once <= count(pgd(classifier.apply, 0.08, 10, 0.02, num_restarts=4))
    assert count(bim(classifier.apply, 1.0, num_steps=40)) == count(pgd(classifier.apply, 1.0, 40, 0.05)) > 90


def test_restarts_fool_what_some_run_of_theirs_fools(digits):
    classifier, variables, images, labels = digits
    run = lambda key, **more: np.asarray(  # noqa: E731
        jax.jit(pgd(classifier.apply, 0.3, 3, 0.05, norm="l2", **more))(key, variables, images, labels).success
    )
    single = [run(key) for key in jax.random.split(jax.random.key(0), 4)]
    union = np.any(single, axis=0)
    np.testing.assert_array_equal(run(jax.random.key(0), num_restarts=4), union)
    assert all((union & ~one).any() for one in single), "no run alone"


def foolbox_model(foolbox, classifier, variables):
    return foolbox.models.JAXModel(lambda x: classifier.apply(variables, x), bounds=(0, 1), data_format="channels_last")


STEPPING = {
    "fgsm": (lambda f: fgsm(f, 0.1), "LinfFastGradientAttack", {"random_start": False}, 0.1),
    "fgsm_l2": (lambda f: fgsm(f, 0.7, "l2"), "L2FastGradientAttack", {"random_start": False}, 0.7),
    "bim": (
        lambda f: bim(f, 0.3, num_steps=10, step_size=0.06),
        "LinfBasicIterativeAttack",
        {"random_start": False, "abs_stepsize": 0.06, "steps": 10},
        0.3,
    ),
    "bim_l2": (
        lambda f: bim(f, 2.0, "l2", num_steps=10, step_size=0.4),
        "L2BasicIterativeAttack",
        {"random_start": False, "abs_stepsize": 0.4, "steps": 10},
        2.0,
    ),
}


@pytest.mark.parametrize("name", STEPPING)
def test_in_double_precision_they_are_foolboxs(name, digits):
    foolbox = pytest.importorskip("foolbox")
    make, theirs, arguments, epsilon = STEPPING[name]
    classifier, *given = digits
    with jax.enable_x64(True), jax.numpy_rank_promotion("allow"):
        to_double = lambda leaf: jnp.asarray(leaf, jnp.float64) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf  # noqa: E731
        variables, images, labels = jax.tree.map(to_double, given)
        ours = jax.jit(make(classifier.apply))(jax.random.key(0), variables, images, labels)
        attack = getattr(foolbox.attacks, theirs)(**arguments)
        _, others, fooled = attack(foolbox_model(foolbox, classifier, variables), images, labels, epsilons=epsilon)
        assert ours.adversarial.dtype == others.dtype == jnp.float64
        # Where no later iterate fools, an earlier one that did is ours, and theirs the last one all the same.
        same = np.asarray(fooled) if "bim" in name else np.ones(len(labels), bool)
        assert same.sum() > 80
        np.testing.assert_allclose(np.asarray(ours.adversarial)[same], np.asarray(others)[same], atol=1e-12)
        assert ours.success.sum() >= (np.asarray(fooled) & np.asarray(ours.clean_correct)).sum()


def test_in_single_precision_fgsm_is_foolboxs_in_nearly_all_pixels(digits):
    foolbox = pytest.importorskip("foolbox")
    classifier, variables, images, labels = digits
    ours = jax.jit(fgsm(classifier.apply, 0.1))(jax.random.key(0), variables, images, labels).adversarial
    with jax.numpy_rank_promotion("allow"):
        attack = foolbox.attacks.LinfFastGradientAttack()
        _, others, _ = attack(foolbox_model(foolbox, classifier, variables), images, labels, epsilons=0.1)
    assert (np.abs(ours - others) < 1e-6).mean() >= 0.995


@pytest.mark.parametrize(("epsilon", "norm"), [(0.05, "linf"), (0.1, "linf"), (0.4, "l2")])
def test_pgd_fools_as_many_as_foolboxs(epsilon, norm, digits):
    foolbox = pytest.importorskip("foolbox")
    classifier, variables, images, labels = digits
    ours = jax.jit(pgd(classifier.apply, epsilon, 40, epsilon / 10, norm=norm))(jax.random.key(0), variables, images, labels)
    theirs = {"linf": foolbox.attacks.LinfPGD, "l2": foolbox.attacks.L2PGD}[norm](abs_stepsize=epsilon / 10, steps=40)
    with jax.numpy_rank_promotion("allow"):
        _, found, fooled = theirs(foolbox_model(foolbox, classifier, variables), images, labels, epsilons=epsilon)
    others = np.asarray(fooled) & np.asarray(ours.clean_correct)
    assert 5 < others.sum() < 100, "a bound at which the two could differ"
    assert -2 <= ours.success.sum() - others.sum() <= 5
    distance = np.linalg.norm(np.asarray(found - images).reshape(len(labels), -1), axis=1)
    both = others & np.asarray(ours.success)
    assert np.median(np.asarray(ours.l2)[both]) <= 1.05 * np.median(distance[both])


def test_truncated_steps_follow_the_gradient_where_it_is_small(two_classes, images):
    classifier, variables, weights = two_classes
    labels = jnp.zeros(8, jnp.int32)
    attack = pgd(classifier.apply, 1.0, 1, 0.01, random_start=False, step="truncated", gradient_scale=1e-3)
    result = jax.jit(attack)(jax.random.key(0), variables, images[0], labels)
    slope = jax.nn.softmax(classifier.apply(variables, images[0]))[:, 1].reshape(-1, 1, 1, 1)
    expected = jnp.clip(images[0] + jnp.clip(1e-3 * slope * weights, -0.01, 0.01), 0, 1)
    np.testing.assert_allclose(result.adversarial, expected, atol=1e-7)


def test_targeted_pgd_aims(digits):
    classifier, variables, images, labels = digits
    targets = (labels + 1) % 10
    for attack in (pgd(classifier.apply, 0.5, 40, 0.05), pgd(classifier.apply, 5.0, 40, None, norm="l2")):
        result = jax.jit(attack)(jax.random.key(0), variables, images, labels, targets)
        reached = classifier.apply(variables, result.adversarial).argmax(-1) == targets
        assert reached.mean() > 0.9
        np.testing.assert_array_equal(result.success, reached & result.clean_correct)


@pytest.mark.parametrize(
    "make",
    [
        lambda f: pgd(f, epsilon=-0.1),
        lambda f: pgd(f, epsilon=float("nan")),
        lambda f: pgd(f, epsilon=[0.1, 2.0]),
        lambda f: pgd(f, epsilon=-2.0, norm="l2"),
        lambda f: pgd(f, num_steps=0),
        lambda f: pgd(f, num_restarts=0),
        lambda f: pgd(f, step="jump"),
        lambda f: bim(f, step_size=0),
        lambda f: fgsm(f, norm="l1"),
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
    made = advgan(classifier.apply, generator(0.3, (4, 8), 1), discriminator((4, 8)))
    with pytest.raises(ValueError, match="target_label"):
        made.attack(made.init(jax.random.key(5), (8, 8, 1)), jax.random.key(0), variables, *images, images[1])
