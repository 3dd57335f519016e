"""The substitute: set, queries and training by a plain loop; augmentation by hand; labels alone; transfer to the digits' mlp."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mgan_jax.attacks.adversarial_transformation_network import adversarial_transformation_network
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.substitute_model import agreement, augmented, learned_on, substitute_model
from mgan_jax.models.autoencoder import autoencoder
from mgan_jax.models.linear import linear
from mgan_jax.models.mlp import mlp


def softmax(logits):
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def step_by_hand(kernel, images, labels, step):
    """x + step sign(dF_y / dx) of F = softmax(x W), whose derivative is F_y (W_y - sum_j F_j W_j)."""
    p = softmax(images.reshape(len(images), -1) @ kernel)
    slopes = kernel.T[labels] - p @ kernel.T
    return (images + step * np.sign(slopes).reshape(images.shape)).clip(0, 1)


def test_augmentation_by_hand_also_where_the_softmax_is_one(images):
    images, labels = images[0], np.arange(8) % 3
    classifier = linear((8, 8, 1), 3)
    variables = classifier.init(jax.random.key(0))
    kernel = np.asarray(variables["params"]["output"]["kernel"])
    made = augmented(classifier.apply, variables, images, jnp.asarray(labels), -0.1)
    np.testing.assert_allclose(made, step_by_hand(kernel, np.asarray(images), labels, -0.1), atol=1e-6)
    certain = {"params": {"output": {"kernel": variables["params"]["output"]["kernel"] * 20, "bias": jnp.zeros(3)}}}
    decisions = classifier.apply(certain, images).argmax(-1)
    assert jax.nn.softmax(classifier.apply(certain, images)).max() == 1
    assert (augmented(classifier.apply, certain, images[2:3], decisions[2:3], 0.1) != images[2:3]).mean() > 0.4


def test_fit_is_what_a_plain_loop_does():
    """Sets of 5, 10, 13 and 16 images: one doubling, then three drawn ones a round, the step's sign changing every round."""
    classifier, target = linear((2, 3, 1), 3), linear((2, 3, 1), 3)
    target_variables = target.init(jax.random.key(9))
    images = np.random.default_rng(0).uniform(0, 1, (5, 2, 3, 1)).astype(np.float32)
    settings = {"num_rounds": 3, "step_size": 0.2, "period": 1, "num_doublings": 1, "reservoir_size": 3}
    learned = substitute_model(target.apply, classifier, num_epochs=2, batch_size=4, **settings)
    state = jax.jit(learned.fit)(jax.random.key(4), target_variables, images, jnp.full(5, -7))
    assert state["queries"] == 16

    ask = lambda x: np.asarray(target.apply(target_variables, jnp.asarray(x, jnp.float32)).argmax(-1))  # noqa: E731
    init_key, train_key, reservoir_key = jax.random.split(jax.random.key(4), 3)
    params = jax.tree.map(np.asarray, classifier.init(init_key))["params"]["output"]
    moments = {name: np.zeros_like(value) for name, value in params.items()}
    store, answers = images, ask(images)
    for i, size in enumerate((5, 10, 13, 16)):
        assert len(store) == size
        round_key = jax.random.fold_in(train_key, i)
        for j in range(2 * -(-size // 4)):
            rows = np.asarray(jax.random.randint(jax.random.fold_in(round_key, j), (4,), 0, size))
            x = store[rows].reshape(4, -1)
            error = (softmax(x @ params["kernel"] + params["bias"]) - np.eye(3)[answers[rows]]) / 4
            for name, gradient in (("kernel", x.T @ error), ("bias", error.sum(0))):
                moments[name] = gradient + 0.9 * moments[name]
                params[name] = params[name] - 0.01 * moments[name]
        drawn = np.asarray(jax.random.uniform(jax.random.fold_in(reservoir_key, i), (16,)))[:size]
        parents = np.argsort(drawn)[: 5 if i == 0 else 3]
        p = softmax(store[parents].reshape(len(parents), -1) @ params["kernel"] + params["bias"])
        slopes = (params["kernel"].T[answers[parents]] - p @ params["kernel"].T).reshape(-1, 2, 3, 1)
        new = (store[parents] + 0.2 * (-1) ** i * np.sign(slopes)).clip(0, 1)
        store, answers = np.concatenate([store, new]), np.concatenate([answers, ask(new)])
    for name, value in params.items():
        np.testing.assert_allclose(state["substitute"]["params"]["output"][name], value, atol=1e-5)


@pytest.fixture(scope="module")
def stolen(trained):
    """A substitute of another architecture for the digits' mlp, from 100 test images that are attacked nowhere here."""
    classifier, variables, data = trained
    seeds = jnp.asarray(data.test.images[:100]), jnp.zeros(100, jnp.int32)
    substitute = mlp(data.image_shape, 10, (40, 20))
    labels_only = lambda v, x: 5.0 * jax.nn.one_hot(classifier.apply(v, x).argmax(-1), 10)  # noqa: E731
    arguments = {"num_rounds": 3, "optimizer": optax.adam(3e-3), "num_epochs": 20}
    fit = lambda apply_fn: substitute_model(apply_fn, substitute, **arguments).fit  # noqa: E731
    states = [jax.jit(fit(f))(jax.random.key(0), variables, *seeds) for f in (classifier.apply, labels_only)]
    return substitute, states


def test_nothing_but_the_labels_of_the_target_is_used(stolen):
    jax.tree.map(np.testing.assert_array_equal, *stolen[1])
    assert stolen[1][0]["queries"] == 800


def test_the_substitute_agrees_and_its_samples_transfer(trained, stolen):
    classifier, variables, data = trained
    substitute, (state, _) = stolen
    images, labels = jnp.asarray(data.test.images[100:300]), jnp.asarray(data.test.labels[100:300])
    share = agreement(classifier.apply, variables, substitute, state, images)
    same = substitute.apply(state["substitute"], images).argmax(-1) == classifier.apply(variables, images).argmax(-1)
    assert share == same.mean() and share > 0.75

    def transferred(make_attack):
        attack = substitute_model(classifier.apply, substitute, make_attack).attack
        return jax.jit(attack)(state, jax.random.key(1), variables, images, labels)

    result = transferred(partial(pgd, epsilon=(0.0, 0.1, 0.3), num_steps=10, step_size=0.05))
    rates = result.success.sum(1) / result.clean_correct[0].sum()
    assert rates[0] == 0 and rates[1] < rates[2] and rates[2] > 0.6
    alone = transferred(partial(fgsm, epsilon=0.3))
    assert alone.success.sum() / alone.clean_correct.sum() > 0.5 and (alone.used == 0).all()
    # White-box FGSM knows more than a transferred one.
    white = jax.jit(fgsm(classifier.apply, 0.1))(jax.random.key(1), variables, images, labels)
    assert transferred(partial(fgsm, epsilon=0.1)).success.sum() <= white.success.sum()


@pytest.mark.parametrize(
    "arguments",
    [
        {"num_rounds": -1},
        {"num_epochs": 0},
        {"batch_size": 0},
        {"step_size": 0.0},
        {"step_size": 1.5},
        {"period": 0},
        {"num_doublings": -1},
        {"reservoir_size": 0},
    ],
)
def test_what_does_not_fit_is_refused(arguments, target):
    name, value = next(iter(arguments.items()))
    with pytest.raises(ValueError, match=rf"{name} {'is ' if name in ('num_rounds', 'period') else ''}{value}.*choose"):
        substitute_model(target[0].apply, target[0], **arguments)


def test_what_learns_on_substitutes_sees_the_targets_labels_alone(target, images):
    classifier, variables = target
    images, labels = images
    substitutes = [linear((8, 8, 1), 10), linear((8, 8, 1), 10)]

    def of(apply_fn):
        learned = adversarial_transformation_network(
            [one.apply for one in substitutes], autoencoder("dense", (4,)), num_steps=3, judge=apply_fn
        )
        return learned_on(apply_fn, learned, [substitute_model(apply_fn, one, num_rounds=0) for one in substitutes])

    labels_alone = lambda v, x: jax.nn.one_hot(classifier.apply(v, x).argmax(-1), 10)  # noqa: E731
    whole, less = of(classifier.apply), of(labels_alone)
    fit = jax.jit(whole.fit)
    state = fit(jax.random.key(0), variables, images, labels)
    others = fit(jax.random.key(0), variables, images, labels[::-1])
    hidden = jax.jit(less.fit)(jax.random.key(0), variables, images, labels)
    assert state["queries"] == 3 * 8
    jax.tree.map(np.testing.assert_array_equal, state, others)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6), state, hidden)
    result = whole.attack(state, jax.random.key(1), variables, images, labels)
    np.testing.assert_array_equal(result.logits, classifier.apply(variables, result.adversarial))


