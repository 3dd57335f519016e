"""PGD whose loss averages over mutants: MGAN without a generator, the control that shows what the generator adds."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mgan_jax.attacks.entry import checked
from mgan_jax.attacks.mgan import drawn
from mgan_jax.attacks.pgd import pgd, run_keys
from mgan_jax.losses import disagreement, margin
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Mutation, Variables


def drawn_in_batch(key: Array, num_steps: int, num_mutants: int, num_operators: int) -> tuple[Array, Array]:
    """Which operators make the mutants of all steps of an attack on a batch, and with which keys.

    Args:
      key: the attack's.
      num_steps, num_mutants: as in `pgd_mutants`.
      num_operators: how many it has.

    Returns:
      (indices of operators [num_steps, num_mutants], keys [num_steps, num_mutants]).
    """
    _, loss_key = run_keys(key)
    return jax.vmap(lambda step: drawn(loss_key, step, num_mutants, num_operators))(jnp.arange(num_steps))


def pgd_mutants(
    apply_fn: ApplyFn,
    mutations: Sequence[Mutation],
    beta: float = 1.0,
    num_mutants: int = 4,
    kappa: float = 0.0,
    epsilon: float = 0.3,
    num_steps: int = 40,
    step_size: float | str | None = "published",
) -> Attack:
    """Descends max(z_y - max_{i != y} z_i, -kappa) + beta L_mutate with the steps of `pgd`; untargeted.

    All mutants count, those too that MGAN would leave out for their accuracy.

    Defaults: those of `pgd`; beta, num_mutants and kappa are ours.

    Args:
      apply_fn: the target.
      mutations: the operators; mutants are drawn afresh in every step and take them in turn.
      beta: weight of L_mutate, the mean over mutants of the cross-entropy with the target's own decision.
      num_mutants: mutants a step.
      kappa: margin on the logits.
      epsilon, num_steps, step_size: as in `pgd`.

    Raises:
      ValueError: no operator, or numbers out of range; of the attack: targets.
    """
    if not mutations or num_mutants < 1 or beta < 0:
        raise ValueError(f"{len(mutations)} operators, {num_mutants} mutants, beta {beta}; choose >= 1, >= 1 and >= 0")
    operators = tuple(mutations)

    def loss(key: Array, step: Array, variables: Variables, images: Array, logits: Array, goal: Array) -> Array:
        decisions = jax.lax.stop_gradient(logits.argmax(-1))
        indices, keys = drawn(key, step, num_mutants, len(operators))

        def one(mutant):
            index, mutant_key = mutant
            mutated = jax.lax.stop_gradient(jax.lax.switch(index, operators, mutant_key, variables))
            return disagreement(apply_fn(mutated, images), decisions)

        return -jnp.maximum(margin(logits, goal), -kappa) - beta * jax.lax.map(one, (indices, keys)).mean(0)

    descend = pgd(apply_fn, epsilon, num_steps, step_size, loss=loss)

    def attack(key, variables, images, labels, targets=None) -> AttackResult:
        if targets is not None:
            raise ValueError("pgd_mutants is untargeted; leave targets out")
        return descend(key, variables, images, labels)

    return checked(apply_fn, attack)
