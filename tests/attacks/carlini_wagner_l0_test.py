"""Carlini and Wagner's L0 attack by other routes: worked examples by hand, the optimum of a linear model, ART."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.carlini_wagner_l0 import carlini_wagner_l0, drop_least
from mgan_jax.models.linear import linear

dropped = jax.jit(lambda *arguments: arguments[0] & ~drop_least(*arguments))


def test_the_least_pixel_goes_and_with_it_those_that_hardly_matter():
    worth = jnp.asarray([[0.5, 0.2, 0.1], [0.004, 0.003, -0.2], [0.0, 0.193, 0.2]])[None]
    allowed = jnp.ones((1, 3, 3), bool)
    # What helps sums to 1.2, a hundredth of it is 0.012: below lie -0.2, 0, 0.003 and 0.004. 0.3 sqrt(49) allows three,
    # but no more than ceil(0.3 sqrt(9)) = 1 is looked at in an image of 9 pixels.
    gone = np.argwhere(np.asarray(dropped(allowed, worth, jnp.asarray([49.0]), 0.01))[0])
    np.testing.assert_array_equal(gone, [[1, 2]])

    worth = jnp.full((2, 10, 10), 0.1).at[:, 3, 4:7].set(jnp.asarray([0.02, 0.01, 0.03])).at[:, 5, 5].set(-1.0)
    allowed = jnp.ones((2, 10, 10), bool).at[1, 5, 5].set(False)
    count = jnp.asarray([100.0, 36.0])
    first, second = np.asarray(dropped(allowed, worth, count, 0.01))
    # The first: at most 3, -1 and then 0.01 and 0.02. The second: its -1 is fixed already; 0.3 * 6 = 1.8 allows two.
    np.testing.assert_array_equal(np.argwhere(first), [[3, 4], [3, 5], [5, 5]])
    np.testing.assert_array_equal(np.argwhere(second), [[3, 4], [3, 5]])
    # A share of nothing: one at a time, and what does nothing or harm.
    np.testing.assert_array_equal(np.argwhere(np.asarray(dropped(allowed, worth, count, 0.0))[1]), [[3, 5]])


@pytest.fixture(scope="module")
def model():
    """A linear model of two classes whose pixels matter very differently: w = 2^-k, from 0.5 one way."""
    classifier = linear((4, 4, 1), 2)
    weights = np.random.default_rng(1).permutation(2.0 ** -np.arange(16)).astype(np.float32)
    kernel = np.stack([-weights, weights], 1) / 2
    variables = {**classifier.init(jax.random.key(0)), "params": {"output": {"kernel": kernel, "bias": np.zeros(2, np.float32)}}}
    return classifier.apply, variables, weights


@pytest.mark.parametrize("aimed", [False, True])
def test_finds_the_fewest_pixels_of_a_linear_model(model, aimed):
    apply_fn, variables, weights = model
    images = jnp.full((3, 4, 4, 1), 0.5)
    # Class 0 by 0.4, 0.6 and 0.9; one pixel gives at most half its weight, 1/2 + 1/4 + 1/8 + ...: 1, 2 and 4 are needed.
    shifts = jnp.asarray([0.4, 0.6, 0.9]) + weights.sum() / 2

    def shifted(variables, x):
        logits = apply_fn(variables, x)
        return logits.at[:, 0].add(shifts[: len(x)])

    labels = jnp.zeros(3, jnp.int32)
    attack = jax.jit(carlini_wagner_l0(shifted, num_steps=400, learning_rate=0.05, largest_constant=100.0))
    result = attack(jax.random.key(0), variables, images, labels, 1 - labels if aimed else None)
    assert result.success.all()
    np.testing.assert_array_equal(result.l0, [1, 2, 4])
    # The pixels are those of the greatest weight, and all others are untouched to the bit.
    for n, k in enumerate((1, 2, 4)):
        np.testing.assert_array_equal(np.flatnonzero(result.adversarial[n].ravel() != 0.5), np.sort(np.argsort(-weights)[:k]))


def test_the_count_is_honest_and_smaller_than_that_of_l2(trained):
    from mgan_jax.attacks.carlini_wagner_l2 import carlini_wagner_l2

    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:40]), jnp.asarray(data.test.labels[:40])
    arguments = jax.random.key(0), variables, images, labels
    few = jax.jit(carlini_wagner_l0(classifier.apply, num_steps=50, largest_constant=100.0))(*arguments)
    near = jax.jit(carlini_wagner_l2(classifier.apply, num_searches=3, num_steps=50, initial_constant=1.0))(*arguments)
    change = np.abs(np.asarray(few.adversarial - images))
    assert (few.success == few.clean_correct).all() and change[change > 0].min() >= 1e-4
    assert np.median(few.l0) <= 4 < 20 < np.median(near.l0)
    # A misclassified image is returned as it is.
    np.testing.assert_array_equal(few.adversarial[~few.clean_correct], images[~few.clean_correct])


@pytest.mark.filterwarnings("ignore")
def test_not_weaker_than_art(trained, art_classifier):
    evasion = pytest.importorskip("art.attacks.evasion")
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:50]), jnp.asarray(data.test.labels[:50])
    ours = jax.jit(carlini_wagner_l0(classifier.apply, num_steps=50, largest_constant=100.0))(
        jax.random.key(0), variables, images, labels
    )
    theirs = evasion.CarliniL0Method(
        art_classifier, max_iter=10, binary_search_steps=2, initial_const=1.0, learning_rate=0.05, batch_size=50, verbose=False
    )
    found = theirs.generate(np.asarray(images), np.asarray(labels))
    fooled = (np.asarray(classifier.apply(variables, found)).argmax(-1) != np.asarray(labels)) & np.asarray(ours.clean_correct)
    count = (np.abs(found - np.asarray(images)) > 1e-4).any(-1).sum((1, 2))
    assert ours.success.mean() >= fooled.mean() - 0.02 and (ours.success == ours.clean_correct).all()
    assert fooled.any() and np.median(np.asarray(ours.l0)[fooled]) <= np.median(count[fooled])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("confidence", -1.0),
        ("num_steps", 0),
        ("learning_rate", 0.0),
        ("initial_constant", 3e6),
        ("largest_constant", float("inf")),
        ("constant_factor", 1.0),
        ("share", 1.0),
    ],
)
def test_bad_arguments_are_refused_when_building(name, value):
    with pytest.raises(ValueError, match=f"{name} (is )?{value}.*choose".replace("+", r"\+")):
        carlini_wagner_l0(lambda variables, images: images, **{name: value})
