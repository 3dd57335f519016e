"""AdvGAN's and MGAN's losses against loops and hand examples, and what adapts their weights."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import build, losses
from mgan_jax.attacks.advgan import advgan
from mgan_jax.attacks.mgan import mgan
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing


def one_step(attack, target, images, step=1, state=None):
    """What a generator's loss leaves behind, jitted, from a fresh state."""
    state = state or attack.init(jax.random.key(2), (8, 8, 1))
    loss = jax.jit(attack.generator_loss)
    with jax.debug_key_reuse(False):
        return loss(state["generator"], state, jax.random.key(3), step, target[1], *images)[1]


def attack_of(target, factory=mgan, **arguments):
    more = {"mutations": [gaussian_fuzzing(0.5)]} if factory is mgan else {}
    return factory(target[0].apply, generator(0.3, (4, 8), 1), discriminator((4, 8)), **{**more, **arguments})


def test_beta_zero_is_advgan_exactly(target, images):
    classifier, variables = target
    images, labels = images
    networks = generator(0.3, (4, 8), 1), discriminator((4, 8))
    plain, zero = advgan(classifier.apply, *networks), mgan(classifier.apply, *networks, [gaussian_fuzzing()], beta=0.0)
    with jax.debug_key_reuse(False):
        states = [attack.init(jax.random.key(2), (8, 8, 1)) for attack in (plain, zero)]
        gradients = [
            jax.jit(jax.grad(attack.generator_loss, has_aux=True))(
                s["generator"], s, jax.random.key(3), 0, variables, images, labels
            )[0]
            for attack, s in zip((plain, zero), states, strict=True)
        ]
    jax.tree.map(np.testing.assert_array_equal, *states)
    jax.tree.map(np.testing.assert_array_equal, *gradients)


def test_l_mutate_is_what_a_loop_over_its_mutants_gives(target, images):
    classifier, variables = target
    images, labels = images
    operators = [gaussian_fuzzing(0.5), gaussian_fuzzing(0.9)]
    attack = mgan(classifier.apply, generator(0.3, (4, 8), 1), discriminator((4, 8)), operators, beta=2.0, num_mutants=3)
    state = attack.init(jax.random.key(2), (8, 8, 1))
    with jax.debug_key_reuse(False):
        _, done = jax.jit(attack.generator_loss)(state["generator"], state, jax.random.key(3), 1, variables, images, labels)
        keys = jax.random.split(jax.random.fold_in(jax.random.key(3), 1), 3)
        losses = []
        for i, key in enumerate(keys):
            logits = classifier.apply(operators[(3 + i) % 2](key, variables), done.adversarial)
            rows = jax.nn.log_softmax(logits)[jnp.arange(8), done.logits.argmax(-1)]
            losses.append(-rows.mean())
    np.testing.assert_allclose(done.metrics["mutate_loss"], np.mean(losses), rtol=1e-4)


@pytest.mark.parametrize(("redraw_every", "same"), [(1, False), (10, True)])
def test_mutants_are_drawn_afresh_every_step_or_as_often_as_asked(redraw_every, same, target, images):
    classifier, variables = target
    images, labels = images
    attack = mgan(
        classifier.apply, generator(0.3, (4, 8), 1), discriminator((4, 8)), [gaussian_fuzzing(0.9)], redraw_every=redraw_every
    )
    state = attack.init(jax.random.key(2), (8, 8, 1))
    with jax.debug_key_reuse(False):
        arguments = (state["generator"], state, jax.random.key(3))
        loss = jax.jit(attack.generator_loss)
        steps = [loss(*arguments, step, variables, images, labels)[1] for step in (0, 1)]
    values = [float(step.metrics["mutate_loss"]) for step in steps]
    assert (values[0] == values[1]) == same


