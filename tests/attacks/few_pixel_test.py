"""Few-pixel attack by other routes: the best pixel of a linear model by trying all, a counter of queries, parts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.few_pixel import few_pixel, others, painted
from mgan_jax.models.linear import linear


def test_the_three_others_are_distinct_and_even():
    size, draws = 6, 300
    index = np.asarray(jax.vmap(lambda k: others(k, size))(jax.random.split(jax.random.key(0), draws)))
    everyone = np.concatenate([index, np.broadcast_to(np.arange(size), (draws, 1, size))], axis=1)
    assert (np.diff(np.sort(everyone, axis=1), axis=1) > 0).all()
    for place in range(3):
        offsets = np.bincount((index[:, place] - np.arange(size)).ravel() % size, minlength=size)
        assert offsets[0] == 0 and (np.abs(offsets[1:] - draws * size / 5) < 5 * np.sqrt(draws * size * 0.16)).all()
    assert (
        np.sort(np.asarray(others(jax.random.key(1), 4)), axis=0) == np.asarray([[1, 0, 0, 0], [2, 2, 1, 1], [3, 3, 3, 2]])
    ).all()


def test_pixels_are_painted_by_hand():
    image = jnp.zeros((2, 3, 2))
    members = jnp.asarray([[[0.9, 2.99, 0.1, 0.2], [1.0, 0.0, 0.3, 0.4]], [[1.5, 1.5, 0.5, 0.6], [1.1, 1.9, 0.7, 0.8]]])
    expected = np.zeros((2, 2, 3, 2))
    expected[0, 0, 2], expected[0, 1, 0], expected[1, 1, 1] = (0.1, 0.2), (0.3, 0.4), (0.7, 0.8)
    np.testing.assert_allclose(painted(image, members), expected)


def test_finds_the_best_pixel_of_a_linear_model(images):
    classifier = linear((8, 8, 1), 2)
    variables = classifier.init(jax.random.key(0))
    images, labels = images[0], jnp.zeros(8, jnp.int32)
    safe = lambda v, x: classifier.apply(v, x) + jnp.asarray([[9.0, 0.0]])  # noqa: E731
    slope = np.asarray(variables["params"]["output"]["kernel"] @ np.asarray([[-1.0], [1.0]])).reshape(1, 64)
    flat = np.asarray(images).reshape(8, 64)
    gains = np.maximum(slope * (1 - flat), -slope * flat)
    for num_pixels in (1, 2):
        best = np.sort(gains, axis=1)[:, -num_pixels:].sum(1)
        result = jax.jit(few_pixel(safe, num_pixels, 100, 60))(jax.random.key(1), variables, images, labels)
        change = (np.asarray(result.adversarial).reshape(8, 64) - flat) @ slope[0]
        assert (change <= best + 1e-5).all() and (change > 0.8 * best).all() and np.median(change / best) > 0.98
        assert (result.l0 <= num_pixels).all() and (result.used == 100 * 61).all()


def test_the_slots_change_nothing(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:5]), jnp.asarray(data.test.labels[:5])
    run = lambda slots: jax.jit(few_pixel(classifier.apply, 4, 10, 8, num_slots=slots))(  # noqa: E731
        jax.random.key(0), variables, images, labels
    )
    one, three = run(1), run(3)
    np.testing.assert_array_equal(one.used, three.used)
    np.testing.assert_allclose(one.adversarial, three.adversarial, atol=1e-6)
    assert one.success.any() and not one.success.all()


@pytest.mark.parametrize("aimed", [False, True])
def test_counts_its_queries_and_stops_at_the_first_that_fools(aimed, trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:4]), jnp.asarray(data.test.labels[:4])
    targets = classifier.apply(variables, images).argsort(-1)[:, -2] if aimed else None  # the runner-up
    rows, fooled = [], []

    def counted(v, x):
        jax.debug.callback(lambda count=x.shape[0]: rows.append(count))
        return classifier.apply(v, x)

    attack = jax.jit(few_pixel(counted, 12, 20, 40))
    for i in range(4):
        rows.clear()
        one = slice(i, i + 1)
        result = attack(jax.random.key(i), variables, images[one], labels[one], None if targets is None else targets[one])
        jax.effects_barrier()
        queries = sum(rows) - 3  # the three of attack_result
        assert queries - 20 < result.used[0] <= queries <= 20 * 41
        assert result.success[0] == (result.used[0] < 20 * 41)
        fooled.append(bool(result.success[0]))
    assert any(fooled) if aimed else all(fooled)


@pytest.mark.parametrize(
    "arguments", [{"num_pixels": 0}, {"population_size": 3}, {"num_generations": 0}, {"weight": 0}, {"num_slots": 0}]
)
def test_bad_arguments_are_refused_when_building(arguments, target):
    with pytest.raises(ValueError, match=r"choose|positive"):
        few_pixel(target[0].apply, **arguments)


def test_more_pixels_than_the_image_has_are_refused(target, images):
    with pytest.raises(ValueError, match="num_pixels is 65"):
        few_pixel(target[0].apply, 65)(jax.random.key(0), target[1], *images)
