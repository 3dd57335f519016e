"""The loop: resuming, order of the data, NaN."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.advgan import advgan
from mgan_jax.attacks.mgan import mgan
from mgan_jax.datasets.digits import digits
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.models.mlp import mlp
from mgan_jax.mutation.gaussian_fuzzing import gaussian_fuzzing
from mgan_jax.mutation.neuron_switch import neuron_switch
from mgan_jax.training import gan, loop, target

pytestmark = pytest.mark.numerical


def trained_steps(start, until, state, history, chunk):
    progress = loop.Progress(state, start, history)
    return loop.run(chunk, progress, jax.random.key(0), 0, 1000, 50, until, 5)


def small_training(kind):
    """A training of 20 steps on the digits: its train step, a function that makes a fresh state, and the data."""
    data = digits(0)
    classifier = mlp((8, 8, 1), 10, (16,))
    transform = target.optimizer(1e-3, 20)
    variables = classifier.init(jax.random.key(1))
    if kind == "target":
        fresh = lambda: target.init_state(jax.random.key(1), classifier, transform)  # noqa: E731
        return target.make_train_step(classifier, transform, max_shift=1), fresh, data.train
    networks = generator(widths=(4, 8), num_residual_blocks=1), discriminator((4,))
    operators = [gaussian_fuzzing(rate=0.1), neuron_switch(rate=0.5)]
    attack = (
        advgan(classifier.apply, *networks) if kind == "advgan" else mgan(classifier.apply, *networks, operators, num_mutants=2)
    )
    transform = gan.optimizer(1e-3, 20)
    fresh = lambda: gan.init_state(jax.random.key(1), attack, (8, 8, 1), transform)  # noqa: E731
    return gan.make_train_step(attack, variables, transform), fresh, data.train


@pytest.mark.parametrize("kind", ["target", "advgan"])
def test_a_resumed_training_equals_an_uninterrupted_one_bit_for_bit(kind):
    step, fresh, data = small_training(kind)
    with jax.debug_key_reuse(False):
        chunk = loop.make_chunk(step, data)
        whole = trained_steps(0, 20, fresh(), {}, chunk)
        half = trained_steps(0, 10, fresh(), {}, chunk)
        kept = jax.tree.map(np.asarray, half.state)
        resumed = trained_steps(10, 20, jax.tree.map(jnp.asarray, kept), half.history, chunk)
    jax.tree.map(np.testing.assert_array_equal, whole.state, resumed.state)
    jax.tree.map(np.testing.assert_array_equal, whole.history, resumed.history)
    assert len(whole.history["loss"]) == 20


@pytest.mark.parametrize("kind", ["target", "advgan", "mgan"])
def test_a_step_is_traced_for_the_first_chunk_alone_and_asks_the_host_for_nothing(kind):
    step, fresh, data = small_training(kind)
    data, traces = tuple(array[:100] for array in data), []

    def counted(*arguments):
        traces.append(None)
        return step(*arguments)

    with jax.debug_key_reuse(False):
        chunk = loop.make_chunk(counted, data)
        run = lambda start, until, state: loop.run(  # noqa: E731
            chunk, loop.Progress(state, start, {}), jax.random.key(0), 0, 100, 20, until, 4
        )
        first = run(0, 4, fresh())
        compiled = len(traces)
        later = run(4, 20, first.state)  # of five steps an epoch, so that chunks lie across them
        assert later.step == 20 and len(traces) == compiled > 0
        arguments = later.state, jax.random.key(0), jnp.arange(20, 24), jnp.zeros((4, 20), jnp.int32)
        program = str(jax.make_jaxpr(chunk)(*arguments))
        with jax.transfer_guard("disallow"):
            jax.block_until_ready(chunk(*arguments))
    assert "scan" in program and not any(name in program for name in ("callback", "infeed", "outfeed"))


def test_an_epoch_visits_every_image_once_and_epochs_differ():
    first = loop.batch_indices(3, 20, 5, range(0, 4))
    second = loop.batch_indices(3, 20, 5, range(4, 8))
    assert sorted(first.ravel()) == sorted(second.ravel()) == list(range(20))
    assert (first != second).any()
    np.testing.assert_array_equal(loop.batch_indices(3, 20, 5, range(2, 6))[2:], second[:2])


def test_steps_are_whole_chunks():
    assert loop.num_steps(1, 1000, 50, 50) == 50
    assert loop.num_steps(2.6, 1000, 50, 50) == 100


@pytest.mark.parametrize("batch_size", [0, 21])
def test_a_batch_that_does_not_fit_is_refused(batch_size):
    with pytest.raises(ValueError, match=str(batch_size)):
        loop.batch_indices(0, 20, batch_size, range(1))


def test_nan_stops_and_names_the_step():
    step = lambda state, key, step, x: (state, {"loss": jnp.where(step == 7, jnp.nan, 1.0)})  # noqa: E731
    chunk = loop.make_chunk(step, (np.zeros((20, 1), np.float32),))
    with pytest.raises(FloatingPointError, match="loss is nan at step 7"):
        loop.run(chunk, loop.Progress(jnp.zeros(()), 0, {}), jax.random.key(0), 0, 20, 5, 10, 5)


def test_a_mean_margin_moves_kappa_and_is_the_same_program():
    classifier = mlp((8, 8, 1), 10, (16,))
    variables = classifier.init(jax.random.key(1))
    networks = generator(widths=(4, 8), num_residual_blocks=1), discriminator((4,))
    attack = advgan(classifier.apply, *networks, mean_margin=100.0)
    images, labels = jnp.zeros((4, 8, 8, 1)), jnp.zeros(4, jnp.int32)
    state = attack.init(jax.random.key(0), (8, 8, 1))
    _, done = attack.generator_loss(state["generator"], state, jax.random.key(0), 0, variables, images, labels)
    assert done.balance["kappa"] > 0.5
    plain = advgan(classifier.apply, *networks).init(jax.random.key(0), (8, 8, 1))
    assert jax.tree.structure(plain) == jax.tree.structure(state)
