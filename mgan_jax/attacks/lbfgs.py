"""Box-constrained L-BFGS (Szegedy et al. 2014, arXiv:1312.6199)."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from optax import softmax_cross_entropy_with_integer_labels

from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.losses import margin_to_fool, runner_up
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult

DECREASE = 1e-4  # of the slope along a step, that it must at least go down
CONVERGED = 1e-6  # relative decrease, gradient or change of a pixel that is none any more


class Search(NamedTuple):
    """Where L-BFGS stands in each image by itself; F = H W C.

    Attributes:
      x, value, gradient: [B, F], [B], [B, F] at the last point accepted.
      towards, length: [B, F], [B], the direction from there, and how far along it the next trial lies.
      count: [B] pairs remembered so far, the forgotten ones included.
      done: [B] whether nothing leads down any more.
    """

    x: Array
    value: Array
    gradient: Array
    towards: Array
    length: Array
    count: Array
    done: Array


def dot(a: Array, b: Array) -> Array:
    """Sum of the products over the last axis."""
    return (a * b).sum(-1)


def newton_step(gradient: Array, s: Array, y: Array, count: Array) -> Array:
    """The inverse Hessian of the pairs times `gradient` (Nocedal 1980), [B, F].

    Args:
      gradient: [B, F].
      s, y: [P, B, F], the last P steps and changes of the gradient, pair i at i modulo P; zeros where there is none yet.
      count: [B] pairs written.
    """
    batch, ages = jnp.arange(len(gradient)), 1 + jnp.arange(len(s))

    def pair(age):
        place = (count - age) % len(s)
        step, change = s[place, batch], y[place, batch]
        curvature = dot(step, change)
        return step, change, jnp.where(curvature > 0, 1 / jnp.where(curvature > 0, curvature, 1.0), 0.0)

    def backward(q, age):
        step, change, rho = pair(age)
        alpha = rho * dot(step, q)
        return q - alpha[:, None] * change, alpha

    def forward(r, age_alpha):
        age, alpha = age_alpha
        step, change, rho = pair(age)
        return r + (alpha - rho * dot(change, r))[:, None] * step, None

    q, alphas = jax.lax.scan(backward, gradient, ages)
    _, change, rho = pair(1)
    size = rho * dot(change, change)
    q *= jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1.0), 1.0)[:, None]
    return jax.lax.scan(forward, q, (ages, alphas), reverse=True)[0]


def next_trial(search: Search, s: Array, y: Array) -> Search:
    """Sets out from the point just accepted: the direction down, among the pixels that it does not press against a bound."""
    x, gradient = search.x, search.gradient
    free = ~(((x <= 0) & (gradient > 0)) | ((x >= 1) & (gradient < 0)))
    gradient = jnp.where(free, gradient, 0.0)
    towards = -jnp.where(free, newton_step(gradient, s, y, search.count), 0.0)
    size = jnp.sqrt(dot(gradient, gradient))
    newton = (search.count > 0) & (dot(towards, gradient) < 0)
    length = jnp.where(newton, 1.0, 1 / jnp.maximum(size, CONVERGED))
    done = search.done | (size <= CONVERGED)
    return search._replace(towards=choose(newton, towards, -gradient), length=length, done=done)


def lbfgs(
    apply_fn: ApplyFn,
    num_searches: int = 10,
    num_evaluations: int = 50,
    initial_c: float = 1.0,
    num_pairs: int = 10,
    loss: Callable[[Array, Array], Array] = softmax_cross_entropy_with_integer_labels,
) -> Attack:
    """Minimises c ||r||_2 + loss_f(x + r, l) subject to x + r in [0, 1], with the LARGEST c whose minimiser still fools.

    l is the target, and without `targets` the likeliest class besides the label, where any wrong class fools. c is searched for
    each image by itself: times or over 10 until one c succeeds and one does not, from then on by bisection in log c. (One reads
    that c is increased until the attack succeeds. That cannot work: the larger c is, the smaller r; what succeeds for every
    small c fails for large ones.)
    Returned is the nearest image that fools the target, of all that were evaluated; where there is none, the one closest to it.

    The minimiser is L-BFGS with projection: pixels at a bound that the gradient presses on stay, the others move along the
    quasi-Newton direction, and are cut to [0, 1]. Each image has pairs and a line search (Armijo, backtracking by a parabola)
    of its own, and one evaluation of the batch is one trial for each image, so that none waits for another's line search.
    Optax's L-BFGS is not used: it knows no bounds, and mapped over images every one waits for the longest line search.

    Memory: 2 num_pairs times the batch.

    It is good where the loss is smooth and slopes at the image itself. On networks that saturate it is no measure of
    robustness: on MNIST networks trained adversarially in L-inf its median 2-norm is 4.3, where DDN finds 1.9; on digits behind
    a steep sigmoid it is 1.1 times that of `fab`. `fab` or `autoattack` measure it.

    Defaults: all ours, the paper gives none.

    Args:
      apply_fn: the target.
      num_searches: values of c tried.
      num_evaluations: gradients for each of them, at most; an image whose minimiser is found takes no more.
      initial_c: the first c.
      num_pairs: steps that L-BFGS remembers.
      loss: `(logits, labels) -> [B]`, loss_f.

    Raises:
      ValueError: numbers that are not positive, or c not finite.
    """
    if min(num_searches, num_evaluations, num_pairs) < 1:
        counts = f"num_searches is {num_searches}, num_evaluations {num_evaluations}, num_pairs {num_pairs}"
        raise ValueError(f"{counts}; all must be positive")
    if not 0 < initial_c < float("inf"):
        raise ValueError(f"initial_c is {initial_c}; choose it > 0, and finite")
    apply_fn = matched(apply_fn)

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        del key
        clean = images.reshape(len(images), -1)
        batch = jnp.arange(len(images))
        logits = apply_fn(variables, images)
        goal = runner_up(logits, labels) if targets is None else targets
        nothing = jnp.zeros(labels.shape, clean.dtype)

        def objective(x, c):
            logits = apply_fn(variables, x.reshape(images.shape))
            squares = jnp.square(x - clean).sum(-1)
            # The root of 0 has no gradient.
            value = c * jnp.sqrt(squares + 1e-10) + loss(logits, goal)
            return value.sum(), (value, margin_to_fool(logits, labels, targets), jnp.sqrt(squares))

        def one_evaluation(c, carry):
            step, search, s, y, works, best, used = carry
            trial = jnp.clip(search.x + search.length[:, None] * search.towards, 0.0, 1.0)
            gradient, (value, margin, distance) = jax.grad(objective, has_aux=True)(trial, c)
            best = choose(~search.done & nearer((trial, margin, distance), best), (trial, margin, distance), best)
            used += ~search.done

            moved, change = trial - search.x, gradient - search.gradient
            slope = dot(search.gradient, moved)
            accepted = ~search.done & (slope < 0) & (value <= search.value + DECREASE * slope)
            useful = accepted & (dot(moved, change) > CONVERGED * dot(moved, moved))
            place = jnp.where(useful, search.count % num_pairs, num_pairs)
            s, y = s.at[place, batch].set(moved, mode="drop"), y.at[place, batch].set(change, mode="drop")

            found = search.value - value <= CONVERGED * jnp.maximum(jnp.abs(value), 1.0)
            onward = Search(trial, value, gradient, trial, nothing, search.count + useful, found)
            rise = value - search.value - slope
            shorter = search.length * jnp.clip(-slope / jnp.where(rise > 0, 2 * rise, 1.0), 0.1, 0.5)
            stuck = shorter * jnp.abs(search.towards).max(-1) < CONVERGED
            back = search._replace(length=shorter, done=search.done | stuck)
            search = choose(accepted, next_trial(onward, s, y), back)
            return step + 1, search, s, y, jnp.where(accepted, margin < 0, works), best, used

        def one_search(carry, _):
            c, works, fails, best, used = carry
            pairs = jnp.zeros((num_pairs, *clean.shape), clean.dtype)
            gradient, (value, margin, _) = jax.grad(objective, has_aux=True)(clean, c)
            start = Search(clean, value, gradient, clean, nothing, jnp.zeros_like(labels), margin < 0)
            state = 0, next_trial(start, pairs, pairs), pairs, pairs, margin < 0, best, used + 1
            going = lambda state: (state[0] < num_evaluations) & ~state[1].done.all()  # noqa: E731
            *_, fooled, best, used = jax.lax.while_loop(going, lambda state: one_evaluation(c, state), state)
            works, fails = jnp.where(fooled, c, works), jnp.where(fooled, fails, c)
            between = jnp.sqrt(works) * jnp.sqrt(fails)
            c = jnp.where(works == 0, c / 10, jnp.where(jnp.isinf(fails), c * 10, between))
            return (c, works, fails, best, used), None

        best = clean, margin_to_fool(logits, labels, targets), nothing
        start = nothing + initial_c, nothing, nothing + jnp.inf, best, jnp.zeros(labels.shape, jnp.int32)
        (_, _, _, best, used), _ = jax.lax.scan(one_search, start, None, num_searches)
        return attack_result(apply_fn, variables, images, best[0].reshape(images.shape), labels, targets, used)

    return checked(apply_fn, attack)


def nearer(new: tuple[Array, Array, Array], old: tuple[Array, Array, Array]) -> Array:
    """Whether new (x, margin, distance) is better than old, [B]: fools from a smaller distance; fools; is closer to fooling."""
    (_, margin, distance), (_, old_margin, old_distance) = new, old
    closer = jnp.where(old_margin < 0, distance < old_distance, True)
    return jnp.where(margin < 0, closer, (old_margin >= 0) & (margin < old_margin))
