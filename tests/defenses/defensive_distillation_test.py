"""Distillation's loss by hand, and what it hides: attacks on the softmax see nothing where Carlini & Wagner's succeeds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.carlini_wagner_l2 import carlini_wagner_l2
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.result import success_rate
from mgan_jax.defenses.defensive_distillation import defensive_distillation
from mgan_jax.training.minimise import minimiser

TEMPERATURE = 100.0


def log_softmax(z):
    z = np.asarray(z, np.float64)
    return z - z.max(-1, keepdims=True) - np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1, keepdims=True))


def test_both_losses_are_cross_entropies_at_the_temperature(trained):
    """What is handed to `train`, against float64: first with the labels, then with the teacher's softmax at T."""
    classifier, variables, data = trained
    images, labels = (array[:30] for array in data.train)
    seen = {}

    def train(key, name, params, loss, arrays):
        del key
        seen[name] = loss, arrays
        return variables["params"] if name == "teacher" else params

    defensive_distillation(classifier, train, 7.0, batch_size=20).fit(jax.random.key(0), None, images, labels)
    logits = np.asarray(classifier.apply(variables, images))
    soft = np.exp(log_softmax(logits / 7))
    np.testing.assert_allclose(seen["student"][1][1], soft, rtol=1e-4, atol=1e-6)
    for name, goals in (("teacher", np.eye(10)[labels]), ("student", soft)):
        loss, arrays = seen[name]
        value, metrics = loss(variables["params"], jax.random.key(1), 0, *arrays)
        np.testing.assert_allclose(value, -(goals * log_softmax(logits / 7)).sum(-1).mean(), rtol=1e-4)
        np.testing.assert_allclose(metrics["accuracy"], (logits.argmax(-1) == goals.argmax(-1)).mean(), rtol=1e-6)


@pytest.fixture(scope="module")
def distilled(trained):
    """The network distilled at T, and one trained as usual by the same recipe (T = 1)."""
    classifier, _, data = trained
    train = minimiser(epochs=30, batch_size=50, learning_rate=3e-2)
    made = {t: defensive_distillation(classifier, train, t) for t in (1.0, TEMPERATURE)}
    return {t: (defense.apply, {"defense": defense.fit(jax.random.key(3), None, *data.train)}) for t, defense in made.items()}


def test_logits_grow_with_the_temperature(distilled, trained):
    images, labels = trained[2].validation
    margins = {}
    for t, (apply, variables) in distilled.items():
        ordered = np.sort(np.asarray(apply(variables, images)), axis=-1)
        margins[t] = np.median(ordered[:, -1] - ordered[:, -2])
        assert (apply(variables, images).argmax(-1) == labels).mean() > 0.9
    assert margins[TEMPERATURE] > 10 * margins[1.0]


def test_gradient_signs_vanish_where_carlini_wagner_succeeds(distilled, trained):
    apply, variables = distilled[TEMPERATURE]
    images, labels = (jnp.asarray(array[:40]) for array in trained[2].validation)
    key = jax.random.key(4)
    weak = jax.jit(fgsm(apply, 0.3))(key, variables, images, labels)
    attack = carlini_wagner_l2(apply, num_searches=4, num_steps=100, learning_rate=0.05, initial_constant=0.01)
    strong = jax.jit(attack)(key, variables, images, labels)
    # Of correctly classified images, most are where the softmax is 1 to the last bit and its loss has no gradient at all.
    assert (weak.linf == 0)[weak.clean_correct].mean() > 0.5
    assert success_rate(weak) < 0.5 and success_rate(strong) == 1
    assert np.median(strong.linf) < 0.3
    undistilled = jax.jit(fgsm(distilled[1.0][0], 0.3))(key, distilled[1.0][1], images, labels)
    assert success_rate(undistilled) > 0.9


@pytest.mark.parametrize("arguments", [{"temperature": 0.5}, {"temperature": float("inf")}, {"batch_size": 0}])
def test_impossible_arguments_are_refused(trained, arguments):
    with pytest.raises(ValueError, match=str(next(iter(arguments.values())))):
        defensive_distillation(trained[0], minimiser(), **arguments)
