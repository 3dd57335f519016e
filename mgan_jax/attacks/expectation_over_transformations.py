"""Attack on the mean over what a defense draws at random (Athalye et al. 2018, arXiv:1802.00420, section 4.2)."""

from collections.abc import Callable

import jax
from optax import softmax_cross_entropy_with_integer_labels

from mgan_jax import engine
from mgan_jax.attacks.entry import checked
from mgan_jax.attacks.result import attack_result
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Variables


def expectation_over_transformations(
    apply_fn: ApplyFn,
    make_attack: Callable[..., Attack],
    redraw: Callable[[Array, Variables], Variables],
    num_draws: int = 10,
    method: str = "auto",
    every_step: bool = False,
) -> Attack:
    """An attack on E over t of f(t(x)), t what the defense draws: the gradient of the mean is the mean of the gradients.

    For attackers who know how a defense draws, not what it drew: they draw `num_draws` times themselves and attack the mean of
    the logits f. Who knows the draws attacks `apply_fn` itself. As published, every step has draws of its own, `every_step`;
    that takes an attack whose loss is given the key and the step, as `pgd`'s is. All others see no key in their steps: they
    get one set of draws a batch, to which an attack can overfit.

    Defaults: num_draws is ours, the paper gives none; its every_step is True, which not all attacks can do.

    Args:
      apply_fn: the defended network, which finds its draws in its variables.
      make_attack: `make_attack(apply_fn) -> attack`, on the mean; it bounds the change, by one epsilon. With `every_step` it is
        called as `make_attack(apply_fn, loss=loss)`, `loss` as in `pgd`, the cross-entropy of the step's own mean; `apply_fn`,
        the mean over draws once a batch, then only says which iterate is best.
      redraw: `redraw(key, variables) -> variables` with other draws, as in `Defense`.
      num_draws: of the attacker, each a pass of the network and its gradient in every step.
      method: as in `engine.evaluate`.
      every_step: whether each gradient is taken with other draws.

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

    def redrawn(key: Array, variables: Variables) -> Variables:
        return jax.vmap(redraw, in_axes=(0, None))(jax.random.split(key, num_draws), variables)

    def loss(key: Array, step: Array, drawn: Variables, images: Array, logits: Array, goal: Array) -> Array:
        del logits
        # Whichever draw is replaced by others, they are the same.
        others = redrawn(jax.random.fold_in(key, step), jax.tree.map(lambda leaf: leaf[0], drawn))
        return softmax_cross_entropy_with_integer_labels(expected(others, images), goal)

    crafting = make_attack(expected, loss=loss) if every_step else make_attack(expected)

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        draw_key, craft_key = jax.random.split(key)
        made = crafting(craft_key, redrawn(draw_key, variables), images, labels, targets)
        return attack_result(apply_fn, variables, images, made.adversarial, labels, targets, num_draws * made.used)

    return checked(apply_fn, attack)
