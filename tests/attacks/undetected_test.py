"""A generator that learns to pass a detector: its loss by hand, and that it passes where the plain one does not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.advgan import advgan
from mgan_jax.attacks.undetected import undetected
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.training import gan

pytestmark = pytest.mark.numerical


def brightness(variables, images):
    """By how much the left and the right half are too bright."""
    return jnp.stack([half.mean((1, 2, 3)) - 0.62 for half in jnp.split(images, 2, 2)])


def test_the_loss_is_the_hinge_added(target, images):
    classifier, variables = target
    base = advgan(classifier.apply, generator(0.3, (4, 8), 1), discriminator((4, 8)))
    state = base.init(jax.random.key(2), (8, 8, 1))
    with jax.debug_key_reuse(False):
        arguments = state["generator"], state, jax.random.key(3), 1, variables, *images
        plain, done = jax.jit(base.generator_loss)(*arguments)
        total, more = jax.jit(undetected(base, brightness, weight=3.0, margin=0.05).generator_loss)(*arguments)
    made = np.asarray(done.adversarial)
    left, right = made[:, :, :4].mean((1, 2, 3)) - 0.62, made[:, :, 4:].mean((1, 2, 3)) - 0.62
    assert ((left > 0) != (right > 0)).any() and (np.minimum(left, right) < -0.05).any(), "one half alone, and none"
    hinges = np.maximum(left + 0.05, 0) + np.maximum(right + 0.05, 0)
    np.testing.assert_allclose(total - plain, 3 * hinges.mean(), rtol=1e-4)
    np.testing.assert_allclose(more.metrics["detected"], ((left > 0) | (right > 0)).mean())
    np.testing.assert_array_equal(done.adversarial, more.adversarial)


def test_a_constant_detector_leaves_the_gradient(target, images):
    classifier, variables = target
    base = advgan(classifier.apply, generator(0.3, (4, 8), 1), discriminator((4, 8)))
    state = base.init(jax.random.key(2), (8, 8, 1))
    constant = undetected(base, lambda variables, images: jnp.ones((1, len(images))), weight=3.0)
    given = state["generator"], state, jax.random.key(3), 1, variables, *images
    with jax.debug_key_reuse(False):
        gradients = [jax.jit(jax.grad(one.generator_loss, has_aux=True))(*given)[0] for one in (base, constant)]
    jax.tree.map(lambda plain, own: np.testing.assert_allclose(own, plain, atol=1e-6), *gradients)


def test_it_passes_what_the_plain_generator_does_not(trained):
    """The detector calls images adversarial that are changed by more than .12 on average."""
    classifier, variables, data = trained
    base = advgan(classifier.apply, generator(0.4, (4, 8), 1), discriminator((4,)), kappa=5.0)
    found = {}
    for name, weight in (("plain", None), ("undetected", 30.0)):
        images, labels = (array[:500] for array in data.train)
        excess = lambda v, x: 10 * (jnp.abs(x - jnp.round(x)).mean((1, 2, 3)) - 0.2)[None]  # noqa: E731
        attack = base if weight is None else undetected(base, excess, weight, margin=0.0)
        fitted = gan.fit(jax.random.key(1), attack, variables, images, labels, epochs=6, batch_size=50, learning_rate=5e-3)
        result = jax.jit(fitted)(jax.random.key(2), variables, *data.validation)
        passes = np.asarray(excess(variables, result.adversarial))[0] <= 0
        found[name] = passes[np.asarray(result.success)].mean(), np.asarray(result.success).mean()
    assert found["undetected"][0] > found["plain"][0] + 0.3
    assert found["undetected"][1] > 0.3


def test_arguments(target):
    base = advgan(target[0].apply, generator(0.3, (4,), 1), discriminator((4,)))
    with pytest.raises(ValueError, match="weight is 0"):
        undetected(base, brightness, 0.0)
    with pytest.raises(ValueError, match="margin -1"):
        undetected(base, brightness, 1.0, -1.0)
