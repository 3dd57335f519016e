"""Every attack under every precision: images keep their dtype, and so do distances and logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.carlini_wagner_l2 import carlini_wagner_l2
from mgan_jax.attacks.fab import fab
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.square import square

pytestmark = pytest.mark.numerical

# name: (whether float64 is enabled, dtype of the images, of the parameters, what the network computes in)
PRECISIONS = {
    "float32 with float64 enabled": (True, "float32", "float32", "float32"),
    "float64": (True, "float64", "float64", "float64"),
    "float64 parameters": (True, "float32", "float64", "float64"),
    "bfloat16": (False, "float32", "bfloat16", "bfloat16"),
    "float16": (False, "float32", "float16", "float16"),
    "bfloat16 images": (False, "bfloat16", "float32", "float32"),
    "float16 images": (False, "float16", "float32", "float32"),
    "bfloat16 throughout": (False, "bfloat16", "bfloat16", "bfloat16"),
}
# Whose dtypes are told by tracing alone: they are computed as another.
TRACED = ("float64 parameters", "bfloat16", "bfloat16 images", "float16 images", "bfloat16 throughout")

# Attacks on images of few bits: one cheap configuration of each.
COARSE = {
    "fgsm": lambda f, epsilon, norm: fgsm(f, epsilon, norm),
    "pgd": lambda f, epsilon, norm: pgd(f, epsilon, 5, None, norm=norm),
    "square": lambda f, epsilon, norm: square(f, epsilon, norm, num_queries=30),
}


@pytest.mark.parametrize("precision", PRECISIONS)
def test_results_have_the_dtype_of_the_images(attack_name, precision, target, images, cases):
    classifier, variables = target
    enabled, of_images, of_parameters, of_network = PRECISIONS[precision]

    def apply(variables, images):
        return classifier.apply(variables, images.astype(of_network))

    with jax.enable_x64(enabled):
        variables = jax.tree.map(lambda leaf: leaf.astype(of_parameters), variables)
        images, labels = jnp.asarray(images[0][:4], of_images), jnp.arange(4, dtype=jnp.int32)
        attack = cases.make(attack_name, apply, 0.2, variables)
        run = jax.eval_shape if precision in TRACED else lambda attack, *arguments: jax.jit(attack)(*arguments)
        result = run(attack, jax.random.key(1), variables, images, labels)
        assert apply(variables, images).dtype == of_network
        for field in ("adversarial", "logits", "l1", "l2", "linf"):
            assert getattr(result, field).dtype == of_images, field
        assert result.l0.dtype == result.used.dtype == labels.dtype
        if precision in TRACED:
            return
        assert result.finite.all() and result.adversarial.min() >= 0 and result.adversarial.max() <= 1
        np.testing.assert_array_equal(result.clean_correct, apply(variables, images).argmax(-1) == labels)
        if attack_name in cases.bounded:
            assert result.linf.max() <= 0.2 + 1e-6


def linear(kernel, images):
    return images.reshape(len(images), -1).astype(jnp.float32) @ kernel


def few_bits(dtype):
    """The kernel of `linear`, and images of a dtype."""
    images = jax.random.uniform(jax.random.key(1), (8, 8, 8, 1)).astype(dtype)
    return jax.random.normal(jax.random.key(0), (64, 3)), images


@pytest.mark.parametrize("dtype", ("bfloat16", "float16"))
@pytest.mark.parametrize("norm", ("linf", "l2"))
@pytest.mark.parametrize("name", COARSE)
def test_images_of_few_bits_stay_finite_and_in_the_ball(name, norm, dtype):
    kernel, images = few_bits(dtype)
    epsilon = {"linf": 0.2, "l2": 1.5}[norm]
    labels = linear(kernel, images).argmax(-1).astype(jnp.int32)
    result = jax.jit(COARSE[name](linear, epsilon, norm))(jax.random.key(2), kernel, images, labels)
    adversarial, clean = (np.asarray(x, np.float64).reshape(8, -1) for x in (result.adversarial, images))
    assert result.adversarial.dtype == result.logits.dtype == result.l2.dtype == jnp.dtype(dtype)
    assert result.finite.all() and np.isfinite(adversarial).all()
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    # A pixel is rounded by half a unit in the last place, below 1 and again as a change; so is the radius.
    unit = float(jnp.finfo(dtype).eps)
    change = adversarial - clean
    size = np.abs(change).max(-1) if norm == "linf" else np.linalg.norm(change, axis=-1)
    slack = unit if norm == "linf" else unit * 64**0.5
    assert size.max() <= epsilon * (1 + 2 * unit) + slack
    assert size.min() > epsilon / 4 and result.success.any()


@pytest.mark.parametrize("dtype", ("bfloat16", "float16"))
@pytest.mark.parametrize("make", (fab, carlini_wagner_l2))
def test_numbers_beyond_the_largest_of_float16_are_none_in_it(make, dtype):
    """Of the bounds of searches, 1e10 and 1e30."""
    kernel, images = few_bits(dtype)
    labels = linear(kernel, images).argmax(-1).astype(jnp.int32)
    result = jax.jit(make(linear, num_steps=10))(jax.random.key(2), kernel, images, labels)
    assert result.finite.all() and result.clean_correct.any()
    assert result.adversarial.min() >= 0 and result.adversarial.max() <= 1
    assert make is carlini_wagner_l2 or result.success.mean() >= 0.5
