"""Carlini and Wagner's L2 attack by other routes: closed form on a linear model, a loop in NumPy, Foolbox."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.carlini_wagner_l2 import carlini_wagner_l2, to_images, to_space
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical


@pytest.fixture(scope="module")
def model():
    """A linear model of three classes on 2 x 2 images, its kernel [4, 3], and images that leave it room on all sides."""
    classifier = linear((2, 2, 1), 3)
    kernel = np.array([[1.0, -1.0, 0.5], [-0.5, 1.0, 0.0], [0.3, 0.2, -1.0], [0.0, 0.6, 0.4]], np.float32)
    variables = {**classifier.init(jax.random.key(0))}
    variables["params"] = {"output": {"kernel": jnp.asarray(kernel), "bias": jnp.asarray([0.05, 0.0, -0.05])}}
    images = jnp.asarray(np.random.default_rng(0).uniform(0.35, 0.65, (5, 2, 2, 1)), jnp.float32)
    return classifier.apply, variables, images, classifier.apply(variables, images).argmax(-1).astype(jnp.int32)


def nearest(model, confidence, targets=None):
    """Distances of the images from the half-spaces that fool by this much: (margin + kappa) / ||w_y - w_i||."""
    apply_fn, variables, images, labels = model
    logits, kernel = np.asarray(apply_fn(variables, images)), np.asarray(variables["params"]["output"]["kernel"])
    found = []
    for n, label in enumerate(np.asarray(labels)):
        others = [i for i in range(3) if i != label]
        if targets is None:
            away = [
                (logits[n, label] - logits[n, i] + confidence) / np.linalg.norm(kernel[:, label] - kernel[:, i]) for i in others
            ]
            found.append(min(away))
        else:
            t = int(targets[n])
            others = [i for i in range(3) if i != t]
            # Both half-spaces must be entered: a bound from below.
            found.append(
                max((logits[n, i] - logits[n, t] + confidence) / np.linalg.norm(kernel[:, i] - kernel[:, t]) for i in others)
            )
    return np.array(found)


@pytest.mark.parametrize("confidence", [0.0, 0.1])
def test_reaches_the_closed_form_of_a_linear_model(model, confidence):
    attack = jax.jit(carlini_wagner_l2(model[0], confidence, num_steps=200))
    result = attack(jax.random.key(0), *model[1:])
    least = nearest(model, confidence)
    assert result.success.all()
    # The first step of Adam already goes 0.01 in every direction of w, 0.005 of a pixel.
    assert (result.l2 >= least * 0.999).all() and (result.l2 <= np.maximum(least * 1.01, 0.0101)).all()
    ordered = np.sort(np.asarray(result.logits), axis=1)
    assert (
        ordered[:, -1] - np.take_along_axis(np.asarray(result.logits), np.asarray(model[3])[:, None], 1)[:, 0] > confidence
    ).all()


def test_targets_are_reached_within_a_little_of_the_bound(model):
    targets = (model[3] + 1) % 3
    result = jax.jit(carlini_wagner_l2(model[0], num_steps=200))(jax.random.key(0), *model[1:], targets)
    least = nearest(model, 0.0, np.asarray(targets))
    assert result.success.all() and (result.logits.argmax(-1) == targets).all()
    assert (result.l2 >= least * 0.999).all() and np.median(np.asarray(result.l2) / least) < 1.05


def by_numpy(model, num_searches, num_steps, rate, constant, abort_early):
    """The paper's loop over images, searches and steps, with Adam written out; [N, 4] and gradients taken."""
    _, variables, images, labels = model
    kernel = np.asarray(variables["params"]["output"]["kernel"], np.float64)
    bias = np.asarray(variables["params"]["output"]["bias"], np.float64)
    found, used = [], []
    for image, label in zip(np.asarray(images, np.float64).reshape(-1, 4), np.asarray(labels), strict=True):
        c, lower, upper, best, best_distance, taken = constant, 0.0, 1e10, None, np.inf, 0
        for _ in range(num_searches):
            w, m, v, fooled, checked = np.arctanh((2 * image - 1) * 0.999999), np.zeros(4), np.zeros(4), False, np.inf
            for step in range(num_steps):
                x = (np.tanh(w) + 1) / 2
                logits = x @ kernel + bias
                other = max((i for i in range(3) if i != label), key=lambda i: logits[i])
                margin, distance = logits[label] - logits[other], ((x - image) ** 2).sum()
                loss = distance + c * max(margin, 0)
                taken += 1
                if margin < 0:
                    fooled = True
                    if distance < best_distance:
                        best, best_distance = x, distance
                if abort_early and step % -(-num_steps // 10) == 0:
                    if loss > 0.9999 * checked:
                        break
                    checked = loss
                slope = 2 * (x - image) + (c * (kernel[:, label] - kernel[:, other]) if margin > 0 else 0)
                slope = slope * (1 - np.tanh(w) ** 2) / 2
                m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
                w = w - rate * (m / (1 - 0.9 ** (step + 1))) / (np.sqrt(v / (1 - 0.999 ** (step + 1))) + 1e-8)
            if fooled:
                upper = min(upper, c)
            else:
                lower = max(lower, c)
            c = (lower + upper) / 2 if upper < 1e10 else c * 10
        found.append(best)
        used.append(taken)
    return np.array(found), np.array(used)


@pytest.mark.parametrize("abort_early", [False, True])
def test_is_the_papers_loop(model, abort_early):
    attack = carlini_wagner_l2(model[0], 0.0, 6, 40, 0.03, 0.01, abort_early)
    result = jax.jit(attack)(jax.random.key(0), *model[1:])
    expected, used = by_numpy(model, 6, 40, 0.03, 0.01, abort_early)
    # The iterate that is kept may be a neighbour, where two are equally close.
    np.testing.assert_allclose(result.adversarial.reshape(-1, 4), expected, atol=3e-3)
    np.testing.assert_allclose(result.l2, np.linalg.norm(expected - np.asarray(model[2]).reshape(-1, 4), axis=1), rtol=2e-3)
    np.testing.assert_array_equal(result.used, used)
    assert (used < 240).any() == abort_early


def test_pixels_that_are_0_or_1_move_and_come_back(model):
    apply_fn, variables, *_ = model
    images = jnp.asarray([[0, 1, 0, 1], [1, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]], jnp.float32).reshape(4, 2, 2, 1)
    np.testing.assert_allclose(to_images(to_space(images)), images, atol=1e-6)
    labels = apply_fn(variables, images).argmax(-1)
    result = jax.jit(carlini_wagner_l2(apply_fn, num_steps=150, learning_rate=0.1))(jax.random.key(0), variables, images, labels)
    assert result.success.all()


def test_logits_far_below_zero_are_no_obstacle(model):
    apply_fn, *rest = model
    shifted = lambda variables, images: apply_fn(variables, images) - 64  # noqa: E731
    plain, below = (jax.jit(carlini_wagner_l2(f, num_steps=100))(jax.random.key(0), *rest) for f in (apply_fn, shifted))
    assert below.success.all()
    # The lead must exceed what float32 rounds at -64, 6e-4, on slopes of 1.7 and more.
    np.testing.assert_allclose(below.l2, plain.l2, rtol=1e-2, atol=4e-4)


def test_more_searches_and_confidence_cost_what_they_promise(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:60]), jnp.asarray(data.test.labels[:60])
    run = lambda **more: jax.jit(carlini_wagner_l2(classifier.apply, num_steps=60, learning_rate=0.05, **more))(  # noqa: E731
        jax.random.key(0), variables, images, labels
    )
    plain, confident, once = run(), run(confidence=3.0), run(num_searches=1, initial_constant=10.0)
    assert (plain.success == plain.clean_correct).all() and (confident.success == confident.clean_correct).all()
    assert np.median(plain.l2) < np.median(confident.l2) and np.median(plain.l2) < np.median(once.l2)
    assert plain.success_rounded.sum() < confident.success_rounded.sum() == confident.success.sum()
    assert (once.used == 60).all() and (plain.used == 540).all()


