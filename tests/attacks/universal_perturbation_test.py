"""Universal perturbations: closed form on linear models, a NumPy loop, ART, and what classes, targets and weights promise."""

import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import metrics
from mgan_jax.attacks.universal_perturbation import universal_perturbation
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical


def learn(factory_arguments, classifier, variables, images, labels, seed=0):
    """The learned state and the attack with it."""
    learned = universal_perturbation(classifier.apply, **factory_arguments)
    state = jax.jit(learned.fit)(jax.random.key(seed), variables, images, labels)
    return state, jax.jit(jax.tree_util.Partial(learned.attack, state))


def rates(trained, images, labels, seed=0, **arguments):
    """`metrics.fooling_rate` on the unseen test images."""
    classifier, variables, data = trained
    learned = universal_perturbation(classifier.apply, **arguments)
    delta = jax.jit(learned.fit)(jax.random.key(seed), variables, images, labels)["perturbation"]
    shown = jnp.asarray(data.test.images), jnp.clip(data.test.images + delta, 0, 1)
    clean, perturbed = (classifier.apply(variables, x).argmax(-1) for x in shown)
    more = {name: arguments.get(name) for name in ("classes", "target_label")}
    return metrics.fooling_rate(clean, perturbed, data.test.labels, **more)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("loss", ["cross_entropy", "margin"])
def test_the_direction_of_a_linear_model_is_its_weight_difference(norm, loss):
    classifier = linear((8, 8, 1), 2)
    variables = classifier.init(jax.random.key(0))
    weights = variables["params"]["output"]["kernel"]
    weights = (weights[:, 1] - weights[:, 0]).reshape(1, 8, 8, 1)
    images, labels = jax.random.uniform(jax.random.key(1), (20, 8, 8, 1)), jnp.zeros(20, jnp.int32)
    arguments = {"norm": norm, "loss": loss, "beta": 1e3, "num_steps": 200, "batch_size": 10}
    state, _ = learn({"epsilon": 0.1, **arguments}, classifier, variables, images, labels)
    unit = jnp.sign(weights) if norm == "linf" else weights / jnp.linalg.norm(weights)
    np.testing.assert_allclose(state["perturbation"], 0.1 * unit, atol=1e-3)
    assert np.isclose(jnp.abs(state["perturbation"]).max() if norm == "linf" else jnp.linalg.norm(state["perturbation"]), 0.1)


def test_every_step_is_what_a_numpy_loop_does():
    """All images in every batch, by having one image; the gradient of a linear model's cross-entropy by hand."""
    classifier = linear((4, 4, 1), 3)
    variables = classifier.init(jax.random.key(3))
    kernel = np.asarray(variables["params"]["output"]["kernel"], np.float64)
    image = np.random.default_rng(0).uniform(-0.3, 1.3, (1, 4, 4, 1)).clip(0, 1)
    settings = {"epsilon": 0.2, "norm": "l2", "beta": 1e3, "num_steps": 7, "step_size": 0.05, "batch_size": 1}
    learned = universal_perturbation(classifier.apply, **settings)
    label = jnp.array([1], jnp.int32)
    made = jax.jit(learned.fit)(jax.random.key(5), variables, jnp.asarray(image, jnp.float32), label)["perturbation"]
    start_key, _ = jax.random.split(jax.random.key(5))
    delta = 0.2 * np.asarray(jax.random.normal(start_key, (1, 4, 4, 1)), np.float64)
    delta *= min(1, 0.2 / np.linalg.norm(delta))
    for i in range(7):
        logits = (image + delta).clip(0, 1).ravel() @ kernel
        p = np.exp(logits - logits.max())
        gradient = (kernel @ (p / p.sum() - np.eye(3)[1])).reshape(1, 4, 4, 1)
        delta = delta + 0.05 * (1 + np.cos(np.pi * i / 7)) / 2 * gradient / np.linalg.norm(gradient)
        delta *= min(1, 0.2 / np.linalg.norm(delta))
    np.testing.assert_allclose(made, delta, atol=1e-5)


def test_most_unseen_digits_are_fooled_in_both_norms_and_targeted(trained):
    _, _, data = trained
    seen = jnp.asarray(data.train.images[:500]), jnp.asarray(data.train.labels[:500])
    assert rates(trained, *seen, epsilon=0.3)["fooling"] > 0.8
    assert rates(trained, *seen, epsilon=2.0, norm="l2")["fooling"] > 0.7
    assert rates(trained, *seen, epsilon=0.3, target_label=8)["fooling"] > 0.8


