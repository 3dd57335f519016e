"""Every attack under every precision: images keep their dtype, and so do distances and logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytestmark = pytest.mark.numerical

# name: (whether float64 is enabled, dtype of the images, of the parameters, what the network computes in)
PRECISIONS = {
    "float32 with float64 enabled": (True, "float32", "float32", "float32"),
    "float64": (True, "float64", "float64", "float64"),
    "float64 parameters": (True, "float32", "float64", "float64"),
    "bfloat16": (False, "float32", "bfloat16", "bfloat16"),
    "float16": (False, "float32", "float16", "float16"),
}


# Whose dtypes are told by tracing alone: they are computed as another.
TRACED = ("float64 parameters", "bfloat16")


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
