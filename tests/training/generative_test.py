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
from mgan_jax.models.pixel_cnn import pixel_cnn
from mgan_jax.training import generative
from mgan_jax.training.minimax_gan import minimax_gan
from mgan_jax.training.minimise import minimiser
from mgan_jax.training.vae import divergence, negative_elbo, negative_log_likelihood, vae
from mgan_jax.training.wgan_gp import gradient_penalty, wgan_gp
from mgan_jax.types import Network

CODE_SIZE = 8
PLAYERS = decoder(CODE_SIZE, (128,)), critic((128,))
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


def test_codes_are_drawn_with_the_variance_that_the_encoder_gives():
    """A closed form of the bound and its slopes, of a linear decoder and Gaussian pixels; the draws' mean comes close to it."""
    scale, weight, pixels = 0.5, 0.7, jnp.array([0.2, 0.9])
    told = Network(init=None, apply=lambda moments, images: jnp.tile(moments[None], (len(images), 1)))
    scaled = Network(init=None, apply=lambda slopes, codes: (slopes[None] * codes).reshape(-1, 2, 1, 1))
    params = {"encoder": jnp.array([0.3, -0.6, np.log(4), np.log(0.25)]), "decoder": jnp.array([0.8, -1.5])}

    def bound(params):
        (mean, log_variance), slopes = jnp.split(params["encoder"], 2), params["decoder"]
        variance = jnp.exp(log_variance)
        error = (jnp.square(slopes * mean - pixels) + jnp.square(slopes) * variance).sum() / (2 * scale**2)
        return error + weight * 0.5 * (jnp.square(mean) + variance - 1 - log_variance).sum()

    loss = jax.jit(jax.value_and_grad(negative_elbo(told, scaled, "gaussian", scale, weight), has_aux=True))
    (found, _), slopes = loss(params, jax.random.key(0), 0, jnp.tile(pixels.reshape(1, 2, 1, 1), (50000, 1, 1, 1)))
    expected, expected_slopes = jax.value_and_grad(bound)(params)
    np.testing.assert_allclose(found, expected, rtol=0.02)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=0.02, atol=0.1), slopes, expected_slopes)


def test_the_penalty_of_a_linear_critic_is_its_slopes():
    linear = Network(init=None, apply=lambda weights, images: images.reshape(len(images), -1) @ weights)
    weights, images = jnp.array([3.0, 0.0, 4.0, 0.0]), jax.random.uniform(jax.random.key(0), (5, 2, 2, 1))
    np.testing.assert_allclose(gradient_penalty(linear, weights, images), 16.0, rtol=1e-6)
    slopes = jax.grad(lambda w: gradient_penalty(linear, w, images))(weights)
    np.testing.assert_allclose(slopes, 2 * (5 - 1) * weights / 5, rtol=1e-5)
    assert np.isfinite(jax.grad(lambda w: gradient_penalty(linear, w, images))(0 * weights)).all()


@pytest.mark.parametrize("more", [{}, {"penalty_weight": 3.0}])
def test_the_critics_loss_is_equation_3_its_penalty_taken_between_real_and_made_images(more):
    """D(x) = w / 2 ||x||^2 has the slope w x: its penalty is an integral along the segment from one image to the other."""
    real, made, w = np.array([1.0, 0.2]), np.array([0.2, 1.0]), 1.5
    maker = Network(
        MAKER.init, lambda b, codes: jnp.tile(jnp.asarray(made, jnp.float32).reshape(1, 2, 1, 1), (len(codes), 1, 1, 1))
    )
    judge = Network(lambda key, shape: jnp.full(1, w), lambda w, images: w[0] / 2 * jnp.square(images).sum((1, 2, 3)))
    training = wgan_gp(maker, judge, 1, 1, critic_steps=1, **more)
    images = jnp.tile(jnp.asarray(real, jnp.float32).reshape(1, 2, 1, 1), (20000, 1, 1, 1))
    _, metrics = jax.jit(training.train_step)(training.init(jax.random.key(0), (2, 1, 1)), jax.random.key(1), 0, images)
    share = np.linspace(0, 1, 10001)[:, None]
    lengths = np.linalg.norm(share * real + (1 - share) * made, axis=-1)
    penalty = np.trapezoid((w * lengths - 1) ** 2, share[:, 0])
    expected = w / 2 * (made @ made - real @ real) + more.get("penalty_weight", 10.0) * penalty
    np.testing.assert_allclose(metrics["critic_loss"], expected, rtol=0.02)


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


