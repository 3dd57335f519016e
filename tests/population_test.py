"""Sampling, qualifying and voting, against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax import population
from mgan_jax.build import build
from mgan_jax.models.cnn import cnn


def test_votes_equal_a_loop_over_mutants_whatever_the_batch_and_method(target):
    classifier, variables = target
    images = jax.random.uniform(jax.random.key(0), (7, 8, 8, 1))
    mutants = population.sample(build("mutation", "weight_shuffling", rate=0.3), jax.random.key(1), variables, 4)
    expected = [classifier.apply(jax.tree.map(lambda x, i=i: x[i], mutants), images).argmax(-1) for i in range(4)]
    for method in ("map", "vmap"):
        for batch_size in (3, 7, 50):
            found = population.votes(classifier.apply, mutants, images, batch_size, method)
            np.testing.assert_array_equal(found, np.stack(expected))


def test_predictions_and_logits_of_one_image(target):
    classifier, variables = target
    images = jax.random.uniform(jax.random.key(0), (1, 8, 8, 1))
    logits = population.logits(classifier.apply, variables, images)
    np.testing.assert_allclose(logits, classifier.apply(variables, images), rtol=1e-5, atol=1e-5)
    assert population.predictions(classifier.apply, variables, images).shape == (1,)


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
    accuracy = (population.predictions(classifier.apply, variables, images) == labels).mean()
    kept = (population.votes(classifier.apply, first.variables, images) == labels).mean(1)
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


def test_one_trace_serves_many_batches(target):
    classifier, variables = target
    traces = []

    def counted(v, x):
        traces.append(x.shape)
        return classifier.apply(v, x)

    mutants = population.sample(build("mutation", "weight_shuffling"), jax.random.key(1), variables, 2)
    population.votes(counted, mutants, jnp.zeros((11, 8, 8, 1)), 4)
    assert traces == [(4, 8, 8, 1)]
