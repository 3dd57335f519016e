"""The robust manifold defense: what it trains, what it classifies with, and that its pairs come closer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.overpowered import overpowered_pairs
from mgan_jax.defenses.enhanced_invert_and_classify import enhanced_invert_and_classify
from mgan_jax.defenses.invert_and_classify import invert_and_classify
from mgan_jax.models.decoder import decoder
from mgan_jax.models.encoder import encoder
from mgan_jax.training import generative
from mgan_jax.training.minimise import minimiser
from mgan_jax.training.vae import vae

SIZES = {"code_size": 8, "num_restarts": 2, "num_steps": 20, "learning_rate": 0.2, "optimizer": "adam"}


@pytest.fixture(scope="module")
def fitted(trained):
    """The search, the plain state, and the enhanced one, of the digits."""
    classifier, variables, data = trained
    networks = encoder(8, (64,)), decoder(8, (64,))
    generator = generative.fit(jax.random.key(1), partial(vae, *networks, learning_rate=5e-3), data.train.images, 15, 50)
    search = overpowered_pairs(classifier.apply, networks[1].apply, 0.5, 8, 0.1, start_distance=0.3)
    make = partial(enhanced_invert_and_classify, classifier.apply, networks[1].apply, lambda key, images: generator, search)
    defense = make(minimiser(10, 100, 2e-3), mu=0.6, **SIZES)
    return search, networks[1], make, defense, defense.fit(jax.random.key(2), variables, data.train.images, data.train.labels)


def test_pairs_come_closer_and_images_stay_what_they_are(fitted, trained):
    classifier, variables, data = trained
    search, _, _, _, state = fitted
    codes = jax.random.normal(jax.random.key(3), (100, 8))
    measure = jax.jit(lambda found: search(jax.random.key(4), found, state["generator"], codes).class_distances.mean())
    assert measure(state["classifier"]) < 0.8 * measure(variables)
    decisions = classifier.apply(state["classifier"], data.test.images).argmax(-1)
    assert (decisions == data.test.labels).mean() > 0.9


def test_it_is_the_plain_defense_of_the_new_classifier(fitted, trained):
    classifier, variables, data = trained
    _, made, _, defense, state = fitted
    plain = invert_and_classify(classifier.apply, made.apply, lambda key, images: None, **SIZES)
    images = data.test.images[:5]
    found = jax.jit(defense.apply)({"target": variables, "defense": state}, images)
    expected = jax.jit(plain.apply)({"target": state["classifier"], "defense": state}, images)
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - jax.jit(plain.apply)({"target": variables, "defense": state}, images)).max() > 1e-3


def test_the_loss_is_the_sum_of_the_papers_formula(fitted, trained):
    classifier, variables, data = trained
    search, _, make, _, state = fitted
    kept = {}

    def train(key, name, params, loss, data):
        kept["loss"] = loss
        return params

    make(train, mu=0.3, num_pairs=6, **SIZES).fit(jax.random.key(5), variables, data.train.images, data.train.labels)
    images, labels = jnp.asarray(data.train.images[:7]), jnp.asarray(data.train.labels[:7])
    with jax.debug_key_reuse(False):
        value, metrics = kept["loss"](variables["params"], jax.random.key(6), 4, images, labels)
        code_key, pair_key = jax.random.split(jax.random.fold_in(jax.random.key(6), 4))
        pairs = search(pair_key, variables, state["generator"], jax.random.normal(code_key, (6, 8)))
    chances = jax.nn.log_softmax(classifier.apply(variables, images))
    entropy = -np.mean([chances[i, label] for i, label in enumerate(labels)])
    np.testing.assert_allclose(metrics["cross_entropy"], entropy, rtol=1e-4)
    np.testing.assert_allclose(value, 0.3 * pairs.class_distances.mean() + 0.7 * entropy, rtol=1e-3)


@pytest.mark.parametrize("bad", [{"mu": 1.5}, {"num_pairs": 0}, {"outputs": "hinge"}, {"num_restarts": 0}])
def test_bad_arguments_are_refused_when_building(bad):
    with pytest.raises(ValueError, match=str(next(iter(bad.values())))):
        enhanced_invert_and_classify(None, None, None, None, None, **bad)
