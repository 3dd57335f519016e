"""Carlini and Wagner's L-inf attack by other routes: closed form on a linear model, a loop in NumPy, ART."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.carlini_wagner_linf import carlini_wagner_linf
from mgan_jax.models.linear import linear

KERNEL = np.array([[1.0, -1.0], [-0.5, 1.0], [0.3, 0.2], [0.0, 0.6]], np.float32)


@pytest.fixture(scope="module")
def model():
    """A linear model of two classes on 2 x 2 images, and images that leave it room on all sides."""
    classifier = linear((2, 2, 1), 2)
    variables = {**classifier.init(jax.random.key(0)), "params": {"output": {"kernel": KERNEL, "bias": np.zeros(2, np.float32)}}}
    images = jnp.asarray(np.random.default_rng(0).uniform(0.3, 0.7, (6, 2, 2, 1)), jnp.float32)
    return classifier.apply, variables, images, classifier.apply(variables, images).argmax(-1).astype(jnp.int32)


@pytest.mark.parametrize("confidence", [0.0, 0.2])
@pytest.mark.parametrize("targeted", [False, True])
def test_reaches_the_closed_form_of_a_linear_model(model, confidence, targeted):
    apply_fn, variables, images, labels = model
    attack = jax.jit(carlini_wagner_linf(apply_fn, confidence, num_steps=200))
    result = attack(jax.random.key(0), variables, images, labels, 1 - labels if targeted else None)
    logits = np.asarray(apply_fn(variables, images))
    least = (np.abs(logits[:, 0] - logits[:, 1]) + confidence) / np.abs(KERNEL[:, 0] - KERNEL[:, 1]).sum()
    assert result.success.all()
    # tau goes down by tenths, and the penalty that is left is at most 1e-4 c.
    assert (result.linf >= least * 0.999).all() and (result.linf <= least * 1.13 + 1 / 256).all()
    assert (jnp.abs(result.logits[:, 0] - result.logits[:, 1]) > confidence * 0.999).all()


def by_numpy(model, num_steps, rate, c, largest):
    """The paper's loops over images, tau, c and steps, with Adam written out: distances and gradients taken."""
    _, _, images, labels = model
    found, used = [], []
    for image, label in zip(np.asarray(images, np.float64).reshape(-1, 4), np.asarray(labels), strict=True):
        away = (KERNEL[:, label] - KERNEL[:, 1 - label]).astype(np.float64)
        w, tau, constant, best, taken = np.arctanh((2 * image - 1) * 0.999999), 1.0, c, np.inf, 0
        while tau > 1 / 256 and constant < largest:
            m, v, count, solved = np.zeros(4), np.zeros(4), 0, False
            while constant < largest and not solved:
                for _ in range(num_steps):
                    x = (np.tanh(w) + 1) / 2
                    change, margin, taken = x - image, x @ away, taken + 1
                    penalty = np.maximum(np.abs(change) - tau, 0).sum()
                    if margin < 0:
                        best = min(best, np.abs(change).max())
                    if margin < 0 and penalty < 1e-4 * constant:
                        tau, solved = 0.9 * min(tau, np.abs(change).max()), True
                        break
                    slope = np.sign(change) * (np.abs(change) > tau) + (constant * away if margin > 0 else 0)
                    slope, count = slope * (1 - np.tanh(w) ** 2) / 2, count + 1
                    m, v = 0.9 * m + 0.1 * slope, 0.999 * v + 0.001 * slope**2
                    w = w - rate * (m / (1 - 0.9**count)) / (np.sqrt(v / (1 - 0.999**count)) + 1e-8)
                else:
                    constant *= 2
        found.append(best)
        used.append(taken)
    return np.array(found), np.array(used)


def test_is_the_papers_loop(model):
    result = jax.jit(carlini_wagner_linf(model[0], 0.0, 30, 0.01, 0.01, 2.0))(jax.random.key(0), *model[1:])
    best, used = by_numpy(model, 30, 0.01, 0.01, 2.0)
    np.testing.assert_allclose(result.linf, best, rtol=1e-2)
    np.testing.assert_allclose(result.used, used, rtol=0.05)
    assert len(set(used)) > 2


@pytest.mark.filterwarnings("ignore")
def test_not_weaker_than_art(trained, art_classifier):
    evasion = pytest.importorskip("art.attacks.evasion")
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:50]), jnp.asarray(data.test.labels[:50])
    ours = jax.jit(carlini_wagner_linf(classifier.apply, num_steps=100))(jax.random.key(0), variables, images, labels)
    theirs = evasion.CarliniLInfMethod(art_classifier, max_iter=25, initial_const=6.0, learning_rate=0.1, verbose=False)
    found = theirs.generate(np.asarray(images), np.asarray(labels))
    fooled = (np.asarray(classifier.apply(variables, found)).argmax(-1) != np.asarray(labels)) & np.asarray(ours.clean_correct)
    distance = np.abs(found - np.asarray(images)).max((1, 2, 3))
    assert ours.success.mean() >= fooled.mean() - 0.02 and (ours.success == ours.clean_correct).all()
    assert fooled.any() and np.median(np.asarray(ours.linf)[fooled]) <= 1.05 * np.median(distance[fooled])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", -1.0),
        ("num_steps", 0),
        ("learning_rate", 0.0),
        ("initial_constant", 30.0),
        ("largest_constant", float("inf")),
        ("constant_factor", 1.0),
        ("tau_factor", 1.0),
    ],
)
def test_bad_arguments_are_refused_when_building(name, value):
    with pytest.raises(ValueError, match=f"{name} (is )?{value}.*choose"):
        carlini_wagner_linf(lambda variables, images: images, **{name: value})
