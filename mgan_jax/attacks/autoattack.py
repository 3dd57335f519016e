"""AutoAttack, the worst case over APGD, FAB and Square (Croce & Hein 2020, arXiv:2003.01690)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mgan_jax.attacks.apgd import apgd_within
from mgan_jax.attacks.ball import check_ball, swept
from mgan_jax.attacks.entry import checked, matched
from mgan_jax.attacks.fab import fab_within
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.attacks.slots import take
from mgan_jax.attacks.square import square_within
from mgan_jax.losses import margin_to_fool
from mgan_jax.types import ApplyFn, Attack, AttackResult


def autoattack(
    apply_fn: ApplyFn,
    epsilon: float | Sequence[float] = 0.3,
    norm: str = "linf",
    num_steps: int = 100,
    num_restarts: int = 1,
    num_target_classes: int = 9,
    num_queries: int = 5000,
    area: float = 0.8,
    group_size: int = 32,
) -> Attack:
    """APGD on cross-entropy, APGD on targeted DLR, targeted FAB, Square: each on the images that none before has fooled.

    These are the four attacks of the published standard version in its order, and the defaults are its numbers: 100 steps of
    APGD and FAB, one run (for each of 9 target classes), 5,000 queries of Square; draws are not those of the authors' code. FAB
    looks for the nearest image that fools, which counts only where it lies within epsilon. Targeted DLR needs four classes:
    with three, untargeted DLR takes its place (as it does not with `targets`), and with two there is none; FAB and
    cross-entropy do with any number, FAB with as many target classes as there are. With `targets`, every attack aims at them.

    The result is the worst case an image: what the first successful attack found, and where none succeeded, what came
    closest. Images that are left are gathered in groups, and only groups with such images are computed, inside one program:
    the later attacks cost what their images cost. `used` sums the gradients and the queries that an image got.

    Defaults: those of the authors' standard version.

    Args:
      apply_fn: the target.
      epsilon: radius of the ball; K of them give results [K, B, ...].
      norm: "linf" or "l2".
      num_steps, num_restarts, num_target_classes: of `apgd` and `fab`.
      num_queries, area: of `square`, which the paper gives 5,000 queries here; its schedule is that of 10,000, as in their code.
      group_size: images that the later attacks take at a time; changes draws and speed.

    Raises:
      ValueError: what `apgd`, `fab` and `square` refuse, or a group_size below 1.
    """
    check_ball(epsilon, norm)
    if group_size < 1:
        raise ValueError(f"group_size is {group_size}; choose a positive one")
    descents = {
        loss: apgd_within(apply_fn, norm, loss, num_steps, num_restarts, num_target_classes, momentum=0.75, rho=0.75)
        for loss in ("cross_entropy", "dlr", "targeted_dlr")
    }
    projections = fab_within(apply_fn, norm, num_steps, num_restarts, num_target_classes, alpha_max=0.1, eta=1.05, beta=0.9)
    search = square_within(apply_fn, norm, num_queries, area, num_slots=group_size, stretched=False)
    apply_fn = matched(apply_fn)

    def attack(epsilon, key, variables, images, labels, targets=None) -> AttackResult:
        num_classes = jax.eval_shape(apply_fn, variables, images).shape[-1]
        later = [projections, search]
        if num_classes > 3:
            later.insert(0, descents["targeted_dlr"])
        elif num_classes == 3 and targets is None:
            later.insert(0, descents["dlr"])
        batch = labels.shape[0]
        group = min(group_size, batch)

        def apply_stage(stage, stage_key, best):
            """One stage on the images that are left, whose indices come first in `order`, group by group."""
            left = best[1] >= 0
            order = jnp.argsort(~left)

            def one(g, best):
                # Places past the images that are left hold fooled ones: computed, but not written.
                place = g * group + jnp.arange(group)
                index = jnp.take(order, place, mode="clip")
                own = (place < batch) & take(left, index)
                aims = None if targets is None else take(targets, index)
                mine = take((images, labels), index)
                result = stage(epsilon, jax.random.fold_in(stage_key, g), variables, *mine, aims)
                distance = margin_to_fool(result.logits, mine[1], aims)
                x, old, used = take(best, index)
                found = choose(distance < old, (result.adversarial, distance), (x, old))
                put = lambda all_, part: all_.at[jnp.where(own, index, batch)].set(part, mode="drop")  # noqa: E731
                return jax.tree.map(put, best, (*found, used + result.used))

            return jax.lax.fori_loop(0, -(-left.sum() // group), one, best)

        first = descents["cross_entropy"](epsilon, jax.random.fold_in(key, 0), variables, images, labels, targets)
        best = first.adversarial, margin_to_fool(first.logits, labels, targets), first.used
        for i, stage in enumerate(later, 1):
            best = apply_stage(stage, jax.random.fold_in(key, i), best)
        return attack_result(apply_fn, variables, images, best[0], labels, targets, best[2])

    return checked(apply_fn, swept(attack, epsilon))
