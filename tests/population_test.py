"""Sampling, qualifying and voting, against loops."""

import jax
import numpy as np
import pytest

from mgan_jax import engine, population
from mgan_jax.build import build
from mgan_jax.models.cnn import cnn

pytestmark = pytest.mark.numerical


def test_digests_compare_content_and_not_keys():
    variables = cnn((8, 8, 1), 10).init(jax.random.key(0))
    mutate = build("mutation", "layer_deactivation", rate=0.1)
    mutants = population.sample(mutate, jax.random.key(0), variables, 20)
    assert len(set(population.digests(mutants))) == 2


def test_qualified_mutants_are_distinct_keep_accuracy_and_leave_out_other_streams(trained):
    classifier, variables, data = trained
    images, labels = data.validation
    mutate = build("mutation", "neuron_activation_inverse", rate=0.1)
    first = population.qualified(classifier.apply, mutate, jax.random.key(0), variables, images, labels, 6, 0.9)
    accuracy = (engine.predictions(classifier.apply, variables, images) == labels).mean()
    kept = (population.votes(classifier.apply, first, images) == labels).mean(1)
    assert first.num_mutants == len(set(first.digests)) == 6
    assert (kept >= 0.9 * accuracy - 1e-9).all()
    assert first.tried >= 6
    again = population.qualified(
        classifier.apply, mutate, jax.random.key(0), variables, images, labels, 6, 0.9, exclude=first.digests
    )
    assert not set(first.digests) & set(again.digests)


def test_a_mutant_of_another_stream_is_caught_by_content(trained):
    classifier, variables, data = trained
    mutate = lambda key, v: build("mutation", "neuron_effect_blocking", rate=0.1)(jax.random.key(7), v)  # noqa: E731
    one = population.qualified(classifier.apply, mutate, jax.random.key(0), variables, *data.validation, 1, 0.0)
    other = population.qualified(
        classifier.apply, mutate, jax.random.key(1), variables, *data.validation, 1, 0.0, exclude=one.digests
    )
    assert one.num_mutants == 1
    assert other.num_mutants == 0 and other.variables is None and other.tried == 10


def test_copies_of_the_target_are_never_counted(trained):
    classifier, variables, data = trained
    found = population.qualified(classifier.apply, lambda key, v: v, jax.random.key(0), variables, *data.validation, 3, 0.0)
    assert found.num_mutants == 0


def test_where_nothing_qualifies_the_population_is_empty(trained):
    classifier, variables, data = trained
    mutate = build("mutation", "neuron_effect_blocking", rate=1.0)
    found = population.qualified(classifier.apply, mutate, jax.random.key(0), variables, *data.validation, 1, 0.9)
    assert found.num_mutants == 0 and found.qualified == 0 and found.tried == 100


@pytest.mark.parametrize("number", [0, -3])
def test_zero_mutants_are_refused(number, target):
    _classifier, variables = target
    with pytest.raises(ValueError, match=str(number)):
        population.sample(build("mutation", "weight_shuffling"), jax.random.key(0), variables, number)


def test_mutants_are_made_again_from_their_keys_in_blocks(trained):
    classifier, variables, data = trained
    mutate = build("mutation", "weight_shuffling", rate=0.1)
    found = population.qualified(classifier, mutate, jax.random.key(0), variables, *data.validation, 7, 0.9)
    assert population.digests(found.variables) == found.digests
    whole = engine.votes(classifier, found.variables, data.test.images[:30], variables)
    np.testing.assert_array_equal(population.votes(classifier, found, data.test.images[:30]), whole)
    assert [len(jax.tree.leaves(block)[0]) for block in found.blocks(3)] == [3, 3, 3]
    np.testing.assert_array_equal(population.votes(classifier, found, data.test.images[:30], block_size=3), whole)


def test_no_mutants_no_votes(trained):
    classifier, variables, data = trained
    found = population.qualified(classifier, lambda key, v: v, jax.random.key(0), variables, *data.validation, 3, 0.0)
    assert population.votes(classifier, found, data.test.images[:5]).shape == (0, 5)
