"""AdvGAN by itself: its loss by hand, its bound, the class it learns to reach, the same key twice, and that training helps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.advgan import advgan
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.training import gan
from mgan_jax.types import Network

# G adds (a, b) to every image of two pixels, D sums them, and the network has three linear logits of them.
ADDING = Network(
    lambda key, shape: jnp.zeros(2), lambda variables, images: jnp.zeros_like(images) + variables.reshape(1, 1, 2, 1)
)
SUMMING = Network(lambda key, shape: jnp.ones(()), lambda variables, images: variables * images.sum((1, 2, 3)))
KERNEL = np.asarray([[4.0, -1.0, 0.5], [0.0, 3.0, 2.5]])
IMAGES = np.asarray([[0.9, 0.1], [0.2, 0.8], [0.5, 0.6]], np.float32)
LABELS = np.asarray([0, 1, 2])
CHANGE = np.asarray([-0.3, 0.4], np.float32)


def three_logits(variables, images):
    return images.reshape(len(images), 2) @ jnp.asarray(KERNEL, jnp.float32)


def loss_of(**more):
    attack = advgan(three_logits, ADDING, SUMMING, **more)
    state = attack.init(jax.random.key(0), (1, 2, 1))
    images, labels = jnp.asarray(IMAGES).reshape(3, 1, 2, 1), jnp.asarray(LABELS)
    return attack, attack.generator_loss(jnp.asarray(CHANGE), state, jax.random.key(1), 0, {}, images, labels)


def by_hand():
    """The adversarial images, their logits, and for each z_y less the largest other."""
    adversarial = np.clip(IMAGES + CHANGE, 0, 1)
    logits = adversarial @ KERNEL
    others = np.where(np.eye(3, dtype=bool)[LABELS], -np.inf, logits)
    return adversarial, logits, logits[range(3), LABELS] - others.max(1)


@pytest.mark.parametrize("kappa", [0.0, 0.7])
def test_the_loss_is_the_sum_of_its_three_terms(kappa):
    adversarial, logits, margins = by_hand()
    assert (margins < 0).any() and (margins > 0).any() and (adversarial == 1).any()
    _, (loss, done) = loss_of(alpha=0.5, hinge_weight=2.0, hinge_bound=0.2, kappa=kappa)
    adversarial_loss = np.maximum(margins, -kappa).mean()
    gan_loss = ((adversarial.sum(1) - 1) ** 2).mean()
    # ||(-.3, .4)|| is .5, before the cut.
    np.testing.assert_allclose(loss, adversarial_loss + 0.5 * gan_loss + 2 * (0.5 - 0.2), rtol=1e-5)
    np.testing.assert_allclose(done.metrics["adversarial_loss"], adversarial_loss, rtol=1e-5)
    np.testing.assert_allclose(done.metrics["gan_loss"], gan_loss, rtol=1e-5)
    np.testing.assert_allclose(done.adversarial.reshape(3, 2), adversarial, rtol=1e-6)
    np.testing.assert_allclose(done.metrics["misclassification"], (logits.argmax(1) != LABELS).mean(), rtol=1e-6)


def test_a_target_is_reached_by_kappa_and_reach_asks_for_the_likeliest_wrong_class():
    _, logits, margins = by_hand()
    to_first = np.where(np.eye(3, dtype=bool)[[0, 0, 0]], -np.inf, logits).max(1) - logits[:, 0]
    _, (_, done) = loss_of(target_label=0, kappa=0.3)
    np.testing.assert_allclose(done.metrics["adversarial_loss"], np.maximum(to_first, -0.3).mean(), rtol=1e-5)
    np.testing.assert_allclose(done.metrics["misclassification"], (logits.argmax(1) == 0).mean(), rtol=1e-6)
    _, (_, done) = loss_of(hinge="reach", kappa=0.3)
    # Of three classes the likeliest wrong one leads by what the true one lacks, or by what it has over the third.
    wrong = np.where(np.eye(3, dtype=bool)[LABELS], -np.inf, logits).argmax(1)
    rest = np.where(np.eye(3, dtype=bool)[wrong], -np.inf, logits).max(1) - logits[range(3), wrong]
    np.testing.assert_allclose(done.metrics["adversarial_loss"], np.maximum(rest, -0.3).mean(), rtol=1e-5)
    assert (rest >= margins - 1e-6).all()


def test_the_discriminators_loss_wants_ones_of_the_real_and_zeros_of_the_made():
    attack, (_, done) = loss_of()
    loss = attack.discriminator_loss(jnp.float32(0.5), jnp.asarray(IMAGES).reshape(3, 1, 2, 1), done.adversarial)
    real, fake = 0.5 * IMAGES.sum(1), 0.5 * by_hand()[0].sum(1)
    np.testing.assert_allclose(loss, (((real - 1) ** 2).mean() + (fake**2).mean()) / 2, rtol=1e-5)


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
@pytest.mark.parametrize("size", [1.0, 1e3])
def test_whatever_the_generators_weights_the_change_is_within_epsilon(epsilon, size, target, images):
    classifier, variables = target
    attack = advgan(classifier.apply, generator(epsilon, (4, 8), 1), discriminator((4, 8)))
    state = attack.init(jax.random.key(0), (8, 8, 1))
    state = {**state, "generator": jax.tree.map(lambda leaf: size * leaf, state["generator"])}
    result = attack.attack(state, jax.random.key(1), variables, *images)
    assert result.linf.max() <= epsilon + 1e-6 and (size == 1 or result.linf.max() > 0.9 * epsilon)
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1


@pytest.fixture(scope="module")
def fitted(trained):
    """`fitted(epochs, key, **more)`: the attack's results on test images; each made once."""
    classifier, variables, data = trained
    kept = {}

    def get(epochs, key=1, **more):
        name = epochs, key, *more.items()
        if name not in kept:
            attack = advgan(classifier.apply, generator(0.3, (4, 8), 1), discriminator((4, 8)), kappa=2.0, **more)
            images, labels = (array[:600] for array in data.train)
            partial = gan.fit(
                jax.random.key(key), attack, variables, images, labels, epochs=epochs, batch_size=50, learning_rate=5e-3
            )
            kept[name] = jax.jit(partial)(jax.random.key(2), variables, *data.test)
        return kept[name]

    return get


