"""An image that is said to fool does so in float64, in other batches and without compilation: leads are beyond rounding."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.apgd import apgd
from mgan_jax.attacks.carlini_wagner_l0 import carlini_wagner_l0
from mgan_jax.attacks.carlini_wagner_l2 import carlini_wagner_l2
from mgan_jax.attacks.carlini_wagner_linf import carlini_wagner_linf
from mgan_jax.attacks.deepfool import deepfool
from mgan_jax.attacks.evolutionary import evolutionary
from mgan_jax.attacks.fab import fab
from mgan_jax.attacks.few_pixel import few_pixel
from mgan_jax.attacks.jsma import jsma
from mgan_jax.attacks.lbfgs import lbfgs
from mgan_jax.attacks.result import attack_result
from mgan_jax.attacks.square import square

pytestmark = pytest.mark.numerical

# The attacks that end at a boundary, because they look for the smallest change or stop at the first image that fools.
MAKE = {
    "apgd": partial(apgd, epsilon=0.1, num_steps=20),
    "carlini_wagner_l0": partial(carlini_wagner_l0, num_steps=30, initial_constant=0.1, largest_constant=10.0),
    "carlini_wagner_l2": partial(carlini_wagner_l2, num_searches=5, num_steps=60, learning_rate=0.1, initial_constant=0.1),
    "carlini_wagner_linf": partial(carlini_wagner_linf, num_steps=30, initial_constant=0.01, largest_constant=10.0),
    "deepfool": deepfool,
    "deepfool, linf": partial(deepfool, norm="linf"),
    "deepfool, no overshoot": partial(deepfool, overshoot=0.0),
    "evolutionary": partial(evolutionary, epsilon=0.2, num_queries=400),
    "fab": partial(fab, num_steps=40, num_target_classes=3),
    "fab, l2": partial(fab, norm="l2", num_steps=40, num_target_classes=3),
    "fab, all classes at once": partial(fab, num_steps=40, num_target_classes=None),
    "few_pixel": partial(few_pixel, num_pixels=3, population_size=30, num_generations=10),
    "jsma": jsma,
    "lbfgs": partial(lbfgs, num_searches=6),
    "square": partial(square, epsilon=0.2, num_queries=200),
}
COARSE = {
    "deepfool": deepfool,
    "fab": partial(fab, num_steps=20),
    "square": partial(square, epsilon=0.3, num_queries=50),
}
COUNT = 100


def in_float64(variables, images):
    """Logits [B, 10] of an mlp with one hidden layer."""
    kernel, bias, out_kernel, out_bias = (
        np.asarray(layer[name], np.float64)
        for layer in (variables["params"]["dense1"]["layer"], variables["params"]["output"])
        for name in ("kernel", "bias")
    )
    hidden = np.asarray(images, np.float64).reshape(len(images), -1) @ kernel + bias
    return np.maximum(hidden, 0) @ out_kernel + out_bias


@pytest.fixture(scope="module")
def networks(trained):
    """One apply_fn, and the variables of a network that has learned the digits and of one with random weights."""
    classifier, variables, data = trained
    return classifier.apply, (variables, classifier.init(jax.random.key(3))), jnp.asarray(data.test.images[:COUNT])


@pytest.mark.parametrize("name", MAKE)
def test_success_holds_in_float64_and_however_the_batch_is_computed(name, networks):
    apply_fn, both, images = networks
    attack, compiled = jax.jit(MAKE[name](apply_fn)), jax.jit(apply_fn)
    for variables in both:
        labels = compiled(variables, images).argmax(-1).astype(jnp.int32)
        targets = (labels + 1 + jnp.arange(COUNT, dtype=jnp.int32) % 9) % 10
        for aims in (None, targets):
            result = attack(jax.random.key(0), variables, images, labels, aims)
            success = np.asarray(result.success)
            assert success.sum() >= 10
            groups = jnp.split(result.adversarial, COUNT // 5)
            for logits in (
                in_float64(variables, result.adversarial),
                apply_fn(variables, result.adversarial),
                np.concatenate([compiled(variables, group) for group in groups]),
            ):
                decisions = np.asarray(logits).argmax(-1)
                fools = decisions != labels if aims is None else decisions == aims
                assert np.asarray(fools)[success].all()


def test_targeted_fab_reaches_what_deepfool_lbfgs_and_carlini_wagner_reach(networks):
    """Where several boundaries meet, the draw to the original stopped it short of them: it reached three of four."""
    apply_fn, (_, variables), images = networks
    labels = apply_fn(variables, images).argmax(-1).astype(jnp.int32)
    targets = (labels + 1 + jnp.arange(COUNT, dtype=jnp.int32) % 9) % 10
    run = lambda name: jax.jit(MAKE[name](apply_fn))(jax.random.key(0), variables, images, labels, targets)  # noqa: E731
    deep, searched, descended = (run(name) for name in ("deepfool", "lbfgs", "carlini_wagner_l2"))
    reached = deep.success & searched.success & descended.success
    assert reached.mean() > 0.8
    linf, l2 = run("fab"), run("fab, l2")
    assert linf.success[reached].all() and l2.success[reached].all()
    assert np.median(l2.l2[reached]) < np.median(deep.l2[reached])


@pytest.mark.parametrize("of_network", ("bfloat16", "float16", "float32"))
def test_a_lead_of_one_unit_in_the_last_place_of_the_networks_own_dtype_is_no_success(of_network):
    """Whatever the images' dtype; and the decision on them is still the network's."""
    own = jnp.finfo(of_network)
    unit = float(own.eps) * 64  # at 100

    for of_images in ("bfloat16", "float16", "float32"):
        unsure = max(unit, float(jnp.finfo(of_images).eps) * 64)

        def apply_fn(variables, images, unsure=unsure):
            lead = jnp.asarray([-50.0, unsure, 20.0])[(images[:, 0, 0, 0] * 2).astype(jnp.int32)]
            return jnp.stack([jnp.full_like(lead, 100), 100 + lead, jnp.full_like(lead, -1e4)], axis=-1).astype(of_network)

        clean = jnp.zeros((2, 1, 1, 1), of_images)
        adversarial = jnp.asarray([0.5, 1.0], of_images).reshape(2, 1, 1, 1)
        labels = jnp.zeros(2, jnp.int32)
        for targets in (None, labels + 1):
            result = jax.jit(partial(attack_result, apply_fn))({}, clean, adversarial, labels, targets)
            np.testing.assert_array_equal(result.clean_correct, [True, True])
            np.testing.assert_array_equal(result.success, [False, True], err_msg=of_images)
            np.testing.assert_array_equal(result.logits.argmax(-1), [1, 1])


@pytest.mark.parametrize("of_network", ("bfloat16", "float16"))
@pytest.mark.parametrize("name", COARSE)
def test_success_on_a_coarser_network_leads_by_units_of_its_own(name, of_network):
    kernel = jax.random.normal(jax.random.key(0), (16, 3), of_network)
    images = jax.random.uniform(jax.random.key(1), (40, 4, 4, 1))

    def apply_fn(kernel, images):
        return images.reshape(len(images), -1).astype(of_network) @ kernel

    labels = apply_fn(kernel, images).argmax(-1).astype(jnp.int32)
    attack = COARSE[name](apply_fn)
    for targets in (None, (labels + 1) % 3):
        result = jax.jit(attack)(jax.random.key(2), kernel, images, labels, targets)
        logits, every = np.asarray(apply_fn(kernel, result.adversarial), np.float64), np.arange(len(labels))
        top, other = np.sort(logits, axis=-1)[:, :0:-1].T
        leads = top - logits[every, labels] if targets is None else top - other
        larger = np.maximum(abs(top), abs(logits[every, labels] if targets is None else other))
        surely = leads > 3 * float(jnp.finfo(of_network).eps) * larger
        assert result.success.sum() >= 10
        assert surely[np.asarray(result.success)].all()
