"""Square by other routes: its patterns in plain loops, the corner of a linear model, a counter of queries, PGD as the bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.pgd import pgd
from mgan_jax.attacks.square import hills, share, square, window
from mgan_jax.models.linear import linear

pytestmark = pytest.mark.numerical


@pytest.fixture(scope="module")
def digits(trained):
    classifier, variables, data = trained
    return classifier.apply, variables, jnp.asarray(data.test.images[:60]), jnp.asarray(data.test.labels[:60])


def test_the_share_of_the_image_is_the_published_schedule():
    queries = jnp.asarray([1, 10, 11, 51, 201, 501, 1001, 2001, 4001, 6001, 8001, 10000])
    np.testing.assert_allclose(share(0.8, queries, 1.0), 0.8 / 2.0 ** np.asarray([0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9]))
    np.testing.assert_allclose(share(0.8, jnp.asarray([1, 2, 6, 51, 801]), 0.1), 0.8 / 2.0 ** np.asarray([0, 1, 2, 4, 9]))


@pytest.mark.parametrize("side", [1, 3, 5, 8])
def test_hills_are_the_papers_sums(side):
    def rectangle(rows, columns):
        n = max(rows, columns) // 2
        values = np.zeros((rows, columns))
        for r in range(rows):
            for s in range(columns):
                top = n - max(abs(r - rows // 2), abs(s - columns // 2))
                values[r, s] = sum(1 / (n + 1 - k) ** 2 for k in range(top + 1))
        return values

    block = np.concatenate([rectangle(side // 2, side), -rectangle(side - side // 2, side)])
    block /= np.linalg.norm(block)
    drawn = hills(jnp.asarray([[2, 1], [0, 3]]), jnp.full(2, side), jnp.asarray([False, True]), (10, 11))[..., 0]
    expected = np.zeros((2, 10, 11))
    expected[0, 2 : 2 + side, 1 : 1 + side] = block[: 10 - 2]
    expected[1, 0:side, 3 : 3 + side] = block.T
    np.testing.assert_allclose(drawn, expected, atol=1e-6)
    mask = window(jnp.asarray([[2, 1]]), jnp.full(1, side), (10, 11))[0, ..., 0]
    assert mask.sum() == side * side and mask[2, 1] and mask[1 + side, side]


def test_finds_the_corner_of_a_linear_model(images):
    classifier = linear((8, 8, 1), 2)
    variables = classifier.init(jax.random.key(0))
    weights = variables["params"]["output"]["kernel"]
    images, labels = images[0], jnp.zeros(8, jnp.int32)
    safe = lambda v, x: classifier.apply(v, x) + jnp.asarray([[9.0, 0.0]])  # noqa: E731
    best = jnp.clip(images + 0.1 * jnp.sign(weights[:, 1] - weights[:, 0]).reshape(1, 8, 8, 1), 0, 1)
    result = jax.jit(square(safe, 0.1, num_queries=1500))(jax.random.key(0), variables, images, labels)
    drop = lambda x: safe(variables, images) @ np.asarray([1.0, -1.0]) - safe(variables, x) @ np.asarray([1.0, -1.0])  # noqa: E731
    assert (result.used == 1500).all()
    ratio = drop(result.adversarial) / drop(best)
    assert (ratio > 0.93).all() and (ratio < 1 + 1e-5).all()


def test_l2_spends_the_whole_budget_and_no_more(target):
    classifier, variables = target
    images = jnp.full((4, 8, 8, 1), 0.5)
    safe = lambda v, x: classifier.apply(v, x) + jnp.eye(10)[:1] * 9  # noqa: E731
    labels = jnp.zeros(4, jnp.int32)
    margins = []
    for num_queries in (1, 40):
        result = jax.jit(square(safe, 0.4, "l2", num_queries))(jax.random.key(0), variables, images, labels)
        np.testing.assert_allclose(result.l2, 0.4, rtol=1e-5)
        margins.append(float((result.logits[:, 0] - result.logits[:, 1:].max(1)).mean()))
    assert margins[1] < margins[0]


@pytest.mark.parametrize("epsilon", [0.05, 0.3])
def test_counts_exactly_the_queries_that_it_makes(epsilon, digits):
    apply_fn, variables, images, labels = digits
    rows = []

    def counted(v, x):
        jax.debug.callback(lambda count=x.shape[0]: rows.append(count))
        return apply_fn(v, x)

    attack = jax.jit(square(counted, epsilon, num_queries=60, num_slots=1))
    seen = set()
    for i in range(4):
        rows.clear()
        result = attack(jax.random.key(i), variables, images[i : i + 1], labels[i : i + 1])
        jax.effects_barrier()
        assert sum(rows) == result.used[0] + 3  # the three of attack_result
        assert bool(result.success[0]) == (result.used[0] < 60) or not result.clean_correct[0]
        seen.add(int(result.used[0]))
    assert seen == {60} if epsilon < 0.1 else max(seen) < 60


def test_comes_close_to_pgd_and_not_beyond(digits):
    apply_fn, variables, images, labels = digits
    run = lambda attack: jax.jit(attack)(jax.random.key(1), variables, images, labels)  # noqa: E731
    bound = int(run(pgd(apply_fn, 0.12, 40, 0.02, num_restarts=3)).success.sum())
    attack = square(apply_fn, 0.12, num_queries=400)
    few, many = (run(a) for a in (square(apply_fn, 0.12, num_queries=400, num_slots=7), attack))
    assert 0.7 * bound <= many.success.sum() <= bound + 1
    assert (few.used == many.used).mean() > 0.95 and (few.success == many.success).mean() > 0.95


def test_a_schedule_that_is_not_stretched_searches_alike_however_many_queries_follow(digits):
    apply_fn, variables, images, labels = digits
    used = []
    for number in (40, 80):
        attack = square(apply_fn, 0.2, num_queries=number, stretched=False)
        used.append(np.asarray(jax.jit(attack)(jax.random.key(1), variables, images, labels).used))
    assert 10 < (used[0] < 40).sum() < 50
    assert (np.minimum(used[1], 40) == used[0]).mean() > 0.95  # a near tie may go the other way in another program


def test_aims(digits):
    apply_fn, variables, images, labels = digits
    targets = (labels + 1) % 10
    result = jax.jit(square(apply_fn, 0.6, num_queries=600))(jax.random.key(0), variables, images, labels, targets)
    assert (result.logits.argmax(-1) == targets).mean() > 0.8


@pytest.mark.parametrize("arguments", [{"num_queries": 0}, {"num_slots": 0}, {"area": 0}, {"area": 1.1}, {"epsilon": -1}])
def test_bad_arguments_are_refused_when_building(arguments, target):
    with pytest.raises(ValueError, match=r"choose|positive"):
        square(target[0].apply, **arguments)
