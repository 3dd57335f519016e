"""Every model at every shape, and convolution and pooling by a second route."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from mgan_jax import engine, population
from mgan_jax.build import build
from mgan_jax.models.autoencoder import autoencoder
from mgan_jax.models.classifier import activations, first_weights
from mgan_jax.models.convolution import convolution, upsampled_convolution
from mgan_jax.models.critic import critic
from mgan_jax.models.decoder import decoder
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.encoder import encoder
from mgan_jax.models.generator import generator
from mgan_jax.models.layers import Conv, Dense, InstanceNorm, flatten, max_pool, swap_batch
from mgan_jax.models.standardized import standardized
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing

pytestmark = pytest.mark.numerical

SHAPES = [(8, 8, 1), (28, 28, 1), (32, 32, 3)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["linear", "mlp", "lenet", "cnn", "carlini_wagner_cnn", "strided_cnn"])
def test_targets_take_their_shapes_from_the_data_and_stages_compose(name, shape):
    model = build("models", name, image_shape=shape, num_classes=10)
    variables = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (2, *shape))
    logits = model.apply(variables, images)
    assert logits.shape == (2, 10) and np.isfinite(logits).all()
    x = images
    for i, (_, stage) in enumerate(model.stages):
        if model.stages[i][0] == "output":
            np.testing.assert_allclose(swap_batch(x), model.features(variables, images), rtol=1e-5, atol=1e-5)
        x = stage(variables, x)
    np.testing.assert_allclose(x, logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("activation", [True, False])
def test_stages_of_their_own_layout_compute_what_apply_does_whatever_the_gates(activation):
    model = build("models", "carlini_wagner_cnn", image_shape=(16, 16, 1), num_classes=10)
    variables = model.init(jax.random.key(0))
    variables = {**variables, "structure": jax.tree.map(lambda gate: jnp.full_like(gate, activation), variables["structure"])}
    x = images = jax.random.uniform(jax.random.key(1), (3, 16, 16, 1))
    for _, stage in model.stages:
        x = stage(variables, x)
    np.testing.assert_allclose(x, model.apply(variables, images), rtol=1e-5, atol=1e-5)


def test_lenet_is_the_classic_one():
    variables = build("models", "lenet", image_shape=(28, 28, 1), num_classes=10).init(jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == 61706


@pytest.mark.parametrize("shape", SHAPES)
def test_generator_and_discriminator_take_any_image_size(shape):
    images = jax.random.uniform(jax.random.key(1), (1, *shape))
    made, judge = generator(0.1), discriminator()
    perturbation = made.apply(made.init(jax.random.key(0), shape), images)
    assert perturbation.shape == images.shape and np.abs(perturbation).max() <= 0.1
    assert judge.apply(judge.init(jax.random.key(0), shape), images).shape == (1,)


@pytest.mark.parametrize("shape", [(4, 4, 1), (5, 4, 3), (8, 8, 1), (9, 13, 1), (28, 28, 1)])
def test_generator_and_discriminator_see_the_image(shape):
    """Also where strides leave one pixel, which is its own mean."""
    made, judge = generator(0.1), discriminator()
    variables = [network.init(jax.random.key(0), shape) for network in (made, judge)]
    for seed in range(3):
        image = jax.random.uniform(jax.random.key(seed), (1, *shape))
        for network, one in zip((made, judge), variables, strict=True):
            slope = jax.grad(lambda x, n=network, v=one: (n.apply(v, x) ** 3).sum())(image)
            assert np.abs(slope).max() > 1e-6


NUMBERS = ("CHWN", "HWIO", "CHWN")


def same_with_gradients(ours, library, *inputs):
    np.testing.assert_allclose(ours(*inputs), library(*inputs), rtol=1e-4, atol=1e-4)
    both = [jax.grad(lambda *x, f=f: (f(*x) ** 2).sum(), (0, 1))(*inputs) for f in (ours, library)]
    for mine, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("shape", [(3, 3, 3, 4), (3, 3, 4, 2), (2, 3, 64, 3)], ids=["narrow", "fewer out", "wide"])
@pytest.mark.parametrize(("padding", "stride"), [("SAME", 1), ("VALID", 1), ("SAME", 2)])
def test_convolution_and_its_gradients_equal_the_library(padding, stride, shape):
    images = jax.random.normal(jax.random.key(0), (shape[2], 9, 8, 2))
    kernel = jax.random.normal(jax.random.key(1), shape) * 0.3
    library = lambda x, k: lax.conv_general_dilated(x, k, (stride, stride), padding, dimension_numbers=NUMBERS)  # noqa: E731
    same_with_gradients(lambda x, k: convolution(x, k, stride, padding), library, images, kernel)


def test_upsampled_convolution_is_convolution_of_repeated_pixels():
    images = jax.random.normal(jax.random.key(0), (3, 4, 5, 2))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 3, 4))

    def library(x, k):
        x = jnp.repeat(jnp.repeat(x, 2, axis=1), 2, axis=2)
        return lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=NUMBERS)

    same_with_gradients(upsampled_convolution, library, images, kernel)


def test_layers_equal_linens_own():
    images = jax.random.normal(jax.random.key(0), (2, 7, 8, 3))
    swapped = swap_batch(images)
    pairs = ((Conv(4, 3, 2), nn.Conv(4, (3, 3), 2)), (InstanceNorm(), nn.GroupNorm(None, group_size=1)))
    for ours, linens in pairs:
        variables = jax.tree.map(
            lambda leaf: jax.random.normal(jax.random.key(1), leaf.shape), linens.init(jax.random.key(2), images)
        )
        made = swap_batch(ours.apply(variables, swapped))
        np.testing.assert_allclose(made, linens.apply(variables, images), rtol=1e-4, atol=1e-4)
    flat = images.reshape(2, -1)
    np.testing.assert_array_equal(swap_batch(flatten(swapped)), flat)
    variables = nn.Dense(5).init(jax.random.key(2), flat)
    np.testing.assert_allclose(Dense(5).apply(variables, flat.T).T, nn.Dense(5).apply(variables, flat), rtol=1e-4, atol=1e-4)


def test_pooling_equals_the_library_and_gives_a_tie_to_the_first():
    images = jax.random.normal(jax.random.key(0), (2, 7, 8, 3))
    np.testing.assert_array_equal(swap_batch(max_pool(swap_batch(images))), nn.max_pool(images, (2, 2), (2, 2)))
    weights = jax.random.normal(jax.random.key(1), (2, 3, 4, 3))
    ours = jax.grad(lambda x: (swap_batch(max_pool(swap_batch(x))) * weights).sum())(images)
    theirs = jax.grad(lambda x: (nn.max_pool(x, (2, 2), (2, 2)) * weights).sum())(images)
    np.testing.assert_array_equal(ours, theirs)
    gradient = jax.grad(lambda x: max_pool(x).sum())(jnp.ones((1, 2, 2, 1)))
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[1.0, 0.0], [0.0, 0.0]])


def test_gates_at_rest_change_nothing():
    model = build("models", "mlp", image_shape=(8, 8, 1), num_classes=3, widths=(5,))
    variables = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (4, 8, 8, 1))
    hidden, output = variables["params"]["dense1"]["layer"], variables["params"]["output"]
    h = nn.relu(images.reshape(4, -1) @ hidden["kernel"] + hidden["bias"][None])
    np.testing.assert_allclose(model.apply(variables, images), h @ output["kernel"] + output["bias"][None], rtol=1e-5, atol=1e-6)


def test_epsilon_outside_the_pixels_is_refused():
    with pytest.raises(ValueError, match=r"-0\.5"):
        generator(epsilon=-0.5)


def test_activations_and_first_weights_are_laid_out_as_images():
    model = build("models", "lenet", image_shape=(8, 8, 1), num_classes=10)
    variables = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (3, 8, 8, 1))
    found = activations(model, variables, images)
    assert list(found) == ["conv1", "pool1", "conv2", "pool2", "dense1", "dense2", "output"]
    assert found["conv1"].shape == (3, 8, 8, 6) and found["dense2"].shape == (3, 84)
    np.testing.assert_allclose(found["output"], model.apply(variables, images), atol=1e-5)
    np.testing.assert_allclose(found["dense2"], model.features(variables, images), atol=1e-5)
    filters = first_weights(model, variables, (8, 8, 1))
    assert filters.shape == (6, 5, 5, 1)
    # At a pixel away from the border a filter's answer is its sum of products with what lies under it.
    window = images[0, 1:6, 2:7, 0]
    expected = [max(float((window * filters[k, ..., 0]).sum()), 0.0) for k in range(6)]
    np.testing.assert_allclose(found["conv1"][0, 3, 4], expected, atol=1e-5)


def test_activations_of_layers_that_have_the_batch_first():
    model = build("models", "carlini_wagner_cnn", image_shape=(16, 16, 1), num_classes=4)
    variables = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (3, 16, 16, 1))
    found = activations(model, variables, images)
    assert found["conv1"].shape == (3, 14, 14, 32) and found["dense2"].shape == (3, 200)
    np.testing.assert_allclose(found["output"], model.apply(variables, images), rtol=1e-4, atol=1e-4)


def test_a_linear_networks_logits_are_sums_over_its_pictures():
    model = build("models", "linear", image_shape=(4, 5, 3), num_classes=7)
    variables = model.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (2, 4, 5, 3))
    weights = first_weights(model, variables, (4, 5, 3))
    assert weights.shape == (7, 4, 5, 3)
    sums = jnp.einsum("bhwc,khwc->bk", images, weights)
    np.testing.assert_allclose(model.apply(variables, images), sums, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("form", "output"), [("dense", "linear"), ("convolutional", "sigmoid")])
def test_autoencoders_give_images_of_any_size_each_on_its_own(form, output, shape):
    made = autoencoder(form, (4, 8, 8), output)
    variables = made.init(jax.random.key(0), shape)
    images = jax.random.uniform(jax.random.key(1), (3, *shape))
    result = made.apply(variables, images)
    assert result.shape == images.shape and np.std(result) > 0
    assert (np.min(result) > 0 and np.max(result) < 1) if output == "sigmoid" else np.min(result) < 0
    np.testing.assert_allclose(made.apply(variables, images[1:2])[0], result[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("arguments", [{"form": "round"}, {"output": "tanh"}, {"widths": ()}, {"widths": (4, 0)}])
def test_other_autoencoders_are_refused(arguments):
    with pytest.raises(ValueError, match="choose"):
        autoencoder(**arguments)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", ["dense", "convolutional"])
def test_decoders_make_images_of_any_size_each_on_its_own_and_encoders_read_them(form, shape):
    made, read, judge = decoder(5, (8, 4), form), encoder(5, (4, 8), form), critic((4, 8), form)
    variables = made.init(jax.random.key(0), shape)
    codes = jax.random.normal(jax.random.key(1), (3, 5))
    images = made.apply(variables, codes)
    assert images.shape == (3, *shape) and images.min() > 0 and images.max() < 1 and np.std(images) > 0
    np.testing.assert_allclose(made.apply(variables, codes[1:2])[0], images[1], rtol=1e-5, atol=1e-5)
    for network, outputs in ((read, (3, 10)), (judge, (3,))):
        weights = network.init(jax.random.key(2), shape)
        found = network.apply(weights, images)
        assert found.shape == outputs and np.std(found) > 0
        np.testing.assert_allclose(network.apply(weights, images[1:2])[0], found[1], rtol=1e-4, atol=1e-5)


def test_a_dense_decoder_by_numpy():
    made = decoder(3, (6,))
    variables = made.init(jax.random.key(0), (2, 3, 2))
    params = {**variables["params"], "offset": jax.random.normal(jax.random.key(1), (2, 3, 2))}
    codes = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    hidden = np.maximum(codes @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"][None], 0)
    expected = 1 / (1 + np.exp(-((hidden @ params["kernel"]).reshape(4, 2, 3, 2) + params["offset"][None])))
    np.testing.assert_allclose(made.apply({"params": params}, codes), expected, rtol=1e-5)


@pytest.mark.parametrize("arguments", [{"form": "round"}, {"widths": ()}, {"widths": (4, 0)}, {"code_size": 0}])
@pytest.mark.parametrize("factory", [decoder, encoder])
def test_other_decoders_and_encoders_are_refused(factory, arguments):
    with pytest.raises(ValueError, match="choose"):
        factory(**arguments)


def test_standardized_by_numpy():
    images = np.random.default_rng(0).uniform(size=(20, 4, 4, 1)).astype(np.float32)
    images[:, 0] = 0.5  # never varies
    plain = build("models", "mlp", image_shape=(4, 4, 1), num_classes=3, widths=(5,))
    made = standardized(plain, images, 0.1)
    variables = made.init(jax.random.key(0))
    scaled = (images - images.mean(0)[None]) / np.maximum(images.std(0), 0.1)[None]
    assert np.all(scaled[:, 0] == 0)
    np.testing.assert_allclose(made.apply(variables, images), plain.apply(variables, scaled), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(made.features(variables, images), plain.features(variables, scaled), rtol=1e-5, atol=1e-6)
    x = images
    for _, stage in made.stages:
        x = stage(variables, x)
    np.testing.assert_allclose(x, made.apply(variables, images), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match=r"standardize is 0\.0"):
        standardized(plain, images, 0.0)


def test_mutants_of_a_standardized_network_keep_its_statistics():
    images = np.random.default_rng(0).uniform(size=(20, 8, 8, 1)).astype(np.float32)
    made = standardized(build("models", "lenet", image_shape=(8, 8, 1), num_classes=3), images, 0.1)
    variables = made.init(jax.random.key(0))
    mutants = population.sample(gaussian_fuzzing(rate=0.1), jax.random.key(1), variables, 4)
    for found, own in zip(jax.tree.leaves(mutants["statistics"]), jax.tree.leaves(variables["statistics"]), strict=True):
        np.testing.assert_array_equal(found, np.stack([own] * 4))
    staged, mapped = (engine.outputs(made, mutants, images, variables, method=method) for method in ("stages", "map"))
    np.testing.assert_allclose(staged, mapped, rtol=1e-4, atol=1e-5)