def decoded(make, epochs, batch_size):
    """`sample(images) -> samples, noise`: what a decoder makes of codes when it has learned from images, and before."""

    def sample(images):
        generator = generative.fit(jax.random.key(1), make, images, epochs, batch_size)
        codes = jax.random.normal(jax.random.key(2), (300, CODE_SIZE))
        return (PLAYERS[0].apply(variables, codes) for variables in (generator, PLAYERS[0].init(jax.random.key(3), (8, 8, 1))))

    return sample


def drawn_value_by_value(images):
    """The same of a PixelCNN: level k where a uniform number, given as the image's value, exceeds P(level < k)."""
    density = pixel_cnn(16, 2, 7, num_levels=3)
    first = density.init(jax.random.key(1), (8, 8, 1))
    loss = lambda variables, key, step, images: (-density.log_likelihood(variables, images).mean() / 64, {})  # noqa: E731
    learned = minimiser(40, 50, 1.5e-2)(jax.random.key(2), "density", first, loss, (jnp.asarray(images),))
    inverse = lambda p, uniform: (jnp.cumsum(jnp.exp(p[:, :-1]), -1) < uniform[:, None]).sum(-1)  # noqa: E731
    sample = jax.jit(lambda variables, uniform: density.rewrite(variables, uniform, inverse))
    uniform = jax.random.uniform(jax.random.key(3), (300, 8, 8, 1))
    return sample(learned, uniform), sample(first, uniform)


SAMPLE = {
    "vae": (decoded(partial(vae, encoder(CODE_SIZE, (128,)), PLAYERS[0], learning_rate=1e-2), 150, 50), 0.7),
    "minimax_gan": (decoded(partial(minimax_gan, *PLAYERS, code_size=CODE_SIZE, learning_rate=0.2), 150, 50), 0.7),
    "wgan_gp": (decoded(partial(wgan_gp, *PLAYERS, code_size=CODE_SIZE, critic_steps=2, learning_rate=4e-3), 200, 100), 0.7),
    "pixel_cnn": (drawn_value_by_value, 0.6),
}


@pytest.mark.parametrize("name", SAMPLE)
def test_samples_are_classified_as_digits_with_confidence(name, trained):
    """Next to clean images. Networks are sure of noise, too: the nearest of the training images judge with them."""
    classifier, variables, data = trained
    sample, least = SAMPLE[name]
    neighbours = KNeighborsClassifier(3).fit(data.train.images.reshape(-1, 64), data.train.labels)

    def judged(images):
        """Top probabilities; those of the neighbours' class; distances from the nearest image, means all three; the classes."""
        chances, flat = np.asarray(jax.nn.softmax(classifier.apply(variables, images))), np.asarray(images).reshape(-1, 64)
        agreed = chances[np.arange(len(flat)), neighbours.predict(flat)]
        return chances.max(-1).mean(), agreed.mean(), neighbours.kneighbors(flat)[0][:, 0].mean(), np.unique(chances.argmax(-1))

    samples, noise = sample(data.train.images)
    (clean, clean_agreed, *_), (sure, agreed, near, classes) = judged(data.validation.images), judged(samples)
    _, noise_agreed, far, _ = judged(noise)
    assert sure > 0.8 * clean
    assert agreed > least * clean_agreed > 1.5 * noise_agreed
    assert len(classes) >= 8
    assert near < 0.6 * far


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
