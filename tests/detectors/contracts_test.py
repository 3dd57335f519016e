"""Clauses that hold for every detector; MAKE has a line for each, small enough to compile in no time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import build
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.detectors.autoencoder import autoencoder
from mgan_jax.detectors.class_conditional import class_conditional
from mgan_jax.detectors.combined import combined
from mgan_jax.detectors.feature_squeezing import feature_squeezing
from mgan_jax.detectors.kernel_density import kernel_density
from mgan_jax.detectors.label_change_rate import label_change_rate
from mgan_jax.detectors.reconstruction import reconstruction
from mgan_jax.detectors.soft_label_change_rate import soft_label_change_rate
from mgan_jax.detectors.sprt import sprt
from mgan_jax.detectors.supervised_reconstruction import supervised_reconstruction
from mgan_jax.models.autoencoder import autoencoder as dense
from mgan_jax.models.discriminator import discriminator
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing
from mgan_jax.training.minimise import minimiser
from mgan_jax.types import Network

pytestmark = pytest.mark.numerical

TRAIN = minimiser(epochs=40, batch_size=50, learning_rate=1e-2)
# A median of 2 x 2 leaves little of digits of 8 x 8 pixels.
SQUEEZERS = (
    {"name": "bit_depth", "bits": 2},
    {"name": "non_local_means", "search_window": 3, "patch_size": 1, "strength": 40.0},
)


def linear_decoder():
    """A sigmoid of a linear map of ten logits."""

    def init(key, image_shape):
        return {"kernel": jnp.zeros((10, *image_shape), jnp.float32), "bias": jnp.zeros(image_shape, jnp.float32)}

    return Network(init, lambda v, codes: jax.nn.sigmoid(jnp.tensordot(codes, v["kernel"], 1) + v["bias"][None]))


def rate(classifier):
    return label_change_rate(classifier.apply, gaussian_fuzzing(rate=0.3), 15, 0.5)


MAKE = {
    "autoencoder": lambda c: autoencoder(dense("dense", (16,), "sigmoid"), TRAIN),
    "class_conditional": lambda c: class_conditional(c.apply, rate(c)),
    "combined": lambda c: combined({"squeezing": feature_squeezing(c.apply, SQUEEZERS), "density": MAKE["kernel_density"](c)}),
    "feature_squeezing": lambda c: feature_squeezing(c.apply, SQUEEZERS),
    "kernel_density": lambda c: kernel_density(c.apply, c.features),
    "label_change_rate": rate,
    "reconstruction": lambda c: reconstruction(c.apply, linear_decoder(), TRAIN),
    "soft_label_change_rate": lambda c: soft_label_change_rate(c.apply, gaussian_fuzzing(rate=0.3), 15, 0.5),
    "sprt": lambda c: sprt(c.apply, gaussian_fuzzing(rate=0.3), 15, 0.5),
    "supervised_reconstruction": lambda c: supervised_reconstruction(
        c.apply, linear_decoder(), discriminator((4,)), TRAIN, [fgsm(c.apply, 0.3)]
    ),
}
# They run on the host.
HOST = ("label_change_rate", "sprt")
# Ranks and labels alone: their derivatives are 0.
FLAT = ("class_conditional",)
DIFFERENTIABLE = [name for name in MAKE if name not in (*HOST, *FLAT)]


@pytest.fixture(scope="module")
def fitted(trained):
    """`fitted(name) -> (score(images), the same not jitted)` of the detector fitted to clean validation images."""
    classifier, variables, data = trained
    kept = {}

    def get(name):
        if name not in kept:
            detector = MAKE[name](classifier)
            state = detector.fit(jax.random.key(0), variables, *data.validation)
            compiled = detector.score if name in (*HOST, *FLAT) else jax.jit(detector.score)
            kept[name] = [lambda images, f=f: f(variables, state, images) for f in (compiled, detector.score)]
        return kept[name]

    return get


def test_every_detector_is_here():
    assert set(MAKE) == set(build.available("detectors"))


@pytest.mark.parametrize("name", MAKE)
def test_hostile_images_have_finite_scores_of_their_own(name, fitted, images):
    score = fitted(name)[0]
    constant = jnp.stack([jnp.full((8, 8, 1), value) for value in (0.0, 1.0, 0.5)])
    hostile = jnp.concatenate([constant, jnp.round(images[0][:5])])
    found = np.asarray(score(hostile))
    assert found.shape == (8,) and np.isfinite(found).all()
    np.testing.assert_allclose(np.asarray(score(hostile[::-1]))[::-1], found, rtol=1e-3, atol=1e-4)
    single = np.asarray(score(hostile[2:3]))
    assert single.shape == (1,)
    np.testing.assert_allclose(single, found[2:3], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", MAKE)
def test_a_planted_anomaly_scores_higher_than_clean_images(name, trained, fitted):
    _, _, data = trained
    noise = np.random.default_rng(0).random((40, 8, 8, 1), np.float32)
    clean, strange = (np.asarray(fitted(name)[0](images)) for images in (data.test.images[:40], noise))
    assert (strange[:, None] > clean[None]).mean() > 0.7


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_jitted_or_not_is_the_same_and_there_is_a_derivative(name, trained, fitted):
    compiled, plain = fitted(name)
    images = jnp.asarray(trained[2].test.images[:8])
    np.testing.assert_allclose(compiled(images), plain(images), rtol=1e-3, atol=1e-4)
    gradient = jax.jit(jax.grad(lambda x: compiled(x).sum()))(images)
    assert np.isfinite(gradient).all() and (np.abs(gradient).reshape(8, -1).max(1) > 0).all()


PRECISIONS = {"x64": "float32", "float64": "float64", "bfloat16": "bfloat16", "float16": "float16"}


@pytest.mark.parametrize("case", PRECISIONS)
@pytest.mark.parametrize("name", MAKE)
def test_every_precision_and_numpy_arrays_have_finite_scores(name, case, trained, monkeypatch):
    monkeypatch.setitem(globals(), "TRAIN", minimiser(epochs=1, batch_size=50, learning_rate=1e-3))
    classifier, variables, data = trained
    dtype = jnp.dtype(PRECISIONS[case])
    images, labels = np.asarray(data.validation.images[:150], dtype), data.validation.labels[:150]
    params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), variables["params"])
    given = jax.tree.map(np.asarray, {**variables, "params": params})
    with jax.enable_x64(case in ("x64", "float64")):
        detector = MAKE[name](classifier)
        state = detector.fit(jax.random.key(0), given, images, labels)
        scores = [np.asarray(detector.score(given, state, x)) for x in (images[:6], jnp.asarray(images[:6]))]
        again = np.asarray(detector.score(*jax.tree.map(jnp.asarray, (given, state)), images[:6]))
    for found in scores:
        wide = (np.float32, np.float64) if case == "float64" or name == "sprt" else (np.float32,)
        assert found.shape == (6,) and found.dtype in wide and np.isfinite(found).all()
        np.testing.assert_allclose(found, again, rtol=1e-3, atol=1e-4)


LOOKS_AT_NO_LABELS = {"autoencoder", "feature_squeezing", "reconstruction"}
UNREADABLE = {
    "one image": (lambda images, labels: (images[0], labels[:1]), "choose .B, H, W, C"),
    "without channels": (lambda images, labels: (images[..., 0], labels), "choose .B, H, W, C"),
    "integers": (lambda images, labels: (images.astype(int), labels), "floating point"),
    "bytes as floats": (lambda images, labels: (images * 255, labels), "between 0 and 255"),
    "not a number": (lambda images, labels: (images * np.nan, labels), "not finite"),
    "one-hot": (lambda images, labels: (images, np.eye(10)[labels]), "one-hot"),
    "a column": (lambda images, labels: (images, labels[:, None]), "one class an image"),
    "too few labels": (lambda images, labels: (images, labels[1:]), "one class an image"),
    "labels above the classes": (lambda images, labels: (images, labels + 5), "the classes are 0 to 9"),
    "labels below 0": (lambda images, labels: (images, labels - 5), "the classes are 0 to 9"),
    "labels that are shares": (lambda images, labels: (images, labels / 10), "choose integers"),
    "no images": (lambda images, labels: (images[:0], labels[:0]), "at least one"),
}


@pytest.mark.parametrize("name", MAKE)
def test_arrays_that_mean_something_else_are_refused(name, trained):
    classifier, variables, data = trained
    detector = MAKE[name](classifier)
    for change, message in UNREADABLE.values():
        if name in LOOKS_AT_NO_LABELS and message.startswith("the classes are"):
            continue
        given = data.validation.images[:20]
        images, labels = change(given, data.validation.labels[:20])
        with pytest.raises(ValueError, match=message):
            detector.fit(jax.random.key(0), variables, images, labels)
        if images is not given and len(images):
            for function in filter(None, (detector.score, detector.used)):
                with pytest.raises(ValueError, match=message):
                    function(variables, {}, images)


@pytest.mark.parametrize("name", MAKE)
def test_no_images_have_no_scores(name, fitted, images):
    for score in fitted(name):
        found = np.asarray(score(images[0][:0]))
        assert found.shape == (0,) and found.dtype == np.asarray(score(images[0][:2])).dtype
