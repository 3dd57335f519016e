"""Square attack: random search along square changes (Andriushchenko et al. 2020, arXiv:1912.00049)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.attacks.ball import check_ball, project, swept
from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.attacks.slots import in_slots, take
from mgan_jax.losses import margin_to_fool
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000; 500 is in the authors' code alone


def window(start: Array, side: Array, shape: tuple[int, int]) -> Array:
    """Squares of these sides [S], upper left corners [S, 2], as a mask [S, H, W, 1]."""
    rows, columns = (
        (jnp.arange(size)[None] >= start[:, i, None]) & (jnp.arange(size)[None] < (start[:, i] + side)[:, None])
        for i, size in enumerate(shape)
    )
    return (rows[:, :, None] & columns[:, None, :])[..., None]


def hills(start: Array, side: Array, across: Array, shape: tuple[int, int]) -> Array:
    """eta of the paper's L2 attack, [S, H, W, 1] of 2-norm 1: a hill in one half of each square and a valley in the other.

    In a rectangle whose longer side is h, the value at Chebyshev distance d from the middle is the sum over j = d + 1, ...,
    floor(h / 2) + 1 of 1 / j^2. `across` [S] bool puts the halves side by side instead of one above the other.
    """
    inside = window(start, side, shape)
    down, right = jnp.meshgrid(*(jnp.arange(size) for size in shape), indexing="ij")
    down, right = down[None] - start[:, 0, None, None], right[None] - start[:, 1, None, None]
    along, aside = choose(across, (right, down), (down, right))
    side = side[:, None, None]
    upper = along < side // 2
    middle = jnp.where(upper, side // 4, side // 2 + (side - side // 2) // 2)
    distance = jnp.maximum(jnp.abs(along - middle), jnp.abs(aside - side // 2))
    sums = jnp.asarray(np.concatenate([[0], np.cumsum(1 / np.arange(1, max(shape) + 3) ** 2)]), jnp.float32)
    height = jnp.maximum(sums[side // 2 + 1] - jnp.take(sums, distance, mode="clip"), 0.0)
    return unit(jnp.where(inside, jnp.where(upper, height, -height)[..., None], 0.0), (1, 2))


def unit(change: Array, axes: tuple[int, ...] = (1, 2, 3)) -> Array:
    """Scaled to 2-norm 1 over these axes; 0 where it is 0."""
    length = jnp.sqrt(jnp.square(change).sum(axes, keepdims=True))
    return change / jnp.where(length > 0, length, 1.0)


def share(area: float, queries: Array, scale: float) -> Array:
    """p, the share of the image that a square takes after so many queries [S], of a schedule of `scale` times 10,000."""
    return area * 0.5 ** (queries[:, None] > jnp.asarray(HALVINGS)[None] * scale).sum(-1)


def square(
    apply_fn: ApplyFn,
    epsilon: float | Sequence[float] = 0.3,
    norm: str = "linf",
    num_queries: int = 5000,
    area: float = 0.8,
    num_slots: int = 64,
    stretched: bool = True,
) -> Attack:
    """Black box: change one square, and keep the change where the margin z_y - max_{i != y} z_i falls.

    In L-inf the start is stripes of -epsilon and epsilon, a column each, and a step adds -2 epsilon or 2 epsilon in a square
    (a sign for each channel), projected on the ball. In L2 the start is a grid of 5 x 5 tiles of `hills`, and a step moves
    the norm that one square has, and what the bounds left unused, to hills in another. The square's area is a share p of the
    image, at first `area`, halved after 10, 50, 200, 500, 1,000, 2,000, 4,000, 6,000 and 8,000 of 10,000 queries (500 is in the
    authors' code and not in the paper); with another num_queries the schedule is stretched to it. With `targets`, the margin
    is max_{i != t} z_i - z_t.

    An image is finished once it is fooled, and `used` counts its queries up to that one. As long as some are not, work is
    spent on those alone (`slots.in_slots`). An image whose starting point fools costs one.

    Defaults: num_queries is AutoAttack's, the paper takes 10000; area is the paper's for MNIST in L-inf.

    Args:
      apply_fn: the target, of which only outputs are used; logits, or anything that rises with them.
      epsilon: radius of the ball; K of them give results [K, B, ...].
      norm: "linf" or "l2".
      num_queries: at most, an image, the first for the start.
      area: p at first. The paper tunes it (ImageNet: 0.05 in L-inf, 0.1 in L2); 0.8 is its value for small images.
      num_slots: images queried at a time; the result does not depend on it.
      stretched: whether the schedule is stretched from 10,000 queries to num_queries.

    Raises:
      ValueError: epsilon out of range, another norm, numbers below 1, or an area outside (0, 1].
    """
    check_ball(epsilon, norm)
    return checked(apply_fn, swept(square_within(apply_fn, norm, num_queries, area, num_slots, stretched), epsilon))


def square_within(
    apply_fn: ApplyFn, norm: str, num_queries: int, area: float, num_slots: int, stretched: bool
) -> Callable[..., AttackResult]:
    """`square` with the radius, maybe traced, as an argument: `attack(epsilon, key, variables, images, labels)`."""
    if min(num_queries, num_slots) < 1:
        raise ValueError(f"num_queries is {num_queries}, num_slots {num_slots}; both must be positive")
    if not 0 < area <= 1:
        raise ValueError(f"area is {area}; it is a share of the image, so choose it in (0, 1]")
    least, scale = 1 if norm == "linf" else 3, num_queries / 10000 if stretched else 1.0
    apply_fn = matched(apply_fn)

    def attack(epsilon, key, variables, images, labels, targets=None) -> AttackResult:
        batch, height, width, channels = images.shape
        shape = height, width
        start_key, step_key = jax.random.split(key)

        def distance_of(x, index):
            aims = None if targets is None else take(targets, index)
            return margin_to_fool(apply_fn(variables, x), take(labels, index), aims)

        def start(key):
            """The first perturbation of an image, [H, W, C]."""
            if norm == "linf":
                stripes = jax.random.rademacher(key, (1, width, channels), images.dtype)
                return epsilon * jnp.broadcast_to(stripes, (*shape, channels))
            sign_key, across_key = jax.random.split(key)
            tile = max(min(shape) // 5, 1)
            rows, columns = height // tile, width // tile
            across = jnp.broadcast_to(jax.random.bernoulli(across_key), (1,))
            one = hills(jnp.zeros((1, 2), jnp.int32), jnp.full(1, tile), across, (tile, tile))[0]
            signs = jax.random.rademacher(sign_key, (rows, 1, columns, 1, channels), images.dtype)
            tiles = (one[None, :, None] * signs).reshape(rows * tile, columns * tile, channels)
            margins = [((size - n * tile) // 2, (size - n * tile + 1) // 2) for size, n in ((height, rows), (width, columns))]
            return epsilon * unit(jnp.pad(tiles, (*margins, (0, 0)))[None])[0]

        def draws(i, queries):
            """Two corners in [0, 1), a sign for each channel, and how the hills lie."""
            keys = jax.random.split(jax.random.fold_in(jax.random.fold_in(step_key, i), queries), 3)
            corners = jax.random.uniform(keys[0], (2, 2))
            return corners, jax.random.rademacher(keys[1], (1, 1, channels), images.dtype), jax.random.bernoulli(keys[2])

        def proposal(x, clean, side, corners, signs, across):
            free = jnp.asarray(shape)[None] - side[:, None]
            here, there = (jnp.floor(corners[:, i] * (free + 1)).astype(jnp.int32) for i in range(2))
            square_here = window(here, side, shape)
            if norm == "linf":
                return project(x + 2 * epsilon * signs * square_here, clean, epsilon, norm)
            square_there = window(there, side, shape)
            change = x - clean
            unused = jnp.maximum(epsilon**2 - jnp.square(change).sum((1, 2, 3), keepdims=True), 0.0) / channels
            available = jnp.sqrt(jnp.square(change * (square_here | square_there)).sum((1, 2), keepdims=True) + unused)
            new = unit(signs * hills(here, side, across, shape) + unit(change * square_here, (1, 2)), (1, 2)) * available
            return project(clean + jnp.where(square_here, new, jnp.where(square_there, 0.0, change)), clean, epsilon, norm)

        def side_of(queries):
            side = jnp.round(jnp.sqrt(share(area, queries, scale) * height * width)).astype(jnp.int32)
            side = jnp.maximum(side, least)
            return jnp.minimum(side if norm == "linf" else side // 2 * 2 + 1, min(shape))

        def step(index, state):
            x, distance, queries = state
            proposed = proposal(x, take(images, index), side_of(queries), *jax.vmap(draws)(index, queries))
            new_distance = distance_of(proposed, index)
            x, distance = choose(new_distance < distance, (proposed, new_distance), (x, distance))
            return x, distance, queries + 1

        everyone = jnp.arange(batch)
        keys = jax.vmap(lambda i: jax.random.fold_in(start_key, i))(everyone)
        x = project(images + jax.vmap(start)(keys), images, epsilon, norm)
        state = x, distance_of(x, everyone), jnp.ones(batch, jnp.int32)
        x, _, used = in_slots(step, lambda s: (s[1] < 0) | (s[2] >= num_queries), state, num_slots)
        return attack_result(apply_fn, variables, images, x, labels, targets, used)

    return attack
