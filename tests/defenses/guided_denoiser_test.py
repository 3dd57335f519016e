"""The denoiser's losses by hand, that the attacks' draws are fresh, and that what it learns helps who does not know it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.result import robust_accuracy
from mgan_jax.defenses.guided_denoiser import guided_denoiser
from mgan_jax.models.autoencoder import autoencoder
from mgan_jax.training.minimise import minimiser
from mgan_jax.types import Network

SCALED = Network(lambda key, shape: {"scale": jnp.float32(0.25)}, lambda variables, images: variables["scale"] * images)


def given(classifier, variables, guide, images, labels, attack):
    """The loss that is handed to `train`, of the network dx(x) = x / 4."""
    seen = []

    def train(key, name, params, loss, data):
        seen.append(loss)
        return params

    defense = guided_denoiser(classifier.apply, SCALED, train, attack, guide)
    state = defense.fit(jax.random.key(0), variables, images, labels)
    return defense, state, jax.jit(seen[0])


@pytest.mark.parametrize("guide", ["logits", "pixels"])
def test_both_losses_by_hand_with_the_target_fixed(trained, guide):
    classifier, variables, data = trained
    images, labels = (jnp.asarray(array[:20]) for array in data.train)
    attack = fgsm(classifier.apply, 0.2)
    defense, state, loss = given(classifier, variables, guide, images, labels, attack)
    adversarial = jax.jit(attack)(jax.random.key(9), variables, images, labels).adversarial
    denoised = np.asarray(adversarial) * np.float32(0.75)
    full = {"target": variables, "defense": state}
    np.testing.assert_allclose(defense.purify(full, adversarial), denoised, rtol=1e-5)
    np.testing.assert_allclose(defense.apply(full, adversarial), classifier.apply(variables, denoised), rtol=1e-4, atol=1e-4)
    logits = [np.asarray(classifier.apply(variables, x)) for x in (denoised, images)]
    expected = np.abs(logits[0] - logits[1]).mean() if guide == "logits" else np.abs(denoised - images).mean()
    np.testing.assert_allclose(loss(state, jax.random.key(1), 3, images, labels)[0], expected, rtol=1e-4)


def test_every_step_attacks_anew_with_one_of_the_attacks(trained):
    """Two attacks that draw nothing give two losses, each again and again; one that draws gives another in every step."""
    classifier, variables, data = trained
    images, labels = (jnp.asarray(array[:20]) for array in data.train)

    def losses(attack):
        _, state, loss = given(classifier, variables, "pixels", images, labels, attack)
        return [float(loss(state, jax.random.key(1), step, images, labels)[0]) for step in range(12)]

    pair = [fgsm(classifier.apply, epsilon) for epsilon in (0.1, 0.3)]
    changed = [jax.jit(attack)(jax.random.key(9), variables, images, labels).adversarial for attack in pair]
    expected = [np.abs(0.75 * np.asarray(adversarial) - images).mean() for adversarial in changed]
    found = np.array(losses(pair))
    near = np.abs(found[:, None] - np.array(expected)[None]) < 1e-5
    assert (near.sum(1) == 1).all() and near.any(0).all()
    assert len(set(losses(pgd(classifier.apply, 0.2, 1, 0.05)))) == 12


@pytest.mark.parametrize("guide", ["logits", "pixels"])
def test_it_undoes_the_attack_it_was_trained_on_until_it_is_attacked_itself(trained, guide):
    classifier, variables, data = trained
    images, labels = (jnp.asarray(array) for array in data.validation)
    attack = fgsm(classifier.apply, 0.15)
    train = minimiser(epochs=20, batch_size=50, learning_rate=5e-3)
    defense = guided_denoiser(classifier.apply, autoencoder("dense", (64,)), train, attack, guide)
    full = {"target": variables, "defense": defense.fit(jax.random.key(0), variables, *data.train)}
    unaware = jax.jit(attack)(jax.random.key(1), variables, images, labels)
    held = (jax.jit(defense.apply)(full, unaware.adversarial).argmax(-1) == labels).mean()
    aware = jax.jit(pgd(defense.apply, 0.15, 10, 0.05))(jax.random.key(2), full, images, labels)
    assert held > robust_accuracy(unaware) + 0.3
    assert robust_accuracy(aware) < held - 0.3


def test_another_guide_and_no_attack_are_refused(trained):
    apply = trained[0].apply
    with pytest.raises(ValueError, match="'labels'"):
        guided_denoiser(apply, SCALED, minimiser(), fgsm(apply), "labels")
    with pytest.raises(ValueError, match="empty"):
        guided_denoiser(apply, SCALED, minimiser(), [])
