"""Adversarial training: the published step by hand, and networks that withstand what they were trained on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.result import robust_accuracy
from mgan_jax.defenses.adversarial_training import adversarial_training
from mgan_jax.defenses.fast_adversarial_training import fast_adversarial_training, random_start_steps
from mgan_jax.models.mlp import mlp
from mgan_jax.training.minimise import minimiser

EPSILON = 0.15


def test_the_fast_step_by_hand():
    """Of two classes with logits (w x, 0) the gradient's sign is that of w, turned by the label."""
    weight, key = 2.0, jax.random.key(0)
    apply_fn = lambda v, x: jnp.concatenate([weight * x.reshape(-1, 1), jnp.zeros((x.size, 1))], 1)  # noqa: E731
    images, labels = jnp.array([0.0, 0.5, 1.0, 0.05]).reshape(4, 1, 1, 1), jnp.array([0, 0, 1, 1])
    start = jax.random.uniform(jax.random.clone(key), images.shape, minval=-0.3, maxval=0.3)
    # Class 0 falls where x falls.
    direction = np.array([-1, -1, 1, 1]).reshape(4, 1, 1, 1)
    expected = np.clip(images + np.clip(start + 0.375 * direction, -0.3, 0.3), 0, 1)
    found = random_start_steps(apply_fn, 0.3, 0.375, 1, jax.random.clone(key), None, images, labels)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_two_fast_steps_by_hand_and_where_gradients_are_taken():
    """The logit of class 0 is -(x - v)^2: J grows away from v, which is where x + u and its cut form differ in their side."""
    apply_fn = lambda v, x: jnp.concatenate([-jnp.square(x.reshape(-1, 1) - v), jnp.zeros((x.size, 1))], 1)  # noqa: E731
    images, labels, key = jnp.array([0.05, 0.0, 1.0, 0.6]).reshape(4, 1, 1, 1), jnp.zeros(4, jnp.int32), jax.random.key(3)
    start = np.asarray(jax.random.uniform(jax.random.clone(key), images.shape, minval=-0.3, maxval=0.3))
    x, peak = np.asarray(images), np.array([-0.05, -0.05, 1.05, 0.5]).reshape(4, 1, 1, 1)
    d = np.clip(start + 0.2 * np.sign(x + start - peak), -0.3, 0.3)
    d = np.clip(x + d, 0, 1) - x
    d = np.clip(d + 0.2 * np.sign(x + d - peak), -0.3, 0.3)
    found = random_start_steps(apply_fn, 0.3, 0.2, 2, key, jnp.asarray(peak.reshape(4, 1)), images, labels)
    np.testing.assert_allclose(found, np.clip(x + d, 0, 1), atol=1e-6)
    cut = np.clip(x + start, 0, 1)
    assert (np.sign(cut - peak) != np.sign(x + start - peak)).any()


@pytest.mark.parametrize("clean_weight", [0.0, 0.25])
def test_the_loss_is_the_weighted_sum_of_two_cross_entropies(trained, clean_weight):
    """What is handed to `train`, against float64, on images made against the very parameters."""
    classifier, variables, data = trained
    images, labels = (array[:20] for array in data.train)
    seen = []

    def train(key, name, params, loss, arrays):
        del key, name
        seen.append((loss, arrays))
        return params

    make_attack = partial(fgsm, epsilon=EPSILON)
    adversarial_training(classifier, train, make_attack, clean_weight).fit(jax.random.key(0), None, images, labels)
    (loss, arrays), parts = seen[0], []
    value, metrics = loss(variables["params"], jax.random.key(1), 0, *arrays)
    attacked = make_attack(classifier.apply)(jax.random.key(2), variables, images, labels).adversarial
    for shown in (images, attacked):
        z = np.asarray(classifier.apply(variables, shown), np.float64)
        parts.append(np.mean(np.log(np.exp(z - z.max(-1, keepdims=True)).sum(-1)) + z.max(-1) - z[np.arange(20), labels]))
    np.testing.assert_allclose(value, clean_weight * parts[0] + (1 - clean_weight) * parts[1], rtol=1e-4)
    assert parts[1] > 2 * parts[0]
    np.testing.assert_allclose(metrics["robust_accuracy"], (z.argmax(-1) == labels).mean(), rtol=1e-6)


