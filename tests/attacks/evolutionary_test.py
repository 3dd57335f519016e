"""The evolutionary attack by other routes: the corner of a linear model, a counter of queries, ranks, PGD as the bound."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.evolutionary import evolutionary, first_below
from mgan_jax.attacks.pgd import pgd
from mgan_jax.models.linear import linear


def test_the_first_that_fools_by_hand():
    values = jnp.asarray([[3.0, -1.0, -5.0], [3.0, 1.0, 2.0], [-1.0, 0.0, -9.0], [0.0, 0.0, 0.0]])
    index, seen = first_below(values)
    np.testing.assert_array_equal(index, [1, 1, 0, 0])
    np.testing.assert_array_equal(seen, [2, 3, 1, 3])


@pytest.mark.parametrize("norm, strategy", [("linf", "SNES"), ("linf", "Open_ES"), ("l2", "Sep_CMA_ES")])
def test_comes_close_to_the_best_change_of_a_linear_model(norm, strategy, images):
    """With one number a tile, the best change is the sign, or the direction, of the tile's sum of weights."""
    classifier = linear((8, 8, 1), 2)
    variables = classifier.init(jax.random.key(0))
    weights = variables["params"]["output"]["kernel"] @ np.asarray([[-1.0], [1.0]])
    images, labels = 0.3 + 0.4 * images[0], jnp.zeros(8, jnp.int32)
    safe = lambda v, x: classifier.apply(v, x) + jnp.asarray([[9.0, 0.0]])  # noqa: E731
    sums = np.asarray(weights).reshape(4, 2, 4, 2).sum((1, 3))
    best = 0.1 * np.abs(sums).sum() if norm == "linf" else 0.1 * np.linalg.norm(sums) / 2
    attack = evolutionary(safe, 0.1, norm, 3000, strategy, tiles=4, population_size=20)
    result = jax.jit(attack)(jax.random.key(0), variables, images, labels)
    gain = ((result.adversarial - images).reshape(8, 64) @ weights)[:, 0]
    assert (gain <= best * (1 + 1e-5)).all() and (gain > 0.93 * best).all()
    assert (result.used == 3000).all()


def test_counts_its_queries_stops_at_the_first_that_fools_and_needs_scores_alone(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:5]), jnp.asarray(data.test.labels[:5])
    rows = []

    def counted(v, x):
        jax.debug.callback(lambda count=x.shape[0]: rows.append(count))
        return jax.nn.softmax(classifier.apply(v, x))

    attack = jax.jit(evolutionary(counted, 0.2, num_queries=410, population_size=20, tiles=4))
    for i in range(5):
        rows.clear()
        result = attack(jax.random.key(i), variables, images[i : i + 1], labels[i : i + 1])
        jax.effects_barrier()
        queries = sum(rows) - 3  # the three of attack_result
        assert queries - 20 < result.used[0] <= queries <= 400
        assert result.success[0] == (result.used[0] < 400)


def test_the_slots_change_nothing(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:5]), jnp.asarray(data.test.labels[:5])
    make = lambda slots: evolutionary(classifier.apply, 0.1, num_queries=100, population_size=20, tiles=4, num_slots=slots)  # noqa: E731
    one, three = (jax.jit(make(slots))(jax.random.key(0), variables, images, labels) for slots in (1, 3))
    np.testing.assert_array_equal(one.used, three.used)
    np.testing.assert_allclose(one.adversarial, three.adversarial, atol=1e-6)
    assert one.success.any() and not one.success.all()


def test_comes_close_to_pgd_and_not_beyond(trained):
    classifier, variables, data = trained
    images, labels = jnp.asarray(data.test.images[:60]), jnp.asarray(data.test.labels[:60])
    run = lambda attack: jax.jit(attack)(jax.random.key(1), variables, images, labels)  # noqa: E731
    bound = int(run(pgd(classifier.apply, 0.15, 40, 0.02, num_restarts=3)).success.sum())
    result = run(evolutionary(classifier.apply, 0.15, num_queries=1000, tiles=8))
    assert 0.7 * bound <= result.success.sum() <= bound + 1


@pytest.mark.parametrize(
    "arguments",
    [
        {"strategy": "Hope"},
        {"population_size": 3},
        {"population_size": 41, "num_queries": 40},
        {"population_size": 7, "strategy": "Open_ES"},
        {"tiles": 0},
        {"spread": 0},
        {"num_slots": 0},
        {"epsilon": 2},
    ],
)
def test_bad_arguments_are_refused_when_building(arguments, target):
    with pytest.raises(ValueError, match=r"choose|positive"):
        evolutionary(target[0].apply, **arguments)
