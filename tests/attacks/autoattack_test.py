"""AutoAttack by other routes: its stages called one after another, and what they add up to."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.apgd import apgd
from mgan_jax.attacks.autoattack import autoattack
from mgan_jax.models.linear import linear


def test_is_the_worst_case_of_its_stages_and_counts_what_each_image_got(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:60]), jnp.asarray(data.test.labels[:60])
    key = jax.random.key(0)
    epsilons = (0.03, 0.1)
    # Logits so large that cross-entropy has no gradient left for many images: the later stages have work.
    huge = lambda v, x: 1e4 * classifier.apply(v, x)  # noqa: E731
    attack = autoattack(huge, epsilons, num_steps=8, num_target_classes=3, num_queries=30, group_size=7)
    result = jax.jit(attack)(key, variables, images, labels)
    first = jax.jit(apgd(huge, epsilons, num_steps=8))(jax.random.fold_in(key, 0), variables, images, labels)
    everything = 8 + 3 * 8 + 30
    assert (result.success >= first.success).all() and result.success.sum(1)[1] > result.success.sum(1)[0] > 0
    assert result.success.sum() > first.success.sum() + 5
    for k in range(2):
        fooled = first.logits[k].argmax(-1) != labels
        assert (result.used[k][fooled] == 8).all() and (result.used[k][~fooled] > 8).all()
        assert (result.used[k][result.clean_correct[k] & ~result.success[k]] == everything).all()
        np.testing.assert_allclose(result.adversarial[k][fooled], first.adversarial[k][fooled], atol=1e-5)
        assert result.linf[k].max() <= epsilons[k] + 1e-6


@pytest.mark.parametrize("num_classes, aimed, used", [(2, False, 24), (3, False, 28), (3, True, 24), (4, True, 28)])
def test_leaves_out_what_dlr_cannot_do(num_classes, aimed, used, images):
    classifier = linear((8, 8, 1), num_classes)
    safe = lambda v, x: classifier.apply(v, x) + 1e3 * jnp.eye(num_classes)[:1]  # noqa: E731
    labels = jnp.zeros(8, jnp.int32)
    targets = jnp.ones(8, jnp.int32) if aimed else None
    attack = jax.jit(autoattack(safe, 0.01, num_steps=4, num_queries=20))
    result = attack(jax.random.key(0), classifier.init(jax.random.key(0)), images[0], labels, targets)
    assert (result.used == used).all() and not result.success.any()


@pytest.mark.parametrize("arguments", [{"group_size": 0}, {"num_steps": 0}, {"num_queries": 0}, {"norm": "l1"}])
def test_bad_arguments_are_refused_when_building(arguments, target):
    with pytest.raises(ValueError, match=r"choose|positive"):
        autoattack(target[0].apply, **arguments)
