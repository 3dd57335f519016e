"""Networks whose parameters are of another precision than float32, or than their images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.build import build

pytestmark = pytest.mark.numerical

SHAPE = (8, 8, 1)


def cast(variables, dtype):
    return {**variables, "params": jax.tree.map(lambda leaf: leaf.astype(dtype), variables["params"])}


@pytest.mark.parametrize(("parameters", "images"), [("float16", "float32"), ("float32", "bfloat16"), ("float64", "float32")])
@pytest.mark.parametrize("name", ["cnn", "strided_cnn"])
def test_derivatives_have_the_dtypes_of_what_they_are_of(name, parameters, images):
    small = {"widths": (3, 4), "hidden": 5} if name == "strided_cnn" else {}
    model = build("models", name, image_shape=SHAPE, num_classes=10, **small)
    variables, x = model.init(jax.random.key(0)), np.random.default_rng(0).random((2, *SHAPE), np.float32)

    def loss(params, x, rest=variables):
        return jnp.square(model.apply({**rest, "params": params}, x)).mean()

    exact = jax.jit(jax.grad(loss, (0, 1)))(variables["params"], x)
    with jax.enable_x64(parameters == "float64"):
        given = cast(variables, parameters)["params"], jnp.asarray(x, images)
        found = jax.jit(jax.grad(loss, (0, 1)))(*given)
    assert jax.tree.map(lambda leaf: leaf.dtype, found) == jax.tree.map(lambda leaf: leaf.dtype, given)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(exact), strict=True):
        one, other = (np.asarray(leaf, np.float64).ravel() for leaf in (one, other))
        # Rounding moves single values across the corners of ReLU and pooling.
        assert np.linalg.norm(one - other) < 0.15 * np.linalg.norm(other)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_stages_of_their_own_layout_take_parameters_and_images_of_two_precisions(dtype):
    model = build("models", "carlini_wagner_cnn", image_shape=SHAPE, num_classes=10)
    variables = cast(model.init(jax.random.key(0)), dtype)
    x = images = np.random.default_rng(0).random((2, *SHAPE), np.float32)
    for _, stage in model.stages:
        x = stage(variables, x)
    np.testing.assert_allclose(x, model.apply(variables, images), rtol=1e-3, atol=1e-3)
