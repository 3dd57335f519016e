"""Generators: losses against hand computations, and samples that are digits with confidence."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm
from sklearn.neighbors import KNeighborsClassifier

from mgan_jax.models.critic import critic
from mgan_jax.models.decoder import decoder
from mgan_jax.models.encoder import encoder
from mgan_jax.training import generative
from mgan_jax.training.minimax_gan import minimax_gan
from mgan_jax.training.vae import divergence, negative_elbo, negative_log_likelihood, vae
from mgan_jax.training.wgan_gp import gradient_penalty, wgan_gp
from mgan_jax.types import Network

CODE_SIZE = 8
PLAYERS = decoder(CODE_SIZE, (64,)), critic((64,))
MAKER = Network(
    init=lambda key, shape: jnp.zeros(1),
    apply=lambda b, codes: jax.nn.sigmoid(b[None, None, None] + 0 * codes[:, :, None, None]),
)
JUDGE = Network(init=lambda key, shape: jnp.full(1, 0.5), apply=lambda w, images: images[:, 0, 0, 0] * w[0])


def test_divergence_is_the_integral():
    mean, log_variance = np.array([0.7, -1.2]), np.array([-0.5, 0.9])
    grid = np.linspace(-12, 12, 20001)
    expected = 0.0
    for m, v in zip(mean, log_variance, strict=True):
        q = norm.pdf(grid, m, np.exp(v / 2))
        expected += np.trapezoid(q * (norm.logpdf(grid, m, np.exp(v / 2)) - norm.logpdf(grid)), grid)
    found = divergence(jnp.asarray(mean, jnp.float32)[None], jnp.asarray(log_variance, jnp.float32)[None])
    np.testing.assert_allclose(found, [expected], rtol=1e-5)


def test_likelihoods_are_those_of_scipy():
    rng = np.random.default_rng(0)
    made, images = rng.uniform(0.1, 0.9, (3, 2, 2, 1)).astype(np.float32), rng.random((3, 2, 2, 1)).astype(np.float32)
    gaussian = -norm.logpdf(images, made, 0.2).sum((1, 2, 3)) - 4 * np.log(0.2 * np.sqrt(2 * np.pi))
    np.testing.assert_allclose(negative_log_likelihood(made, images, "gaussian", 0.2), gaussian, rtol=1e-4)
    binary = -np.log(np.where(images > 0.5, made, 1 - made)).sum((1, 2, 3))
    found = negative_log_likelihood(made, (images > 0.5).astype(np.float32), "bernoulli", 0.2)
    np.testing.assert_allclose(found, binary, rtol=1e-5)
    assert np.isfinite(negative_log_likelihood(jnp.ones((1, 2, 2, 1)), jnp.zeros((1, 2, 2, 1)), "bernoulli", 0.2)).all()


def test_the_loss_is_reconstruction_and_divergence():
    made = Network(init=None, apply=lambda variables, codes: jax.nn.sigmoid(codes).reshape(-1, 2, 1, 1))
    sure = Network(init=None, apply=lambda variables, images: jnp.tile(jnp.array([[1.0, 2.0, -30.0, -30.0]]), (len(images), 1)))
    images = jnp.ones((3, 2, 1, 1))
    loss, metrics = negative_elbo(sure, made, divergence_weight=0.5)({"encoder": {}, "decoder": {}}, jax.random.key(0), 0, images)
    error = np.log1p(np.exp(-1)) + np.log1p(np.exp(-2))
    distance = 0.5 * (1 + 4 + 2 * (30 - 1))
    np.testing.assert_allclose(metrics["reconstruction"], error, rtol=1e-4)
    np.testing.assert_allclose(loss, error + 0.5 * distance, rtol=1e-4)


def test_the_penalty_of_a_linear_critic_is_its_slopes():
    linear = Network(init=None, apply=lambda weights, images: images.reshape(len(images), -1) @ weights)
    weights, images = jnp.array([3.0, 0.0, 4.0, 0.0]), jax.random.uniform(jax.random.key(0), (5, 2, 2, 1))
    np.testing.assert_allclose(gradient_penalty(linear, weights, images), 16.0, rtol=1e-6)
    slopes = jax.grad(lambda w: gradient_penalty(linear, w, images))(weights)
    np.testing.assert_allclose(slopes, 2 * (5 - 1) * weights / 5, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda w: gradient_penalty(linear, w, images))(0 * weights)).all()


def test_a_convolutional_critics_penalty_has_the_slopes_of_xlas_own_convolution():
    network = critic((4,), "convolutional")
    variables, images = network.init(jax.random.key(0), (8, 8, 1)), jax.random.uniform(jax.random.key(1), (3, 8, 8, 1))

    def plain(variables, images):
        conv, dense = variables["params"]["Conv_0"], variables["params"]["Dense_0"]
        x = jax.lax.conv_general_dilated(images, conv["kernel"], (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        x = jax.nn.leaky_relu(x + conv["bias"][None, None, None], 0.2).reshape(len(images), -1)
        return (x @ dense["kernel"])[:, 0]

    ours, theirs = (
        jax.jit(jax.value_and_grad(lambda variables, apply=apply: gradient_penalty(Network(None, apply), variables, images)))(
            variables
        )
        for apply in (network.apply, plain)
    )
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), ours, theirs)


def test_the_critic_learns_until_the_end_however_many_steps_it_has():
    for make in (minimax_gan, wgan_gp):
        training = make(MAKER, JUDGE, 3, 1, critic_steps=2)
        state, images = training.init(jax.random.key(0), (1, 1, 1)), jax.random.uniform(jax.random.key(1), (8, 1, 1, 1))
        step = jax.jit(training.train_step)
        for i in range(3):
            before = state.params
            state, _ = step(state, jax.random.key(2), i, images)
        for name in ("critic", "decoder"):
            assert (before[name] != state.params[name]).all()


@pytest.mark.parametrize("saturating", [True, False])
def test_one_step_of_the_minimax_game_is_that_of_equation_1(saturating):
    """D(x) = sigmoid(w x), G(z) = sigmoid(b) whatever z: everything in closed form."""
    training = minimax_gan(MAKER, JUDGE, 10**6, 1, 2, 0.1, 0.0, saturating)
    state = training.init(jax.random.key(0), (1, 1, 1))
    images = jnp.array([1.0, 0.8, 0.2, 0.4]).reshape(4, 1, 1, 1)
    found, _ = jax.jit(training.train_step)(state, jax.random.key(1), 0, images)
    sigmoid, w, made = lambda x: 1 / (1 + np.exp(-x)), 0.5, 0.5
    for part in ([1.0, 0.8], [0.2, 0.4]):
        ascent = np.mean([(1 - sigmoid(w * x)) * x for x in part]) - sigmoid(w * made) * made
        w += 0.1 * ascent
    slope = -sigmoid(w * made) if saturating else -(1 - sigmoid(w * made))
    b = -0.1 * slope * w * made * (1 - made)
    np.testing.assert_allclose(found.params["critic"], [w], rtol=1e-5)
    np.testing.assert_allclose(found.params["decoder"], [b], rtol=1e-4)
    with pytest.raises(ValueError, match="3 images"):
        training.train_step(state, jax.random.key(1), 0, images[:3])


MAKE = {
    "vae": (partial(vae, encoder(CODE_SIZE, (64,)), decoder(CODE_SIZE, (64,)), learning_rate=5e-3), 30, 50),
    "minimax_gan": (partial(minimax_gan, *PLAYERS, code_size=CODE_SIZE), 60, 50),
    "wgan_gp": (partial(wgan_gp, *PLAYERS, code_size=CODE_SIZE, critic_steps=2, learning_rate=2e-3), 100, 100),
}


@pytest.mark.parametrize("name", MAKE)
def test_samples_are_classified_as_digits_with_confidence(name, trained):
    classifier, variables, data = trained
    make, epochs, batch_size = MAKE[name]
    generator = generative.fit(jax.random.key(1), make, data.train.images, epochs, batch_size)
    made, codes = decoder(CODE_SIZE, (64,)), jax.random.normal(jax.random.key(2), (300, CODE_SIZE))
    samples, noise = made.apply(generator, codes), made.apply(made.init(jax.random.key(3), (8, 8, 1)), codes)
    chances = jax.nn.softmax(classifier.apply(variables, samples))
    assert chances.max(-1).mean() > 0.6
    assert (np.bincount(chances.argmax(-1), minlength=10) > 0).sum() >= 8
    # Networks are sure of noise, too: neighbours among the images judge with them.
    neighbours = KNeighborsClassifier(3).fit(data.train.images.reshape(-1, 64), data.train.labels)
    near, far = (neighbours.kneighbors(np.asarray(x).reshape(-1, 64))[0][:, 0].mean() for x in (samples, noise))
    assert near < 0.6 * far
    assert (neighbours.predict(np.asarray(samples).reshape(-1, 64)) == chances.argmax(-1)).mean() > 0.6


@pytest.mark.parametrize(
    ("factory", "arguments"),
    [
        (vae, {"likelihood": "cauchy"}),
        (vae, {"scale": 0.0}),
        (vae, {"learning_rate": -1.0}),
        (minimax_gan, {"momentum": 1.0}),
        (minimax_gan, {"critic_steps": 0}),
        (wgan_gp, {"penalty_weight": 0.0}),
    ],
)
def test_bad_arguments_are_refused_when_building(factory, arguments):
    with pytest.raises(ValueError, match=str(next(iter(arguments.values())))):
        factory(encoder(), decoder(), 10, **arguments)
