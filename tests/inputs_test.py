"""Arrays as people bring them: what is read, what is refused, and what the refusal says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.inputs import as_batch, as_classes, as_images, as_variables

GREY = np.linspace(0, 1, 3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5, 1)
UNREADABLE = {
    "one image": (GREY[0], r"\(4, 5, 1\); choose \[B, H, W, C\]"),
    "without channels": (GREY[..., 0], r"\(3, 4, 5\); choose \[B, H, W, C\]"),
    "without rows": (GREY[:, :0], r"\(3, 0, 5, 1\)"),
    "ragged": ([[[[0.0]]], [[[0.0, 1.0]]]], "cannot be read as an array"),
    "text": (np.array([[[["a"]]]]), "choose numbers"),
    "integers": (GREY.astype(np.int32), "int32; choose floating point"),
    "booleans": (GREY > 0, "bool; choose floating point"),
    "complex": (GREY.astype(np.complex64), "complex64; choose floating point"),
}
WRONG_VALUES = {
    "bytes as floats": (GREY * 254, "between 0 and 254; choose"),
    "standardized": ((GREY - np.float32(0.5)) / np.float32(0.5), "between -1 and 1; choose"),
    "a little too bright": (GREY + np.float32(1e-6), "and 1.00000"),
    "not a number": (np.where(GREY == 1, np.nan, GREY), r"not finite, the first of them in images\[2\]"),
    "infinite": (np.where(GREY == 0, -np.inf, GREY), r"not finite, the first of them in images\[0\]"),
    "two levels": ((GREY > 0.5).astype(np.uint8), "none above 1,"),
    "sixteen levels": ((GREY * 16).astype(np.uint8), "none above 16,"),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_shapes_and_types_of_images_are_refused_while_tracing_too(kind):
    images, message = UNREADABLE[kind]
    with pytest.raises(ValueError, match=message):
        as_images(images)
    if kind not in ("ragged", "text"):  # which jit itself refuses
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(as_images, images)


@pytest.mark.parametrize("kind", WRONG_VALUES)
def test_values_of_images_are_refused_where_they_are_known(kind):
    images, message = WRONG_VALUES[kind]
    for given in (images, jnp.asarray(images), images.tolist()):
        if isinstance(given, list) and images.dtype == np.uint8:
            message = "int64; choose floating point"
        with pytest.raises(ValueError, match=message):
            as_images(given)
    if images.dtype == np.uint8:
        with pytest.raises(ValueError, match="while tracing"):
            jax.eval_shape(as_images, images)
    else:
        assert jax.jit(as_images)(images).dtype == jnp.float32


def test_images_outside_the_bounds_pass_where_there_are_none():
    np.testing.assert_array_equal(as_images(GREY * 3 - 1, bounded=False), GREY * 3 - 1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_images_keep_their_type_and_every_container_is_read(dtype):
    images = jnp.asarray(GREY, dtype)
    for given in (images, np.asarray(images), as_images(images)):
        found = as_images(given)
        assert isinstance(found, jax.Array) and found.dtype == dtype
        np.testing.assert_array_equal(found, images)
    np.testing.assert_array_equal(as_images(GREY.tolist()), GREY)
    np.testing.assert_array_equal(as_images(list(images)), images)


def test_float64_stays_so_where_it_is_enabled():
    assert as_images(GREY.astype(np.float64)).dtype == jnp.float32
    with jax.enable_x64(True):
        assert as_images(GREY.astype(np.float64)).dtype == jnp.float64
        assert as_images(GREY).dtype == jnp.float32


def test_bytes_are_divided_by_255():
    found = as_images((GREY * 255).round().astype(np.uint8))
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, (GREY * 255).round() / 255, rtol=1e-6)
    assert as_images(np.zeros((0, 4, 5, 1), np.uint8)).shape == (0, 4, 5, 1)


@pytest.mark.parametrize("traced", [False, True])
@pytest.mark.parametrize(
    "labels, message",
    [
        (np.eye(3, dtype=np.int32), r"\(3, 3\), images of \(3, 4, 5, 1\).*one-hot ones are labels.argmax\(-1\)"),
        (np.zeros((3, 1), np.int32), r"\(3, 1\), images of \(3, 4, 5, 1\); choose one class an image"),
        (np.zeros(2, np.int32), r"\(2,\), images of \(3, 4, 5, 1\)"),
        (np.zeros(1, np.int32), r"\(1,\), images of"),
        (np.int32(1), r"\(\), images of"),
        (np.ones(3, np.float32), "float32; choose integers"),
        (np.ones(3, bool), "bool; choose integers"),
        ([0.5, 1.0, 2.0], "choose integers"),
    ],
)
def test_shapes_and_types_of_labels_are_refused_while_tracing_too(labels, message, traced):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(lambda y: as_classes(y, GREY.shape), labels) if traced else as_classes(labels, GREY.shape)


@pytest.mark.parametrize("labels", [[0, 1, 3], np.array([0, -1, 2]), jnp.array([9, 0, 0])])
def test_labels_that_are_no_class_are_refused_where_they_are_known(labels):
    with pytest.raises(ValueError, match=r"targets lie between .* the classes are 0 to 2"):
        as_classes(labels, GREY.shape, "targets", 3)
    assert jax.jit(lambda y: as_classes(y, GREY.shape, "targets", 3))(labels).dtype == jnp.int32


@pytest.mark.parametrize(
    "labels",
    [[0, 1, 2], (0, 1, 2), np.arange(3, dtype=np.uint8), np.arange(3, dtype=np.int64), jnp.arange(3), list(jnp.arange(3))],
)
def test_labels_of_every_container_become_int32(labels):
    for found in (as_classes(labels, GREY.shape), jax.jit(lambda y: as_classes(y, GREY.shape))(labels)):
        assert found.dtype == jnp.int32
        np.testing.assert_array_equal(found, [0, 1, 2])


def test_variables_keep_everything_but_numpy():
    tree = {"kernel": np.ones((2, 2), np.float16), "scale": 2.0, "key": jax.random.key(0), "none": None}
    found = as_variables(tree)
    assert isinstance(found["kernel"], jax.Array) and found["kernel"].dtype == jnp.float16
    assert found["scale"] == 2.0 and found["key"] is tree["key"] and found["none"] is None


def test_a_batch_is_looked_at_whole_and_the_network_is_traced_once():
    traces = []

    def apply_fn(variables, images):
        traces.append(images.shape)
        return images.reshape(len(images), -1) @ variables["kernel"]

    variables = {"kernel": np.ones((20, 3), np.float32)}
    for count in (3, 2, 0):
        _, images, labels, targets = as_batch(apply_fn, variables, GREY[:count], [0, 1, 2][:count], [2, 1, 0][:count])
        assert len(images) == len(labels) == len(targets) == count
    assert traces == [(1, 4, 5, 1)]
    for labels, targets, message in (
        ([0, 1, 3], None, "labels lie between 0 and 3"),
        ([0, 1, 2], [3, 0, 0], "targets lie between"),
    ):
        with pytest.raises(ValueError, match=message):
            as_batch(apply_fn, variables, GREY, labels, targets)
    assert as_batch(apply_fn, variables, GREY, [0, 1, 2])[3] is None
