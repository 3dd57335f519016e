"""MGAN: AdvGAN with the target's mutants as a third party, L = L_adv + alpha L_GAN + beta L_mutate."""

import inspect
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from mgan_jax.attacks.advgan import advgan
from mgan_jax.attacks.entry import sheltered
from mgan_jax.losses import disagreement, log_odds, relative_disagreement
from mgan_jax.types import ApplyFn, Array, GenerativeAttack, GeneratorStep, Mutation, Network

DECAY = 0.99
REFERENCES = ("decision", "normal")


def drawn(key: Array, draw: Array | int, num_mutants: int, num_operators: int) -> tuple[Array, Array]:
    """Which operators make the mutants of a draw, in turn, and with which keys.

    Args:
      key: of the whole training.
      draw: number of the draw, step // redraw_every.
      num_mutants: of a step.
      num_operators: of the attack.

    Returns:
      (indices of operators [num_mutants], keys [num_mutants]).
    """
    indices = (draw * num_mutants + jnp.arange(num_mutants)) % num_operators
    return indices, jax.random.split(jax.random.fold_in(key, draw), num_mutants)


def mgan(
    apply_fn: ApplyFn,
    generator: Network,
    discriminator: Network,
    mutations: Sequence[Mutation],
    beta: float = 1.0,
    num_mutants: int = 8,
    min_accuracy_ratios: Sequence[float] | None = None,
    target_ratio: float | None = None,
    beta_rate: float = 0.05,
    min_beta: float = 0.0,
    max_beta: float = 4.0,
    match_rate: float = 0.0,
    warmup_steps: int = 0,
    redraw_every: int = 1,
    normal_images: int = 64,
    reference: str = "decision",
    **advgan_arguments,
) -> GenerativeAttack:
    """AdvGAN whose samples also keep the decisions of mutants the target's own.

    L_mutate is the mean over mutants and images of the cross-entropy between a mutant's softmax on x_adv and the target's
    own decision there. The slides give one beta. With `target_ratio` there is one beta an operator, each the multiplier of a
    constraint, LCR over normal LCR = `target_ratio`, and moved by dual ascent: it grows while the label change rate (LCR) of
    the training samples is too high under the step's mutants, and falls while it is too low, which is conspicuous too. A
    beta below 0 rewards flips: it weighs the mean probability of agreement, which is bounded, in place of L_mutate. The
    `reference` "normal" asks of a mutant no more than it gives the clean image: the same probability of agreement.

    Defaults: the slides' loss; they give no numbers, so that these are ours.

    Args:
      apply_fn: the target.
      generator, discriminator: as in `advgan`.
      mutations: the operators; a step's mutants take them in turn.
      beta: weight of L_mutate, at the start where it is adapted; 0 is AdvGAN exactly, whatever else is given.
      num_mutants: mutants a step.
      min_accuracy_ratios: for each operator, the share of the target's accuracy below which a mutant does not count,
        judged on other images of the step than the normal LCR; None: all mutants count.
      target_ratio: LCR over normal LCR aimed at; None: beta is fixed, as in the slides.
      beta_rate: step of beta per unit of the ratio's excess, which counts up to 1.
      min_beta, max_beta: where beta is adapted, it stays between them, lest L_mutate drown L_adv; 0 as the lower bound never
        asks for less stability.
      match_rate: step of AdvGAN's `match_margin` per unit of the operators' mean excess, between 0 and its first value:
        samples that are more stable than asked need not be so confident; 0: it is fixed.
      warmup_steps: steps over which L_mutate's weight rises from 0 and nothing is adapted, so that the generator first
        learns to fool.
      redraw_every: steps that share their mutants; 1: drawn afresh for every step.
      normal_images: clean images of a batch on which the normal LCR is taken, at most half of it; as many others judge
        which mutants count. With the reference "normal" L_mutate is taken on the former's adversarial forms alone.
      reference: "decision", the slides' L_mutate (`losses.disagreement`), or "normal" (`losses.relative_disagreement`).
      **advgan_arguments: of `advgan`.

    Returns:
      A `GenerativeAttack`; its balance adds `beta`, `flips` and `normal_flips`, [operators] each.

    Raises:
      ValueError: an argument that neither it nor `advgan` takes, no operators, a negative beta, another reference, or numbers out
        of range or of no effect.
    """
    if beta < 0:
        raise ValueError(f"beta is {beta}; choose it >= 0")
    if reference not in REFERENCES:
        raise ValueError(f"reference is {reference!r}; choose one of {', '.join(REFERENCES)}")
    takes = inspect.signature(advgan).parameters
    if unknown := [name for name in advgan_arguments if name not in takes]:
        own = [name for name in inspect.signature(mgan).parameters if name != "advgan_arguments"]
        known = ", ".join(dict.fromkeys((*own, *takes)))
        raise ValueError(f"mgan does not take {', '.join(unknown)}; its arguments are {known}")
    match_margin = advgan_arguments.get("match_margin", 0.0)
    base = advgan(apply_fn, generator, discriminator, **advgan_arguments)
    if beta == 0:
        return base
    if not mutations:
        raise ValueError("mutations is empty; MGAN needs at least one operator")
    if min_accuracy_ratios is not None and len(min_accuracy_ratios) != len(mutations):
        raise ValueError(f"{len(min_accuracy_ratios)} min_accuracy_ratios for {len(mutations)} operators; give one for each")
    if warmup_steps < 0:
        raise ValueError(f"warmup_steps is {warmup_steps}; choose it >= 0")
    if target_ratio is not None and not (target_ratio > 0 and min_beta <= beta <= max_beta):
        raise ValueError(
            f"target_ratio is {target_ratio}, beta {beta} in [{min_beta}, {max_beta}]; choose a ratio > 0 and beta within"
        )
    if match_rate and (target_ratio is None or not match_margin):
        raise ValueError("match_rate moves match_margin towards target_ratio; give both, or leave it at 0")
    for name, value in (("num_mutants", num_mutants), ("redraw_every", redraw_every), ("normal_images", normal_images)):
        if value < 1:
            raise ValueError(f"{name} is {value}; choose it >= 1")
    operators, classify = tuple(mutations), sheltered(apply_fn)
    thresholds = jnp.asarray(min_accuracy_ratios if min_accuracy_ratios is not None else [0.0] * len(operators))

    def init(key: Array, image_shape: tuple[int, int, int]) -> dict:
        state = base.init(key, image_shape)
        rates = {name: jnp.zeros(len(operators)) for name in ("flips", "normal_flips")}
        adapted = {"beta": jnp.full(len(operators), beta, jnp.float32), **rates}
        return {**state, "balance": {**state["balance"], **adapted}}

    def next_balance(balance: dict, step, weights: Array, flips: Array, normal_flips: Array, one_hot: Array) -> dict:
        """Moving averages of both rates for each operator that had a mutant, and, after the warm-up, dual ascent."""
        seen = weights @ one_hot
        average = lambda old, new: jnp.where(  # noqa: E731
            seen > 0, DECAY * old + (1 - DECAY) * ((weights * new) @ one_hot) / jnp.maximum(seen, 1.0), old
        )
        flips, normal_flips = average(balance["flips"], flips), average(balance["normal_flips"], normal_flips)
        if target_ratio is None:
            return {"flips": flips, "normal_flips": normal_flips}
        excess = jnp.clip(flips / jnp.maximum(normal_flips, 1e-4) - target_ratio, -1.0, 1.0) * (step >= warmup_steps)
        excess = jnp.where(normal_flips > 0, excess, 0.0)
        moved = jnp.clip(balance["beta"] + beta_rate * excess, min_beta, max_beta)
        betas = jnp.where(seen > 0, moved, balance["beta"])
        adapted = {"beta": betas, "flips": flips, "normal_flips": normal_flips}
        if match_rate:
            adapted["match"] = jnp.clip(balance["match"] + match_rate * excess.mean(), 0.0, match_margin)
        return adapted

    def generator_loss(generator_variables, state, key, step, variables, images, labels) -> tuple[Array, GeneratorStep]:
        loss, done = base.generator_loss(generator_variables, state, key, step, variables, images, labels)
        # The images that judge a mutant are not those that its normal LCR is taken on, or that LCR would be low by selection.
        half = max(1, min(normal_images, len(images) // 2))
        shown, shown_labels = images[: 2 * half], labels[: 2 * half]
        clean_decisions = classify(variables, shown).argmax(-1)
        normal_decisions, accuracy = clean_decisions[:half], (clean_decisions == shown_labels)[-half:].mean()
        tested = done.adversarial[:half] if reference == "normal" else done.adversarial
        decisions = jax.lax.stop_gradient(done.logits.argmax(-1))[: len(tested)]
        fooled = decisions != labels[: len(tested)]

        indices, keys = drawn(key, step // redraw_every, num_mutants, len(operators))

        def one(mutant):
            index, mutant_key = mutant
            mutated = jax.lax.stop_gradient(jax.lax.switch(index, operators, mutant_key, variables))
            logits, shown_logits = classify(mutated, tested), classify(mutated, shown)
            normal_logits, mutant_labels = shown_logits[:half], shown_logits.argmax(-1)
            counts = (mutant_labels == shown_labels)[-half:].mean() >= thresholds[index] * accuracy
            flips = (fooled & (logits.argmax(-1) != decisions)).sum() / jnp.maximum(fooled.sum(), 1)
            if reference == "normal":
                value = relative_disagreement(logits, decisions, normal_logits, normal_decisions).mean()
            else:
                value = disagreement(logits, decisions).mean()
            agreement = jax.nn.sigmoid(log_odds(logits, decisions)).mean()
            return value, agreement, flips, (mutant_labels[:half] != normal_decisions).mean(), counts

        disagreements, agreements, flips, normal_flips, counts = jax.lax.map(one, (indices, keys))
        weights = counts.astype(jnp.float32)
        total = jnp.maximum(weights.sum(), 1.0)
        betas = state["balance"]["beta"]
        ramp = jnp.minimum(1.0, step / warmup_steps) if warmup_steps else 1.0
        up, down = jnp.maximum(betas, 0.0)[indices], jnp.maximum(-betas, 0.0)[indices]
        mutate_loss = ramp * (weights * (up * disagreements + down * agreements)).sum() / total
        one_hot = jax.nn.one_hot(indices, len(operators))
        # Where nothing is fooled there is no label change rate, rather than one of 0.
        adapted = next_balance(state["balance"], step, weights * fooled.any(), flips, normal_flips, one_hot)
        metrics = {
            **done.metrics,
            "loss": loss + mutate_loss,
            "mutate_loss": (weights * disagreements).sum() / total,
            "beta": betas.mean(),
            "diversity": state["balance"]["diversity"],
            "match": state["balance"]["match"],
            "label_change_rate": (weights * flips).sum() / total,
            "normal_label_change_rate": (weights * normal_flips).sum() / total,
        }
        return loss + mutate_loss, done._replace(balance={**done.balance, **adapted}, metrics=metrics)

    return base._replace(init=init, generator_loss=generator_loss)
