"""Few-pixel attack by differential evolution (Su et al. 2019, arXiv:1710.08864)."""

import jax
import jax.numpy as jnp

from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.attacks.slots import in_slots, take
from mgan_jax.losses import log_odds, margin_to_fool
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult


def others(key: Array, size: int) -> Array:
    """For each of `size` members three others, distinct, drawn evenly: indices [3, size]; `key` is consumed."""
    draws = jax.random.uniform(key, (3, size))
    first, second, third = ((draws[i] * (size - 1 - i)).astype(jnp.int32) for i in range(3))
    # Places in a list from which the earlier choices are taken out: those from the gap on move up by one.
    second += second >= first
    low, high = jnp.minimum(first, second), jnp.maximum(first, second)
    third += third >= low
    third += third >= high
    return (jnp.arange(size)[None] + 1 + jnp.stack([first, second, third])) % size


def painted(image: Array, members: Array) -> Array:
    """Candidates [P, H, W, C]: an image with the pixels of each member [P, d, 2 + C], (row, column, values), set.

    Rows and columns lie in [0, H) and [0, W), and are rounded down; where two pixels meet, the later one counts.
    """
    height, width, _ = image.shape
    member = jnp.arange(members.shape[0])
    candidates = jnp.broadcast_to(image, (members.shape[0], *image.shape))
    for i in range(members.shape[1]):
        pixel = members[:, i]
        row, column = (pixel[:, axis].astype(jnp.int32).clip(0, size - 1) for axis, size in ((0, height), (1, width)))
        candidates = candidates.at[member, row, column].set(pixel[:, 2:])
    return candidates


def few_pixel(
    apply_fn: ApplyFn,
    num_pixels: int = 1,
    population_size: int = 400,
    num_generations: int = 100,
    weight: float = 0.5,
    num_slots: int = 1,
) -> Attack:
    """Black box: differential evolution over d pixels' rows, columns and values, x_i(g + 1) = x_r1(g) + F (x_r2(g) - x_r3(g)).

    r1, r2, r3 are distinct and others than i. A child takes its parent's place where it lowers log p_y - log(1 - p_y), which
    ranks as p_y does but saturates nowhere; with `targets`, where it raises that of the target class. The first members have
    rows and columns evenly drawn and values from N(128, 127) / 255; all are cut to the image and to [0, 1].
    An image is finished once one member fools (there is no crossover, as published), and `used` counts its queries up to that
    one. Returned is that one, or the best of the last generation.

    Defaults: the paper's.

    Args:
      apply_fn: the target, of which only logits are used.
      num_pixels: d.
      population_size: members, at least 4.
      num_generations: of children; num_pixels (2 + C) numbers evolve for (1 + num_generations) population_size queries at most.
      weight: F.
      num_slots: images attacked at a time; the result does not depend on it.

    Raises:
      ValueError: numbers that are not positive, or fewer than four members; when called, more pixels than the image has.
    """
    if min(num_pixels, num_generations, num_slots) < 1 or not weight > 0:
        raise ValueError(
            f"num_pixels is {num_pixels}, num_generations {num_generations}, num_slots {num_slots}, weight {weight}; "
            "all must be positive"
        )
    if population_size < 4:
        raise ValueError(f"population_size is {population_size}; three others are mixed, so choose at least 4")
    apply_fn = matched(apply_fn)

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        batch, height, width, channels = images.shape
        if num_pixels > height * width:
            raise ValueError(f"num_pixels is {num_pixels}, the images have {height * width}; choose fewer")
        start_key, step_key = jax.random.split(key)
        top = jnp.asarray([height, width, *[1.0] * channels], images.dtype)
        # A hair below H and W, where rounding down ends in the image.
        top = top.at[:2].set(jnp.nextafter(top[:2], jnp.zeros(2, images.dtype)))[None, None]

        def first(i):
            place_key, value_key = jax.random.split(jax.random.fold_in(start_key, i))
            places = jax.random.uniform(place_key, (population_size, num_pixels, 2), images.dtype) * top[..., :2]
            values = jax.random.normal(value_key, (population_size, num_pixels, channels), images.dtype)
            values = (128 + 127 * values) / 255
            return jnp.concatenate([places, values.clip(0, 1)], axis=-1)

        def children(i, generation, members):
            one, two, three = others(jax.random.fold_in(jax.random.fold_in(step_key, i), generation), population_size)
            return jnp.clip(members[one] + weight * (members[two] - members[three]), 0, top)

        def step(index, state):
            _, parents, fitness, generation, queries, _ = state
            born = jax.vmap(children)(index, generation, parents)
            members = choose(generation == 0, parents, born)
            candidates = jax.vmap(painted)(take(images, index), members)
            classes = [None if c is None else jnp.repeat(take(c, index), population_size) for c in (labels, targets)]
            logits = apply_fn(variables, candidates.reshape(-1, height, width, channels))
            ranked = log_odds(logits, classes[0]) if targets is None else -log_odds(logits, classes[1])
            new, margins = (v.reshape(-1, population_size) for v in (ranked, margin_to_fool(logits, *classes)))
            new = jnp.where(jnp.isnan(new), jnp.inf, new)
            better = (new < fitness) | (generation == 0)[:, None]
            parents = jnp.where(better[..., None, None], members, parents)
            fitness = jnp.where(better, new, fitness)
            fools = margins < 0
            done = fools.any(-1)
            winner = jnp.take_along_axis(members, fools.argmax(-1)[:, None, None, None], axis=1)[:, 0]
            best = jnp.take_along_axis(parents, fitness.argmin(-1)[:, None, None, None], axis=1)[:, 0]
            seen = jnp.where(done, fools.argmax(-1) + 1, population_size).astype(jnp.int32)
            return choose(done, winner, best), parents, fitness, generation + 1, queries + seen, done

        everyone = jnp.arange(batch)
        zeros = jnp.zeros(batch, jnp.int32)
        members = jax.vmap(first)(everyone)
        state = members[:, 0], members, jnp.full(members.shape[:2], jnp.inf, images.dtype), zeros, zeros, zeros > 0
        state = in_slots(step, lambda s: s[5] | (s[3] > num_generations), state, num_slots)
        adversarial = jax.vmap(painted)(images, state[0][:, None])[:, 0]
        return attack_result(apply_fn, variables, images, adversarial, labels, targets, state[4])

    return checked(apply_fn, attack)
