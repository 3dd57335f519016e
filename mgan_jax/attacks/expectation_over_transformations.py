"""Attack on the mean over what a defense draws at random (Athalye et al. 2018, arXiv:1802.00420, section 4.2)."""

from collections.abc import Callable

import jax

from mgan_jax import engine
from mgan_jax.attacks.entry import checked
from mgan_jax.attacks.result import attack_result
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Variables


def expectation_over_transformations(
    apply_fn: ApplyFn,
    make_attack: Callable[[ApplyFn], Attack],
    redraw: Callable[[Array, Variables], Variables],
    num_draws: int = 10,
    method: str = "auto",
) -> Attack:
    """An attack on E over t of f(t(x)), t what the defense draws: the gradient of the mean is the mean of the gradients.

    For attackers who know how a defense draws, not what it drew: they draw `num_draws` times themselves, once a batch, and attack
    the mean of the logits f. Who knows the draws attacks `apply_fn` itself.

    Args:
      apply_fn: the defended network, which finds its draws in its variables.
      make_attack: `make_attack(apply_fn) -> attack`, on the mean; it bounds the change, by one epsilon.
      redraw: `redraw(key, variables) -> variables` with other draws, as in `Defense`.
      num_draws: of the attacker, each a pass of the network and its gradient in every step.
      method: as in `engine.evaluate`.

    Returns:
      An `Attack`; success is that on `apply_fn` with the variables given, whose draws the attack has not seen. `used` counts
      gradients or queries of all draws.

    Raises:
      ValueError: no draws, or a method that there is not.
    """
    if num_draws < 1:
        raise ValueError(f"num_draws is {num_draws}; choose at least 1")
    engine.chosen_method(method, apply_fn)

    def expected(variables: Variables, images: Array) -> Array:
        return engine.evaluate(apply_fn, variables, images, method=method).mean(0)

    crafting = make_attack(expected)

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        draw_key, craft_key = jax.random.split(key)
        drawn = jax.vmap(redraw, in_axes=(0, None))(jax.random.split(draw_key, num_draws), variables)
        made = crafting(craft_key, drawn, images, labels, targets)
        return attack_result(apply_fn, variables, images, made.adversarial, labels, targets, num_draws * made.used)

    return checked(apply_fn, attack)