def test_with_the_reference_normal_l_mutate_is_a_loop_over_mutants_and_the_clean_forms(target, images):
    attack = attack_of(target, mutations=[gaussian_fuzzing(0.5)], num_mutants=3, reference="normal", normal_images=4)
    done = one_step(attack, target, images)
    classifier, variables = target
    expected = []
    for key in jax.random.split(jax.random.fold_in(jax.random.key(3), 1), 3):
        mutated = gaussian_fuzzing(0.5)(key, variables)
        p, q = (
            jax.nn.softmax(classifier.apply(mutated, x))[jnp.arange(4), classifier.apply(variables, x).argmax(-1)]
            for x in (done.adversarial[:4], images[0][:4])
        )
        expected.append(-(q * jnp.log(p) + (1 - q) * jnp.log(1 - p)).mean())
    np.testing.assert_allclose(done.metrics["mutate_loss"], np.mean(expected), rtol=1e-3)


def test_the_hinge_that_reaches_is_a_targeted_one_at_the_best_wrong_class(target, images):
    done = one_step(attack_of(target, advgan, hinge="reach", kappa=1.0), target, images)
    logits, labels = np.asarray(done.logits), np.asarray(images[1])
    wrong = [max((i for i in range(10) if i != y), key=lambda i, z=z: z[i]) for z, y in zip(logits, labels, strict=True)]
    expected = np.mean([max(np.delete(z, t).max() - z[t], -1.0) for z, t in zip(logits, wrong, strict=True)])
    np.testing.assert_allclose(done.metrics["adversarial_loss"], expected, rtol=1e-4)


def test_a_matched_margin_asks_each_image_for_a_share_of_the_margin_of_its_clean_form(target, images):
    classifier, variables = target
    done = one_step(attack_of(target, advgan, match_margin=0.5, kappa=0.01), target, images)
    clean = classifier.apply(variables, images[0])
    asked = 0.01 + 0.5 * losses.margin(clean, clean.argmax(-1))
    expected = jnp.maximum(losses.margin(done.logits, images[1]), -asked).mean()
    np.testing.assert_allclose(done.metrics["adversarial_loss"], expected, rtol=1e-4, atol=1e-6)


def test_the_entropy_of_the_labels_enters_with_its_weight(target, images):
    plain, diverse = (one_step(attack_of(target, advgan, diversity_weight=w), target, images).metrics for w in (0.0, 3.0))
    np.testing.assert_allclose(plain["loss"] - diverse["loss"], 3.0 * plain["label_entropy"], rtol=1e-5)


def test_a_mutant_is_judged_on_other_images_than_the_normal_rate_is_taken_on(target, images):
    attack = attack_of(target, mutations=[gaussian_fuzzing(0.9)], min_accuracy_ratios=[1.0], num_mutants=2, normal_images=4)
    decisions = target[0].apply(target[1], images[0]).argmax(-1)
    wrong = (decisions + 1) % 10
    for first in (decisions, wrong):
        kept, refused = (
            one_step(attack, target, (images[0], jnp.concatenate([first[:4], second[4:]]))).metrics["mutate_loss"]
            for second in (wrong, decisions)
        )
        assert kept > 0.0 == refused


def test_below_zero_beta_rewards_flips(target, images):
    attack = attack_of(target, mutations=[gaussian_fuzzing(0.5)], num_mutants=3, target_ratio=0.95, min_beta=-2.0)
    state = attack.init(jax.random.key(2), (8, 8, 1))
    state["balance"] |= {"beta": jnp.full(1, -2.0)}
    done = one_step(attack, target, images, state=state)
    base = one_step(attack_of(target, advgan), target, images, state=state)
    classifier, variables = target
    agreements = [
        jax.nn.softmax(classifier.apply(gaussian_fuzzing(0.5)(key, variables), done.adversarial))[
            jnp.arange(8), done.logits.argmax(-1)
        ].mean()
        for key in jax.random.split(jax.random.fold_in(jax.random.key(3), 1), 3)
    ]
    np.testing.assert_allclose(done.metrics["loss"] - base.metrics["loss"], 2.0 * np.mean(agreements), rtol=1e-3)