def test_training_helps(fitted):
    rates = [float(result.success.sum() / result.clean_correct.sum()) for result in (fitted(1), fitted(6))]
    assert rates[1] > 0.5 and rates[1] > rates[0] + 0.2


def test_the_class_it_learns_is_the_class_it_reaches(fitted):
    decisions, free = (np.asarray(result.logits.argmax(-1)) for result in (fitted(6, target_label=2), fitted(6)))
    assert (decisions == 2).mean() > 0.5 and (decisions == 2).sum() > 2 * (free == 2).sum()


def test_a_target_is_what_it_was_trained_for_or_an_error(trained):
    classifier, variables, data = trained
    images, labels = (jnp.asarray(array[:4]) for array in data.test)
    attack = advgan(classifier.apply, generator(0.3, (4, 8), 1), discriminator((4, 8)))
    state = attack.init(jax.random.key(0), data.image_shape)
    with pytest.raises(ValueError, match="learned untargeted"):
        attack.attack(state, jax.random.key(1), variables, images, labels, labels)


def test_the_same_key_gives_the_same_images_and_another_others(fitted, trained):
    classifier, variables, data = trained
    again = advgan(classifier.apply, generator(0.3, (4, 8), 1), discriminator((4, 8)), kappa=2.0)
    images, labels = (array[:600] for array in data.train)
    partial = gan.fit(jax.random.key(1), again, variables, images, labels, epochs=1, batch_size=50, learning_rate=5e-3)
    result = jax.jit(partial)(jax.random.key(7), variables, *data.test)
    np.testing.assert_array_equal(result.adversarial, fitted(1).adversarial)
    assert np.abs(np.asarray(fitted(1, key=3).adversarial) - np.asarray(result.adversarial)).max() > 0.01
