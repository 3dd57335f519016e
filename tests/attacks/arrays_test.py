"""Every attack on arrays of every container and on wrong ones, on no images, on colour, with targets, and mapped over keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.fooling import fooling
from mgan_jax.attacks.result import robust_accuracy, success_rate
from mgan_jax.models.mlp import mlp
from mgan_jax.training import gan

pytestmark = pytest.mark.numerical

BYTES = np.random.default_rng(0).integers(0, 256, (8, 8, 8, 1)).astype(np.uint8)
IMAGES = BYTES.astype(np.float32) / np.float32(255)
LABELS = np.arange(8, dtype=np.int32)
# Wrong (images, labels, targets) by their shapes and types, and what the message says.
UNREADABLE = [
    ((IMAGES[..., 0], LABELS), r"\(8, 8, 8\); choose \[B, H, W, C\]"),
    ((IMAGES[0], LABELS), r"\(8, 8, 1\); choose \[B, H, W, C\]"),
    ((IMAGES.astype(np.int32), LABELS), "int32; choose floating point"),
    ((IMAGES, LABELS[:1]), r"labels are of the shape \(1,\), images of \(8, 8, 8, 1\)"),
    ((IMAGES, LABELS[:, None]), r"labels are of the shape \(8, 1\), images of \(8, 8, 8, 1\)"),
    ((IMAGES, np.eye(8, dtype=np.int32)), r"labels are of the shape \(8, 8\), images of \(8, 8, 8, 1\)"),
    ((IMAGES, LABELS.astype(np.float32)), "labels are of the type float32; choose integers"),
    ((IMAGES, LABELS, LABELS[:3]), r"targets are of the shape \(3,\), images of \(8, 8, 8, 1\)"),
]
WRONG_VALUES = [
    ((BYTES.astype(np.float32), LABELS), "images lie between 0 and 255"),
    ((IMAGES * 2 - 1, LABELS), "images lie between -1 and 1"),
    ((np.where(IMAGES > 0.99, np.nan, IMAGES), LABELS), "not finite"),
    ((BYTES // 2, LABELS), "none above 127,"),
    ((IMAGES, LABELS + 3), "labels lie between 3 and 10; the classes are 0 to 9"),
    ((IMAGES, LABELS - 1), "labels lie between -1 and 6"),
    ((IMAGES, LABELS, LABELS + 3), "targets lie between 3 and 10"),
]


@pytest.fixture(scope="module")
def made(target, cases):
    """`made(name)`: the attack on the target, as a user gets it; `made(name, jax.jit)`: compiled, once a shape."""
    kept = {}

    def get(name, transform=None):
        if (name, transform) not in kept:
            kept[name, transform] = transform(get(name)) if transform else cases.make(name, target[0].apply, 0.2, target[1])
        return kept[name, transform]

    return get


def alike(result, other):
    """Two compilations of an attack give the same; a pixel whose gradient is nearly zero may go the other way."""
    assert (np.abs(result.adversarial - other.adversarial) < 1e-4).mean() > 0.98
    for field, value in other._asdict().items():
        assert isinstance(value, jax.Array) and value.dtype == getattr(result, field).dtype, field
        assert value.shape == getattr(result, field).shape, field


def test_numpy_lists_and_bytes_give_what_arrays_give_compiled(attack_name, target, made):
    swapped = lambda leaf: np.asarray(leaf).astype(np.asarray(leaf).dtype.newbyteorder("S"))  # noqa: E731
    whole = made(attack_name)(jax.random.key(1), jax.tree.map(swapped, target[1]), BYTES, LABELS.tolist())
    parts = made(attack_name, jax.jit)(jax.random.key(1), target[1], jnp.asarray(IMAGES), jnp.asarray(LABELS))
    alike(parts, whole)


def test_wrong_arrays_are_refused_in_one_line(attack_name, target, made):
    key, variables = jax.random.key(1), target[1]
    for arrays, message in UNREADABLE:
        with pytest.raises(ValueError, match=message):
            made(attack_name)(key, variables, *arrays)
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(made(attack_name), key, variables, *arrays)
    for arrays, message in WRONG_VALUES:
        with pytest.raises(ValueError, match=message):
            made(attack_name)(key, variables, *arrays)
    with pytest.raises(ValueError, match="uint8, and while tracing"):
        jax.eval_shape(made(attack_name), key, variables, BYTES, LABELS)


def test_no_images_give_an_empty_result(attack_name, target, made, cases):
    key, variables = jax.random.key(1), target[1]
    few = jax.eval_shape(made(attack_name), key, variables, IMAGES[:2], LABELS[:2])
    targets = () if attack_name in cases.untargeted else (LABELS[:0],)
    for attack in (made(attack_name), made(attack_name, jax.jit)):
        result = attack(key, variables, IMAGES[:0], LABELS[:0], *targets)
        for field, value in result._asdict().items():
            like = getattr(few, field)
            assert value.shape == (0, *like.shape[1:]) and value.dtype == like.dtype, field
    assert np.isnan(success_rate(result)) and np.isnan(robust_accuracy(result))


def test_no_images_give_an_empty_result_for_each_of_several_epsilons(target):
    result = fgsm(target[0].apply, (0.1, 0.2, 0.3))(jax.random.key(0), target[1], IMAGES[:0], [])
    assert result.adversarial.shape == (3, 0, 8, 8, 1) and result.success.shape == (3, 0) and result.logits.shape == (3, 0, 10)
    assert success_rate(result).shape == (3,) and np.isnan(success_rate(result)).all()


def test_learning_reads_every_container_and_refuses_what_it_cannot_learn_from(learned_name, target, cases):
    classifier, variables = target
    fit = cases.learn(learned_name, classifier.apply, 0.2, variables).fit
    whole = fit(jax.random.key(2), jax.tree.map(np.asarray, variables), BYTES, LABELS.tolist())
    parts = jax.jit(fit)(jax.random.key(2), variables, jnp.asarray(IMAGES), jnp.asarray(LABELS))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-3), whole, parts)
    for arrays, message in [case for case in UNREADABLE + WRONG_VALUES if len(case[0]) == 2]:
        with pytest.raises(ValueError, match=message):
            fit(jax.random.key(2), variables, *arrays)
    with pytest.raises(ValueError, match="nothing to learn from"):
        fit(jax.random.key(2), variables, IMAGES[:0], LABELS[:0])


def test_training_a_generator_reads_every_container_and_refuses_what_it_cannot_learn_from(target, cases):
    attack = cases.generative("advgan", target[0].apply, 0.2)
    variables = jax.tree.map(np.asarray, target[1])
    whole, parts = (
        gan.fit(jax.random.key(2), attack, variables, *arrays, epochs=1, batch_size=4)
        for arrays in ((BYTES, LABELS.tolist()), (jnp.asarray(IMAGES), jnp.asarray(LABELS)))
    )
    made = [attack(jax.random.key(3), target[1], IMAGES, LABELS).adversarial for attack in (whole, parts)]
    np.testing.assert_allclose(*made, atol=1e-3)
    for arrays, message in [case for case in UNREADABLE + WRONG_VALUES[:4] if len(case[0]) == 2]:
        with pytest.raises(ValueError, match=message):
            gan.fit(jax.random.key(2), attack, variables, *arrays)
    with pytest.raises(ValueError, match="nothing to learn from"):
        gan.fit(jax.random.key(2), attack, variables, IMAGES[:0], LABELS[:0])
    with pytest.raises(ValueError, match="images lie between 0 and 255"):
        attack.perturb(whole.args[0], BYTES.astype(np.float32))


def test_keys_can_be_mapped_over(attack_name, target, made):
    keys = jax.random.split(jax.random.key(3), 2)
    arrays = target[1], jnp.asarray(IMAGES), jnp.asarray(LABELS)
    with jax.debug_key_reuse(False):  # which takes a key folded in a loop that is mapped over keys for one used twice
        mapped = jax.jit(jax.vmap(made(attack_name), (0, None, None, None)))(keys, *arrays)
    for i in range(2):
        alike(made(attack_name, jax.jit)(keys[i], *arrays), jax.tree.map(lambda leaf, i=i: leaf[i], mapped))


def test_colour_images_that_are_not_square_and_three_classes(attack_name, cases, check):
    shape = (6, 5, 3)
    classifier = mlp(shape, 3, (4,))
    variables = classifier.init(jax.random.key(0))
    images = jax.random.uniform(jax.random.key(1), (4, *shape))
    labels = classifier.apply(variables, images).argmax(-1).astype(jnp.int32)
    targets = () if attack_name in cases.untargeted else ((labels + 1) % 3,)
    attack = jax.jit(cases.make(attack_name, classifier.apply, 0.2, variables, shape))
    result = attack(jax.random.key(2), variables, images, labels, *targets)
    check(result, classifier, variables, images, labels, *targets)
    assert result.finite.all()


def test_only_fooling_without_bounds_starts_outside_of_them(target):
    images = 4 * IMAGES - 1
    result = fooling(target[0].apply, 0.05, 2, bounds=False)(jax.random.key(0), target[1], images, LABELS)
    assert result.finite.all() and result.adversarial.min() < 0
    with pytest.raises(ValueError, match="images lie between -1 and 3"):
        fooling(target[0].apply, 0.05, 2)(jax.random.key(0), target[1], images, LABELS)
