"""APGD by other routes: the published loop in NumPy, its losses by hand, PGD with as many gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.apgd import apgd, checkpoints, dlr, targeted_dlr
from mgan_jax.attacks.ball import draw
from mgan_jax.attacks.pgd import pgd
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical


@pytest.fixture(scope="module")
def digits(trained):
    classifier, variables, data = trained
    return classifier.apply, variables, jnp.asarray(data.test.images[:100]), jnp.asarray(data.test.labels[:100])


def test_checkpoints_are_the_published_ones():
    assert checkpoints(100) == [0, 22, 41, 57, 70, 80, 87, 93, 99]
    assert checkpoints(10) == [0, 3, 5, 6, 7, 8, 9, 10] and checkpoints(1) == [0, 1]


def test_dlr_by_hand():
    logits = jnp.asarray([[1.0, 4.0, 2.0, -3.0, 0.0], [-5.0, -1.0, -2.0, -9.0, -7.0], [3.0, 3.0, 3.0, 3.0, 3.0]])
    labels, targets = jnp.asarray([1, 3, 0]), jnp.asarray([3, 1, 2])
    np.testing.assert_allclose(dlr(logits, labels), [-(4 - 2) / (4 - 1), (-1 + 9) / (-1 + 5), 0])
    np.testing.assert_allclose(
        targeted_dlr(logits, labels, targets), [-(4 + 3) / (4 - (1 + 0) / 2), (-1 + 9) / (-1 + (5 + 7) / 2), 0]
    )
    np.testing.assert_allclose(dlr(1e5 * logits + 7, labels), dlr(logits, labels), rtol=1e-5)
    for loss in (lambda z: dlr(z, labels).sum(), lambda z: targeted_dlr(z, labels, targets).sum()):
        assert np.isfinite(jax.grad(loss)(logits)).all()


def published(gradient, value, x, images, epsilon, norm, num_steps, alpha=0.75, rho=0.75):
    """The algorithm for one image, in plain NumPy: (iterates, steps at which eta was halved)."""

    def project(x):
        change = x - images
        if norm == "linf":
            return np.clip(images + np.clip(change, -epsilon, epsilon), 0, 1)
        length = np.sqrt((change**2).sum())
        return np.clip(images + (change if length <= epsilon else change * epsilon / length), 0, 1)

    def towards(g):
        return np.sign(g) if norm == "linf" else g / np.sqrt((g**2).sum())

    eta, before = 2 * epsilon, x
    marks, iterates, values, halvings = checkpoints(num_steps), [], [], []
    best, rises, previous_mark, halved = (x, -np.inf), 0, 0, False
    for k in range(num_steps):
        f = value(x)
        iterates.append(x)
        if k > 0 and f > values[-1]:
            rises += 1
        values.append(f)
        if f > best[1]:
            best = (x, f)
        if k == 0:
            best_then = f
        if k in marks[1:]:
            first = rises < rho * (k - previous_mark)
            second = not halved and best[1] == best_then
            halved = first or second
            if halved:
                eta, x, values[-1] = eta / 2, best[0], best[1]
                halvings.append(k)
            best_then, rises, previous_mark = best[1], 0, k
        z = project(x + eta * towards(gradient(x)))
        a = 1 if k == 0 else alpha
        x, before = project(x + a * (z - x) + (1 - a) * (x - before)), x
    return [*iterates, x], halvings


@pytest.mark.parametrize("norm, epsilon", [("linf", 0.3), ("l2", 1.5)])
def test_equals_the_published_algorithm_in_numpy(norm, epsilon, images):
    """On a bowl that fools nobody and whose bottom lies in the ball: all depends on the step sizes.

    In double precision, as steps of equal height count as rises or not, and with a gentle bowl in L2, on whose steep sides
    normalised gradients jump chaotically.
    """
    images = np.float64(images[0][:4])
    generator = np.random.default_rng(3)
    away = generator.uniform(-1, 1, images.shape) * epsilon * (0.8 if norm == "linf" else 0.1)
    bottom = np.clip(images + away, 0, 1)
    weights = np.exp((1.5 if norm == "linf" else 0.3) * generator.normal(size=(1, *images.shape[1:])))
    weights = 2 / (weights * away**2).sum((1, 2, 3), keepdims=True) * weights

    def apply_fn(variables, x):
        return jnp.stack([0.5 + (weights * (x - variables) ** 2).sum((1, 2, 3)), jnp.zeros(len(x))], axis=1)

    key = jax.random.key(4)
    with jax.enable_x64(True):
        labels = jnp.zeros(4, jnp.int32)
        attack = jax.jit(apgd(apply_fn, epsilon, norm, num_steps=50))
        result = attack(key, jnp.asarray(bottom), jnp.asarray(images), labels)
        starts = np.asarray(draw(jax.random.fold_in(key, 0), jnp.asarray(images), epsilon, norm))
    for i in range(4):

        def margin(x, i=i):
            return 0.5 + (weights[i] * (x - bottom[i]) ** 2).sum()

        def slope(x, i=i):
            return -weights[i] * (x - bottom[i])

        def cross_entropy(x, margin=margin):
            return np.log1p(np.exp(-margin(x)))

        iterates, halvings = published(slope, cross_entropy, starts[i], images[i], epsilon, norm, 50)
        best = min(iterates, key=margin)
        np.testing.assert_allclose(result.adversarial[i], best, atol=1e-6)
        assert len(halvings) > 2 and margin(best) - 0.5 < 0.2 * (margin(starts[i]) - 0.5)
    assert (result.used == 50).all()


def test_reaches_the_corner_of_a_linear_model(images):
    classifier = linear((8, 8, 1), 2)
    variables = classifier.init(jax.random.key(0))
    weights = variables["params"]["output"]["kernel"]
    images = images[0]
    labels = jnp.zeros(8, jnp.int32)
    two = lambda v, x: classifier.apply(v, x) + jnp.asarray([[2.0, 0.0]])  # noqa: E731
    best = jnp.clip(images + 0.1 * jnp.sign(weights[:, 1] - weights[:, 0]).reshape(1, 8, 8, 1), 0, 1)
    result = jax.jit(apgd(two, 0.1, num_steps=30))(jax.random.key(0), variables, images, labels)
    np.testing.assert_allclose(result.adversarial, best, atol=1e-6)


@pytest.mark.parametrize("norm, epsilon, losses", [("linf", 0.07, ("cross_entropy", "targeted_dlr")), ("l2", 0.7, ("dlr",))])
def test_is_no_worse_than_pgd_with_as_many_gradients(norm, epsilon, losses, digits):
    apply_fn, variables, images, labels = digits
    count = lambda attack: int(jax.jit(attack)(jax.random.key(1), variables, images, labels).success.sum())  # noqa: E731
    fooled = count(pgd(apply_fn, epsilon, 20, None, norm=norm))
    assert 20 < fooled < 80
    for loss in losses:
        assert count(apgd(apply_fn, epsilon, norm, loss, 20)) >= fooled - 2 * np.sqrt(fooled * (1 - fooled / 100))


def test_dlr_finds_what_cross_entropy_loses_in_the_noise_of_huge_logits(digits):
    apply_fn, variables, images, labels = digits
    huge = lambda v, x: 1e4 * apply_fn(v, x)  # noqa: E731
    count = lambda loss: int(  # noqa: E731
        jax.jit(apgd(huge, 0.1, loss=loss, num_steps=20))(jax.random.key(1), variables, images, labels).success.sum()
    )
    assert count("dlr") > count("cross_entropy") + 10


def test_a_fooled_image_has_no_further_runs_and_the_others_all(digits):
    apply_fn, variables, images, labels = digits
    attack = jax.jit(apgd(apply_fn, 0.06, num_steps=5, loss="targeted_dlr", num_restarts=2, num_target_classes=3))
    result = attack(jax.random.key(0), variables, images, labels)
    assert set(np.asarray(result.used).tolist()) > {5, 30} and (result.used % 5 == 0).all()
    assert (result.used[~result.success & result.clean_correct] == 30).all()


def test_dlr_aims(digits):
    apply_fn, variables, images, labels = digits
    targets = (labels + 1) % 10
    result = jax.jit(apgd(apply_fn, 0.4, loss="dlr", num_steps=30))(jax.random.key(0), variables, images, labels, targets)
    assert (apply_fn(variables, result.adversarial).argmax(-1) == targets).mean() > 0.9


@pytest.mark.parametrize(
    "arguments",
    [
        {"loss": "hinge"},
        {"num_steps": 0},
        {"num_restarts": 0},
        {"num_target_classes": 0},
        {"momentum": 0},
        {"rho": 1.5},
        {"epsilon": 2},
        {"norm": "l1"},
    ],
)
def test_bad_arguments_are_refused_when_building(arguments, target):
    with pytest.raises(ValueError, match="choose"):
        apgd(target[0].apply, **arguments)


def test_dlr_says_how_many_classes_it_needs(images):
    for loss, classes in (("dlr", 2), ("targeted_dlr", 3)):
        classifier, labels = linear((8, 8, 1), classes), images[1] % classes
        with pytest.raises(ValueError, match=f"needs {classes + 1} classes"):
            apgd(classifier.apply, loss=loss)(jax.random.key(0), classifier.init(jax.random.key(0)), images[0], labels)