@pytest.mark.filterwarnings("ignore")
def test_not_weaker_than_foolbox(trained):
    foolbox = pytest.importorskip("foolbox")
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:40]), jnp.asarray(data.test.labels[:40])
    numbers = 2, 20, 0.1, 1.0
    ours = jax.jit(carlini_wagner_l2(classifier.apply, 0.0, *numbers))(jax.random.key(0), variables, images, labels)
    network = foolbox.JAXModel(jax.jit(lambda x: classifier.apply(variables, x)), (0, 1))
    theirs = foolbox.attacks.L2CarliniWagnerAttack(numbers[0], numbers[1], numbers[2], 0.0, numbers[3], abort_early=False)
    with jax.numpy_rank_promotion("allow"), jax.debug_key_reuse(False):
        found = theirs.run(network, images, foolbox.criteria.Misclassification(labels))
    # Where it fails Foolbox returns a black image, which is no success of its attack.
    fooled = (classifier.apply(variables, found).argmax(-1) != labels) & ours.clean_correct & (found.max((1, 2, 3)) > 0)
    distance = jnp.sqrt(jnp.square(found - images).sum((1, 2, 3)))
    assert fooled.mean() > 0.8 and ours.success.mean() >= fooled.mean() - 0.02
    assert np.median(ours.l2[ours.success & fooled]) <= 1.05 * np.median(distance[ours.success & fooled])


@pytest.mark.parametrize(
    "bad",
    [
        {"confidence": -1.0},
        {"confidence": float("inf")},
        {"num_searches": 0},
        {"num_steps": 0},
        {"learning_rate": 0.0},
        {"initial_constant": 1e11},
    ],
)
def test_bad_arguments_are_refused_when_building(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad.values()))).replace("+", r"\+")):
        carlini_wagner_l2(lambda variables, images: images, **bad)
