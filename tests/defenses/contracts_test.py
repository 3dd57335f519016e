"""Clauses that hold for every defense; MAKE has a line for each, small enough to be fitted in a second or two."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mgan_jax import build
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.overpowered import overpowered_pairs
from mgan_jax.attacks.pgd import pgd
from mgan_jax.defenses.adversarial_training import adversarial_training
from mgan_jax.defenses.defensive_distillation import defensive_distillation
from mgan_jax.defenses.enhanced_invert_and_classify import enhanced_invert_and_classify
from mgan_jax.defenses.fast_adversarial_training import fast_adversarial_training
from mgan_jax.defenses.guided_denoiser import guided_denoiser
from mgan_jax.defenses.invert_and_classify import invert_and_classify
from mgan_jax.defenses.non_robust_features import non_robust_features
from mgan_jax.defenses.pixel_defend import pixel_defend
from mgan_jax.defenses.robust_features import robust_features
from mgan_jax.defenses.squeezing import squeezing
from mgan_jax.models.autoencoder import autoencoder
from mgan_jax.models.pixel_cnn import pixel_cnn
from mgan_jax.training.minimise import minimiser

pytestmark = pytest.mark.numerical


def decode(variables, codes):
    """Images from their principal components."""
    return jnp.clip(variables["mean"][None] + codes @ variables["basis"], 0, 1).reshape(-1, 8, 8, 1)


def principal(key, images):
    """Mean and the first 16 components, of unit variance."""
    flat = np.asarray(images, np.float32).reshape(len(images), -1)
    _, sizes, rows = np.linalg.svd(flat - flat.mean(0), full_matrices=False)
    return {"mean": jnp.asarray(flat.mean(0)), "basis": jnp.asarray(sizes[:16, None] * rows[:16] / np.sqrt(len(flat)))}


INVERSION = {"code_size": 16, "num_restarts": 2, "num_steps": 30, "learning_rate": 0.2, "optimizer": "adam"}


# name: (classifier, train) -> defense
MAKE = {
    "adversarial_training": lambda c, t: adversarial_training(c, t, partial(fgsm, epsilon=0.1), clean_weight=0.5),
    "defensive_distillation": lambda c, t: defensive_distillation(c, t, temperature=2.0),
    "enhanced_invert_and_classify": lambda c, t: enhanced_invert_and_classify(
        c.apply, decode, principal, overpowered_pairs(c.apply, decode, num_steps=2), t, num_pairs=4, **INVERSION
    ),
    "fast_adversarial_training": lambda c, t: fast_adversarial_training(c, t, 0.1),
    "guided_denoiser": lambda c, t: guided_denoiser(c.apply, autoencoder("dense", (16,)), t, fgsm(c.apply, 0.1)),
    "invert_and_classify": lambda c, t: invert_and_classify(c.apply, decode, principal, **INVERSION),
    "non_robust_features": lambda c, t: non_robust_features(
        pgd(c.apply, 0.5, 5, None, norm="l2", random_start=False), c, t, aim="next"
    ),
    "pixel_defend": lambda c, t: pixel_defend(c.apply, pixel_cnn(4, 1, 3, 4), t),
    "robust_features": lambda c, t: robust_features(c.features, c, t, num_steps=5, step_size=0.5),
    "squeezing": lambda c, t: squeezing(c.apply),
}
EPSILON = 0.1


def test_every_defense_is_here():
    assert set(MAKE) == set(build.available("defenses"))


@pytest.fixture(scope="module")
def fitted(trained):
    """`fitted(name)`: the defense of the trained network, `apply` compiled, and `{'target': ..., 'defense': ...}`."""
    kept = {}

    def get(name):
        if name not in kept:
            defense, state = fit(name, trained, 1)
            kept[name] = defense, jax.jit(defense.apply), {"target": trained[1], "defense": state}
        return kept[name]

    return get


def fit(name, trained, seed):
    classifier, variables, data = trained
    defense = MAKE[name](classifier, minimiser(epochs=2, batch_size=50, learning_rate=5e-3))
    images, labels = (array[:200] for array in data.train)
    return defense, defense.fit(jax.random.key(seed), variables, images, labels)


@pytest.mark.parametrize("name", MAKE)
def test_fit_gives_arrays_and_a_key_one_state(name, trained, fitted):
    leaves, again = (jax.tree.leaves(state) for state in (fitted(name)[2]["defense"], fit(name, trained, 1)[1]))
    assert bool(leaves) == (name != "squeezing") and all(isinstance(leaf, jax.Array) for leaf in leaves)
    for one, other in zip(leaves, again, strict=True):
        np.testing.assert_array_equal(*(jax.random.key_data(x) if is_key(x) else x for x in (one, other)))


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


@pytest.mark.parametrize("name", MAKE)
def test_hostile_images_have_finite_logits(name, fitted, images):
    """Exact 0 and 1, constant images, a batch of one."""
    _, apply, variables = fitted(name)
    constant = jnp.stack([jnp.full((8, 8, 1), value) for value in (0.0, 1.0, 0.5, 0.25)])
    for given in (images[0], jnp.round(images[0]), constant, constant[:1]):
        logits = apply(variables, given)
        assert logits.shape == (len(given), 10) and logits.dtype == jnp.float32 and np.isfinite(logits).all()


@pytest.mark.parametrize("name", MAKE)
def test_batch_equals_one_by_one_and_jit_equals_eager(name, fitted, images):
    defense, apply, variables = fitted(name)
    whole = apply(variables, images[0][:4])
    single = [apply(variables, images[0][i : i + 1])[0] for i in range(4)]
    np.testing.assert_allclose(whole, np.stack(single), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(whole, defense.apply(variables, images[0][:4]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MAKE)
def test_an_attack_has_a_gradient_to_follow(name, fitted, trained):
    _, apply, variables = fitted(name)
    images, labels = (jnp.asarray(array[:20]) for array in trained[2].validation)
    loss = lambda x: optax.softmax_cross_entropy_with_integer_labels(apply(variables, x), labels).sum()  # noqa: E731
    gradient = jax.grad(loss)(images)
    assert np.isfinite(gradient).all() and (gradient != 0).any((1, 2, 3)).all()


@pytest.mark.parametrize("name", MAKE)
def test_what_is_purified_is_an_image(name, fitted, images):
    defense, _, variables = fitted(name)
    if defense.purify is not None:
        purified = jax.jit(defense.purify)(variables, images[0])
        assert purified.shape == images[0].shape and purified.dtype == jnp.float32
        assert purified.min() >= 0 and purified.max() <= 1


@pytest.mark.parametrize("name", MAKE)
def test_attacks_compose_and_hurt(name, fitted, trained):
    """A gradient step through the whole defense is no better than none, and worse than random signs of the same size."""
    _, apply, variables = fitted(name)
    images, labels = (jnp.asarray(array[:200]) for array in trained[2].validation)
    accuracy = lambda x: float((apply(variables, x).argmax(-1) == labels).mean())  # noqa: E731
    result = jax.jit(fgsm(apply, EPSILON))(jax.random.key(2), variables, images, labels)
    assert result.linf.max() <= EPSILON + 1e-6 and np.isfinite(result.adversarial).all()
    signs = EPSILON * jax.random.rademacher(jax.random.key(3), images.shape, jnp.float32)
    attacked = accuracy(result.adversarial)
    assert attacked <= accuracy(images) and attacked < accuracy(jnp.clip(images + signs, 0, 1))


PRECISIONS = {"x64": "float32", "float64": "float64", "bfloat16": "bfloat16", "float16": "float16"}


@pytest.mark.parametrize("case", PRECISIONS)
@pytest.mark.parametrize("name", MAKE)
def test_every_precision_and_numpy_arrays_have_finite_logits(name, case, trained):
    classifier, variables, data = trained
    dtype = jnp.dtype(PRECISIONS[case])
    images, labels = np.asarray(data.train.images[:100], dtype), data.train.labels[:100]
    params = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), variables["params"])
    given = jax.tree.map(np.asarray, {**variables, "params": params})
    with jax.enable_x64(case in ("x64", "float64")):
        defense = MAKE[name](classifier, minimiser(epochs=1, batch_size=50, learning_rate=1e-3))
        both = {"target": given, "defense": defense.fit(jax.random.key(0), given, images, labels)}
        found = jax.jit(defense.apply)(both, images[:4])
        eager = defense.apply(jax.tree.map(lambda x: x if is_key(x) else np.asarray(x), both), images[:4])
        assert found.shape == (4, 10) and found.dtype == eager.dtype and np.isfinite(np.asarray(found, np.float32)).all()
        assert found.dtype in ((dtype,) if case == "x64" else (dtype, jnp.float32))
        if defense.purify is not None:
            assert defense.purify(both, images[:4]).dtype == dtype
    np.testing.assert_allclose(np.asarray(found, np.float64), np.asarray(eager, np.float64), rtol=0.05, atol=0.1)


LOOKS_AT_NO_LABELS = {"squeezing", "invert_and_classify", "pixel_defend"}
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
    defense = MAKE[name](classifier, minimiser(epochs=1, batch_size=10))
    for kind, (change, message) in UNREADABLE.items():
        if name in LOOKS_AT_NO_LABELS and message.startswith("the classes are"):
            continue
        images, labels = change(data.train.images[:20], data.train.labels[:20])
        with pytest.raises(ValueError, match=message):
            defense.fit(jax.random.key(0), variables, images, labels)
        if kind in ("one image", "without channels", "integers"):
            with pytest.raises(ValueError, match=message):
                jax.eval_shape(defense.apply, {}, images)
        if message in ("between 0 and 255", "not finite") and defense.purify is not None:
            with pytest.raises(ValueError, match=message):
                defense.purify({}, images)


@pytest.mark.parametrize("name", MAKE)
def test_no_images_have_no_logits(name, fitted, images):
    defense, apply, variables = fitted(name)
    for found in (apply(variables, images[0][:0]), defense.apply(variables, images[0][:0])):
        assert found.shape == (0, 10) and found.dtype == jnp.float32
    if defense.purify is not None:
        assert defense.purify(variables, images[0][:0]).shape == (0, 8, 8, 1)
