"""Slots: every image has its own steps, and the work is their sum."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mgan_jax.attacks.slots import in_slots

pytestmark = pytest.mark.numerical


def test_every_image_is_stepped_until_it_is_finished_whatever_the_slots():
    goal = jnp.asarray([3, 0, 7, 1, 0, 12, 2])
    for num_slots in (1, 2, 3, 7, 50):
        step = lambda index, s: (s[0] + 1, s[1] + 10 * index, s[2])  # noqa: E731
        states = jnp.zeros(7, jnp.int32), jnp.zeros(7, jnp.int32), goal
        count, total, _ = in_slots(step, lambda s: s[0] >= s[2], states, num_slots)
        np.testing.assert_array_equal(count, goal)
        np.testing.assert_array_equal(total, goal * 10 * np.arange(7))


def test_slots_take_the_mean_not_the_maximum_of_the_steps():
    calls = []

    def step(index, counts):
        jax.debug.callback(lambda: calls.append(0))
        return counts - 1

    in_slots(step, lambda counts: counts <= 0, jnp.asarray([40] + [1] * 39), 2)
    jax.effects_barrier()
    assert 40 <= len(calls) <= 42
