"""Black-box search by an evolution strategy (evosax, Lange 2022, arXiv:2212.04180) in a latent space of tiles."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from mgan_jax.attacks.ball import check_ball, project, swept
from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.attacks.slots import in_slots, take
from mgan_jax.losses import margin_to_fool
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult

STRATEGIES = ("CMA_ES", "Open_ES", "SNES", "Sep_CMA_ES", "xNES")


def first_below(values: Array) -> tuple[Array, Array]:
    """Of each row of values [S, P], the index of the first negative, else of the least, and how many are seen by then."""
    fools = values < 0
    any_fools = fools.any(-1)
    index = jnp.where(any_fools, fools.argmax(-1), values.argmin(-1))
    return index, jnp.where(any_fools, index + 1, values.shape[-1]).astype(jnp.int32)


def evolutionary(
    apply_fn: ApplyFn,
    epsilon: float | Sequence[float] = 0.3,
    norm: str = "linf",
    num_queries: int = 10000,
    strategy: str = "SNES",
    population_size: int = 40,
    tiles: int = 7,
    spread: float = 1.0,
    num_slots: int = 16,
) -> Attack:
    """Black box, from scores alone: one search an image for the z that makes the margin least.

    z [tiles, tiles, C] is drawn out to the image's size, nearest neighbour, and times epsilon added to it (in L2, times
    epsilon / sqrt(H W C), the length of a constant change), then projected on ball and bounds. The strategy starts at z = 0
    and minimises z_y - max_{i != y} z_i, with `targets` max_{i != t} z_i - z_t; it sees ranks alone, so that logits and
    softmax serve as well. An image is finished once one of a population fools, and `used` counts its queries up to that one.
    Returned is that one, or the best that was seen.

    Defaults: epsilon is that of Madry et al. for MNIST; the others are ours, and the strategies' own numbers evosax's.

    Args:
      apply_fn: the target, of which only outputs are used.
      epsilon: radius of the ball; K of them give results [K, B, ...].
      norm: "linf" or "l2".
      num_queries: at most, an image, in whole populations.
      strategy: of evosax, by name.
      population_size: queries a generation; even for "Open_ES".
      tiles: along each side of the image, at most its pixels; few make a search of few dimensions.
      spread: standard deviation of z at first; "Open_ES" keeps half of it, and takes steps of Adam of 0.3 spread.
      num_slots: images searched at a time; the result does not depend on it.

    Raises:
      ValueError: epsilon out of range, another norm or strategy, numbers that are not positive, an odd population for
        "Open_ES", or one that num_queries cannot pay for.
    """
    from evosax import algorithms

    check_ball(epsilon, norm)
    apply_fn = matched(apply_fn)
    if strategy not in STRATEGIES:
        raise ValueError(f"strategy is {strategy!r}; choose one of {', '.join(STRATEGIES)}")
    if min(tiles, num_slots) < 1 or not spread > 0:
        raise ValueError(f"tiles is {tiles}, num_slots {num_slots}, spread {spread}; all must be positive")
    if not 4 <= population_size <= num_queries or (strategy == "Open_ES" and population_size % 2):
        raise ValueError(
            f"population_size is {population_size}, num_queries {num_queries}; choose a population of at least 4, "
            "at most the queries, and even for Open_ES"
        )
    options = {}
    if strategy == "Open_ES":
        options = {"optimizer": optax.adam(0.3 * spread), "std_schedule": optax.constant_schedule(0.5 * spread)}

    def attack(epsilon, key, variables, images, labels, targets=None) -> AttackResult:
        batch, height, width, channels = images.shape
        sides = min(tiles, height), min(tiles, width)
        zero = jnp.zeros((*sides, channels), images.dtype)
        with jax.numpy_rank_promotion("allow"):  # evosax relies on it
            search = getattr(algorithms, strategy)(population_size, zero, **options)
            params = search.default_params
        if hasattr(params, "std_init"):
            params = params.replace(std_init=jnp.asarray(spread, images.dtype))
        scale = epsilon if norm == "linf" else epsilon / (height * width * channels) ** 0.5
        rows, columns = (jnp.arange(size) * n // size for size, n in zip((height, width), sides, strict=True))

        def shown(z, clean):
            """Candidates [P, h, w, C] on one image."""
            change = scale * z.astype(clean.dtype)[:, rows][:, :, columns]
            return project(clean[None] + change, jnp.broadcast_to(clean, change.shape), epsilon, norm)

        def step(index, state):
            found, distance, queries, searches = state
            keys = jax.vmap(lambda i, q: jax.random.split(jax.random.fold_in(jax.random.fold_in(key, i), q), 2))(index, queries)
            with jax.numpy_rank_promotion("allow"):
                z, searches = jax.vmap(search.ask, (0, 0, None))(keys[:, 0], searches, params)
            candidates = jax.vmap(shown)(z, take(images, index))
            repeated = lambda classes: jnp.repeat(take(classes, index), population_size)  # noqa: E731
            values = margin_to_fool(
                apply_fn(variables, candidates.reshape(-1, *images.shape[1:])),
                repeated(labels),
                None if targets is None else repeated(targets),
            ).reshape(-1, population_size)
            with jax.numpy_rank_promotion("allow"):
                told, _ = jax.vmap(search.tell, (0, 0, 0, 0, None))(keys[:, 1], z, values, searches, params)
            best, seen = first_below(values)
            member = jnp.arange(best.size)
            new = candidates[member, best], values[member, best]
            # evosax computes in JAX's default dtype.
            searches = jax.tree.map(lambda new, old: new.astype(old.dtype), told, searches)
            return *choose(new[1] < distance, new, (found, distance)), queries + seen, searches

        keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.fold_in(key, i), num_queries + 1))(jnp.arange(batch))
        with jax.numpy_rank_promotion("allow"):
            searches = jax.vmap(search.init, (0, None, None))(keys, zero, params)
        state = images, jnp.full(batch, jnp.inf, images.dtype), jnp.zeros(batch, jnp.int32), searches
        finished = lambda s: (s[1] < 0) | (s[2] > num_queries - population_size)  # noqa: E731
        found, _, used, _ = in_slots(step, finished, state, num_slots)
        return attack_result(apply_fn, variables, images, found, labels, targets, used)

    return checked(apply_fn, swept(attack, epsilon))
