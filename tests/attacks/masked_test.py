"""A class that the network rules out by a logit far below the others changes nothing of an attack's result."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.deepfool import deepfool
from mgan_jax.attacks.fab import fab
from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.square import square

pytestmark = pytest.mark.numerical

MAKE = {
    "deepfool": partial(deepfool, num_steps=5),
    "fab": partial(fab, num_steps=5, num_target_classes=2),
    "fab, all classes at once": partial(fab, num_steps=5, num_target_classes=None),
    "pgd": partial(pgd, epsilon=0.3, num_steps=5, step_size=0.1),
    "square": partial(square, epsilon=0.3, num_queries=30),
}
COUNT = 8


def two_classes(kernel, images):
    return images.reshape(len(images), -1) @ kernel


def with_masked(variables, images):
    logits = two_classes(variables["kernel"], images)
    return jnp.concatenate([logits, jnp.full((len(images), 1), variables["mask"], logits.dtype)], axis=-1)


@pytest.fixture(scope="module")
def drawn():
    kernel_key, image_key = jax.random.split(jax.random.key(0))
    return jax.random.normal(kernel_key, (16, 2)), jax.random.uniform(image_key, (COUNT, 4, 4, 1))


@pytest.mark.parametrize("targeted", (False, True))
@pytest.mark.parametrize("name", MAKE)
def test_a_class_ruled_out_changes_no_success(name, targeted, drawn):
    kernel, images = drawn
    labels = two_classes(kernel, images).argmax(-1).astype(jnp.int32)
    targets = 1 - labels if targeted else None
    without = jax.jit(MAKE[name](two_classes))(jax.random.key(1), kernel, images, labels, targets)
    attack = jax.jit(MAKE[name](with_masked))
    assert without.success.sum() >= COUNT // 2
    # The last is what stands for minus infinity where an infinite logit would be refused.
    for mask in (-1e4, -1e9, float(np.finfo(np.float32).min)):
        variables = {"kernel": kernel, "mask": jnp.float32(mask)}
        result = attack(jax.random.key(1), variables, images, labels, targets)
        np.testing.assert_array_equal(result.success, without.success, err_msg=f"{mask}")
        np.testing.assert_array_equal(result.success_rounded, without.success_rounded, err_msg=f"{mask}")