def test_images_that_the_target_does_not_answer_teach_nothing():
    """As if the labels of the others were all that there are: of NaN answers no class is learned, the first least of all."""
    classifier = linear((8, 8, 1), 3)
    target = classifier.init(jax.random.key(5))
    images = jnp.asarray(np.random.default_rng(3).random((12, 8, 8, 1)), jnp.float32).at[4:8].set(1.0)

    def apply(variables, x):
        return classifier.apply(variables, x) + jnp.where(x.min((1, 2, 3)) > 0.99, jnp.nan, 0.0)[:, None]

    learned = substitute_model(apply, classifier, num_rounds=1, num_epochs=1, batch_size=4)
    silent = substitute_model(lambda v, x: apply(v, x) * jnp.nan, classifier, num_rounds=1, num_epochs=1, batch_size=4)
    fitted = [one.fit(jax.random.key(0), target, images, jnp.zeros(12, jnp.int32))["substitute"] for one in (learned, silent)]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(fitted))
    kernels = [np.asarray(of["params"]["output"]["kernel"]) for of in fitted]
    assert (kernels[0] != kernels[1]).any()
    start = classifier.init(jax.random.split(jax.random.key(0), 3)[0])
    np.testing.assert_array_equal(kernels[1], start["params"]["output"]["kernel"])
    labels = jnp.array([0, -1, 2])
    moved = augmented(classifier.apply, target, images[:3], labels, 0.1)
    np.testing.assert_array_equal((np.asarray(moved) != images[:3]).any((1, 2, 3)), [True, False, True])
    share = agreement(apply, target, classifier, {"substitute": target}, images)
    assert share == pytest.approx(8 / 12)
