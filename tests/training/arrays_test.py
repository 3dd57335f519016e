"""Every training looks at its data, once and before the first step: another shape, kind or value is refused."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mgan_jax.attacks.advgan import advgan
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.models.mlp import mlp
from mgan_jax.training import gan, generative, loop, minimise, target
from mgan_jax.training.minimax_gan import minimax_gan
from mgan_jax.training.vae import vae
from mgan_jax.training.wgan_gp import wgan_gp
from mgan_jax.types import Network

pytestmark = pytest.mark.numerical

BYTES = np.random.default_rng(0).integers(0, 256, (20, 4, 4, 1), np.uint8)
IMAGES, LABELS = BYTES.astype(np.float32) / 255, np.arange(20) % 3
CLASSIFIER = mlp((4, 4, 1), 3, (4,))
VARIABLES = CLASSIFIER.init(jax.random.key(0))
MAKER = Network(
    lambda key, shape: jnp.zeros(16), lambda b, z: jax.nn.sigmoid(b[None] + z.mean(1, keepdims=True)).reshape(-1, 4, 4, 1)
)
JUDGE = Network(lambda key, shape: jnp.ones(16), lambda w, images: images.reshape(-1, 16) @ w)
READER = Network(lambda key, shape: jnp.ones((16, 4)), lambda w, images: images.reshape(-1, 16) @ w)
GENERATORS = {
    "vae": partial(vae, READER, MAKER),
    "wgan_gp": partial(wgan_gp, MAKER, JUDGE, code_size=2, critic_steps=1),
    "minimax_gan": partial(minimax_gan, MAKER, JUDGE, code_size=2),
}
ATTACK = advgan(CLASSIFIER.apply, generator(widths=(4, 8), num_residual_blocks=1), discriminator((4,)))


def cross_entropy(params, key, step, images, labels):
    logits = CLASSIFIER.apply({**VARIABLES, "params": params}, images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), {}


def of_target(images, labels):
    return loop.make_chunk(target.make_train_step(CLASSIFIER, target.optimizer(1e-3, 2)), (images, labels))


def of_attack(images, labels):
    return loop.make_chunk(gan.make_train_step(ATTACK, VARIABLES, gan.optimizer(1e-3, 2)), (images, labels))


def of_minimiser(images, labels):
    train = minimise.minimiser(epochs=1, batch_size=10)
    return train(jax.random.key(0), "classifier", VARIABLES["params"], cross_entropy, (images, labels))


LABELLED = {
    "target": of_target,
    "gan": of_attack,
    "gan.fit": lambda x, y: gan.fit(jax.random.key(0), ATTACK, VARIABLES, x, y, 1, 10),
    "minimiser": of_minimiser,
}
FITS = {
    f"{name}, fitted": partial(lambda m, x: generative.fit(jax.random.key(0), m, x, 1, 10), m) for name, m in GENERATORS.items()
}
CHUNKS = {name: partial(lambda m, x: loop.make_chunk(m(2).train_step, (x,)), m) for name, m in GENERATORS.items()}
OF_IMAGES = {**FITS, **CHUNKS, **{name: partial(lambda m, x: m(x, LABELS), m) for name, m in LABELLED.items()}}
TALL = np.where(np.arange(20)[:, None, None, None] == 7, np.float32(1.5), IMAGES)
WRONG_IMAGES = {
    "of three axes": (IMAGES[..., 0], "shape"),
    "one": (IMAGES[0], "shape"),
    "none": (IMAGES[:0], "at least one|give at least one|as many rows|one class an image"),
    "without a pixel": (IMAGES[:, :0], "shape"),
    "booleans": (IMAGES > 0.5, "choose floating point"),
    "not finite": (np.where(TALL > 1, np.nan, IMAGES), "not finite"),
    "above 1": (TALL, "choose values in"),
    "below 0": (-TALL, "choose values in"),
    "integers": (BYTES.astype(np.int32), "choose floating point"),
}
WRONG_LABELS = {
    "too few": (LABELS[1:], "as many rows|one class an image"),
    "one-hot": (np.eye(3, dtype=int)[LABELS], "one class an"),
    "below 0": (LABELS - 1, "from 0 on|choose classes|classes are"),
}


# A minimiser's loss may be of what is no picture, such as an image less its reconstruction.
BEYOND = {("minimiser", "above 1"), ("minimiser", "below 0")}
CASES = [(name, wrong) for name in OF_IMAGES for wrong in WRONG_IMAGES if (name, wrong) not in BEYOND]


@pytest.mark.parametrize("name, wrong", CASES)
def test_images_that_are_none_are_refused(name, wrong):
    images, message = WRONG_IMAGES[wrong]
    with pytest.raises(ValueError, match=message):
        OF_IMAGES[name](images)


@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("wrong", WRONG_LABELS)
def test_labels_that_are_none_are_refused(name, wrong):
    labels, message = WRONG_LABELS[wrong]
    with pytest.raises(ValueError, match=message):
        LABELLED[name](IMAGES, labels)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [("gan.fit", ValueError, "the classes are 0 to 2"), ("minimiser", FloatingPointError, "loss is nan at step 0")],
)
def test_labels_above_the_classes_train_nothing(name, error, message):
    with pytest.raises(error, match=message):
        LABELLED[name](IMAGES, LABELS + 1)


@pytest.mark.parametrize("name", [*CHUNKS, "target", "gan", "minimiser"])
def test_a_training_divides_no_bytes(name):
    with pytest.raises(ValueError, match="divides nothing"):
        OF_IMAGES[name](BYTES)


@pytest.mark.parametrize("name", FITS)
def test_a_fit_reads_bytes_lists_and_arrays_alike(name):
    with jax.debug_key_reuse(False):
        expected = FITS[name](IMAGES)
        for images in (BYTES, IMAGES.tolist(), jnp.asarray(IMAGES)):
            jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-6), FITS[name](images), expected)


def test_numbers_that_are_no_images_are_finite_and_as_many():
    step = lambda state, key, step, *batch: (state, {"loss": 0.0})  # noqa: E731
    inputs = np.linspace(-3, 300, 20, dtype=np.float32)[:, None]
    loop.make_chunk(step, (inputs, inputs[:, 0], LABELS > 1))
    loop.make_chunk(step, (TALL, -TALL), bounded=False)
    for data in ((), (inputs, inputs[1:]), (np.where(inputs > 0, np.nan, inputs),), (np.float32(1),)):
        with pytest.raises(ValueError, match=r"choose|not finite"):
            loop.make_chunk(step, data)