def test_classes_are_fooled_and_the_weight_spares_the_others(trained):
    _, _, data = trained
    seen = jnp.asarray(data.train.images), jnp.asarray(data.train.labels)
    free = rates(trained, *seen, epsilon=0.25, classes=(3,))
    spared = rates(trained, *seen, epsilon=0.25, classes=(3,), collateral_weight=1.0)
    assert free["num_images"] == spared["num_images"] == (data.test.labels == 3).sum()
    assert free["fooling"] > 0.9 and spared["fooling"] > 0.7
    assert spared["collateral"] < 0.5 * free["collateral"]
    both = rates(trained, *seen, epsilon=0.25, classes=(3, 7), collateral_weight=1.0)
    assert both["fooling"] > 0.7 and both["collateral"] < 0.3


def test_restarts_keep_the_best_of_the_single_runs(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.train.images[:205]), jnp.asarray(data.train.labels[:205])
    settings = {"epsilon": 0.12, "num_steps": 30}
    shared = learn({**settings, "num_restarts": 3}, classifier, variables, images, labels)[0]["perturbation"]
    single = jax.jit(universal_perturbation(classifier.apply, **settings).fit)
    deltas = [single(k, variables, images, labels)["perturbation"] for k in jax.random.split(jax.random.key(0), 3)]
    wrong = [(classifier.apply(variables, jnp.clip(images + d, 0, 1)).argmax(-1) != labels).sum() for d in deltas]
    np.testing.assert_array_equal(shared, deltas[int(np.argmax(wrong))])
    assert min(wrong) < max(wrong)


def test_a_sweep_is_the_single_runs(trained):
    classifier, variables, data = trained
    seen = jnp.asarray(data.train.images[:200]), jnp.asarray(data.train.labels[:200])
    images, labels = jnp.asarray(data.test.images[:50]), jnp.asarray(data.test.labels[:50])
    epsilons = (0.0, 0.1, 0.3)
    state, attack = learn({"epsilon": epsilons, "num_steps": 50}, classifier, variables, *seen)
    assert state["perturbation"].shape == (3, 1, 8, 8, 1)
    swept = attack(jax.random.key(0), variables, images, labels)
    _, single = learn({"epsilon": 0.1, "num_steps": 50}, classifier, variables, *seen)
    alone = single(jax.random.key(0), variables, images, labels)
    assert (np.abs(swept.adversarial[1] - alone.adversarial) < 1e-4).mean() > 0.98
    np.testing.assert_array_equal(swept.adversarial[0], images)
    assert swept.success[0].sum() == 0 and swept.success[1].sum() < swept.success[2].sum()


def test_a_class_that_no_image_has_leaves_the_start(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.train.images[:20]), jnp.zeros(20, jnp.int32)
    for more in ({"classes": (4,)}, {"target_label": 0}):
        settings = {"num_steps": 2, "num_restarts": 2, **more}
        state, _ = learn(settings, classifier, variables, images, labels)
        assert np.isfinite(state["perturbation"]).all()
        start_key, _ = jax.random.split(jax.random.split(jax.random.key(0), 2)[0])
        start = jnp.clip(0.3 * jax.random.normal(start_key, (1, 8, 8, 1)), -0.3, 0.3)
        np.testing.assert_allclose(state["perturbation"], start, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_not_weaker_than_art(trained, art_classifier):
    evasion = pytest.importorskip("art.attacks.evasion")
    _, _, data = trained
    epsilon = 0.2
    seen, labels = data.train.images[:60], data.train.labels[:60]
    random.seed(0)
    peer = evasion.UniversalPerturbation(art_classifier, "deepfool", delta=0.02, max_iter=2, eps=epsilon, verbose=False)
    peer.attacker_params = {"verbose": False, "max_iter": 20}
    peer.generate(seen, np.eye(10)[labels])
    assert np.abs(peer.noise).max() <= epsilon + 1e-5
    clean, theirs = (
        art_classifier.predict(x).argmax(-1) for x in (data.test.images, (data.test.images + peer.noise[0]).clip(0, 1))
    )
    share = metrics.fooling_rate(clean, theirs, data.test.labels)["fooling"]
    ours = rates(trained, jnp.asarray(seen), jnp.asarray(labels), epsilon=epsilon)["fooling"]
    assert share > 0.1
    assert ours >= share - 0.02


def test_what_does_not_fit_is_refused(target, images):
    classifier, variables = target
    for arguments in (
        {"epsilon": 2.0},
        {"norm": "l1"},
        {"loss": "jump"},
        {"num_steps": 0},
        {"step_size": 0.0},
        {"beta": float("nan")},
        {"collateral_weight": -1.0, "classes": (1,)},
        {"collateral_weight": 1.0},
        {"classes": ()},
        {"classes": (1, 2), "target_label": 2},
    ):
        with pytest.raises(ValueError, match=r"choose|positive"):
            universal_perturbation(classifier.apply, **arguments)
    learned = universal_perturbation(classifier.apply, num_steps=1)
    with pytest.raises(ValueError, match="target_label"):
        learned.attack({"perturbation": jnp.zeros((1, 8, 8, 1))}, jax.random.key(0), variables, *images, images[1])