@pytest.mark.parametrize(("ratio", "grows"), [(0.1, False), (5.0, True)])
def test_beta_grows_where_the_ratio_is_above_its_target(ratio, grows, target, images):
    attack = attack_of(target, mutations=[gaussian_fuzzing(0.9)] * 2, num_mutants=2, target_ratio=0.95, beta=1.0)
    state = attack.init(jax.random.key(2), (8, 8, 1))
    state["balance"] |= {"normal_flips": jnp.full(2, 0.1), "flips": jnp.full(2, 0.1 * ratio)}
    assert ((one_step(attack, target, images, state=state).balance["beta"] > 1.0) == grows).all()


@pytest.mark.parametrize(("ratio", "share"), [(0.5, 1.0 - 0.1 * 0.45), (5.0, 1.0)])
def test_less_of_the_clean_margin_is_asked_for_while_samples_are_too_stable(ratio, share, target, images):
    arguments = {"target_ratio": 0.95, "match_margin": 1.0, "match_rate": 0.1, "num_mutants": 1}
    attack = attack_of(target, mutations=[gaussian_fuzzing(0.9)] * 2, **arguments)
    state = attack.init(jax.random.key(2), (8, 8, 1))
    state["balance"] |= {"normal_flips": jnp.full(2, 0.1), "flips": jnp.full(2, 0.1 * ratio)}
    np.testing.assert_allclose(one_step(attack, target, images, state=state).balance["match"], share, atol=0.02)


@pytest.mark.parametrize("factory", [advgan, mgan])
def test_the_weight_of_diversity_moves_towards_the_target_entropy(factory, target, images):
    more = {} if factory is advgan else {"mutations": [gaussian_fuzzing(0.1)]}
    for entropy in (0.0, 2.3):
        attack = attack_of(target, factory, diversity_weight=1.0, target_entropy=entropy, **more)
        done = one_step(attack, target, images)
        expected = np.exp(0.02 * (entropy - done.metrics["label_entropy"]))
        np.testing.assert_allclose(done.balance["diversity"], expected, rtol=1e-5)


def test_beta_stays_below_its_ceiling(target, images):
    attack = attack_of(target, mutations=[gaussian_fuzzing(0.9)], target_ratio=0.01, beta=2.0, max_beta=2.0)
    state = attack.init(jax.random.key(2), (8, 8, 1))
    state["balance"] |= {"normal_flips": jnp.full(1, 0.1), "flips": jnp.full(1, 0.9)}
    assert one_step(attack, target, images, state=state).balance["beta"] == 2.0


def test_a_batch_with_nothing_fooled_leaves_the_moving_averages_and_betas_alone(target, images):
    attack = attack_of(target, mutations=[gaussian_fuzzing(0.9)], target_ratio=0.95)
    state = attack.init(jax.random.key(2), (8, 8, 1))
    state["balance"] |= {"normal_flips": jnp.full(1, 0.1), "flips": jnp.full(1, 0.3)}
    decisions = one_step(attack, target, images, state=state).logits.argmax(-1)
    for labels, moves in ((decisions, False), ((decisions + 1) % 10, True)):
        balance = one_step(attack, target, (images[0], labels), state=state).balance
        for name in ("beta", "flips", "normal_flips"):
            assert (balance[name] != state["balance"][name]).all() == moves


def test_an_argument_that_neither_mgan_nor_advgan_takes_is_refused_in_mgans_name(target):
    kinds = ("attacks", "defenses", "detectors", "models", "mutation", "training", "datasets")
    factories = {(kind, name): build.factory(kind, name) for kind in kinds for name in build.available(kind)}
    takes_any = [
        name for (_, name), of in factories.items()
        if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(of).parameters.values())
    ]  # fmt: skip
    assert takes_any == ["mgan"], "each must refuse what it does not know"
    with pytest.raises(ValueError, match=r"^mgan does not take betas; its arguments are apply_fn, .*\bbeta, .*\bkappa\b"):
        attack_of(target, betas=3)
    assert attack_of(target, kappa=1.0, beta=0.5)