@pytest.mark.parametrize("form", ["fast", "fgsm"])
def test_a_warm_up_lets_epsilon_rise_along_a_line(form):
    """Seen from within the loss, which trains nothing here: how far images were moved at these steps."""
    seen = []

    def train(key, name, params, loss, data):
        for step in (0, 1, 4, 9, 50):
            moved.clear()
            with jax.debug_key_reuse(False):
                loss(params, key, jnp.int32(step), *data)
            seen.append(float(jnp.abs(moved[-1] - data[0]).max()))
        return params

    moved = []
    made = mlp((8, 8, 1), 10, (4,))
    watched = made._replace(apply=lambda v, x: (moved.append(x), made.apply(v, x))[1])
    images, labels = jnp.full((20, 8, 8, 1), 0.5), jnp.arange(20, dtype=jnp.int32) % 10
    make = {
        "fast": partial(fast_adversarial_training, watched, train, 0.2),
        "fgsm": partial(adversarial_training, watched, train, partial(fgsm, epsilon=0.2)),
    }[form]
    make(epsilon_warmup=10).fit(jax.random.key(0), None, images, labels)
    np.testing.assert_allclose(seen, [0.02, 0.04, 0.1, 0.2, 0.2], rtol=0.02)
    with pytest.raises(ValueError, match="epsilon_warmup is -1"):
        make(epsilon_warmup=-1)


def accuracies(defense, trained):
    """Clean accuracy and that under PGD-20 of the undefended network and of the defended one, on validation images."""
    classifier, variables, data = trained
    state = defense.fit(jax.random.key(0), variables, *data.train)
    images, labels = data.validation
    found = []
    for apply_fn, of in ((classifier.apply, variables), (defense.apply, {"target": variables, "defense": state})):
        result = jax.jit(pgd(apply_fn, EPSILON, 20, 0.02))(jax.random.key(1), of, images, labels)
        found.append((result.clean_correct.mean(), robust_accuracy(result)))
    return np.array(found)


@pytest.mark.parametrize("form", ["fast", "two steps", "fgsm", "pgd", "mixed"])
def test_a_trained_network_withstands_what_breaks_the_target(trained, form):
    classifier, train = mlp((8, 8, 1), 10, (64,)), minimiser(epochs=25, batch_size=50, learning_rate=5e-3)
    make = {"fgsm": partial(fgsm, epsilon=EPSILON), "pgd": partial(pgd, epsilon=EPSILON, num_steps=5, step_size=0.06)}
    defense = (
        fast_adversarial_training(classifier, train, EPSILON, num_steps=1 if form == "fast" else 2)
        if form in ("fast", "two steps")
        else adversarial_training(classifier, train, make.get(form, make["fgsm"]), 0.5 if form == "mixed" else 0.0)
    )
    (_, undefended), (clean, defended) = accuracies(defense, trained)
    assert undefended < 0.2
    assert defended > undefended + 0.35
    assert clean > 0.85


def test_arguments():
    classifier, train = mlp((8, 8, 1), 10, (4,)), minimiser()
    with pytest.raises(ValueError, match="clean_weight is 1"):
        adversarial_training(classifier, train, fgsm, clean_weight=1)
    with pytest.raises(ValueError, match="epsilon is 0"):
        fast_adversarial_training(classifier, train, epsilon=0)
    with pytest.raises(ValueError, match="step_size 0"):
        fast_adversarial_training(classifier, train, step_size=0)
    with pytest.raises(ValueError, match="num_steps 0"):
        fast_adversarial_training(classifier, train, num_steps=0)
