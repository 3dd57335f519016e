"""AdvGAN (Xiao et al. 2018, arXiv:1801.02610): a generator that perturbs, a discriminator that wants it to look real."""

import jax
import jax.numpy as jnp

from mgan_jax.attacks.entry import checked_learned, sheltered
from mgan_jax.attacks.result import attack_result, learned_targets
from mgan_jax.inputs import as_images
from mgan_jax.losses import label_entropy, least_squares, margin, norm_hinge, targeted_hinge, untargeted_hinge
from mgan_jax.types import ApplyFn, Array, AttackResult, GenerativeAttack, GeneratorStep, Network

HINGES = ("leave", "reach")
MARGIN_GAIN = 0.01
DIVERSITY_GAIN = 0.02
DIVERSITY_BOUNDS = (0.05, 10.0)


def advgan(
    apply_fn: ApplyFn,
    generator: Network,
    discriminator: Network,
    alpha: float = 0.1,
    hinge_weight: float = 0.0,
    hinge_bound: float = 3.0,
    kappa: float = 0.0,
    hinge: str = "leave",
    match_margin: float = 0.0,
    diversity_weight: float = 0.0,
    target_entropy: float | None = None,
    mean_margin: float | None = None,
    target_label: int | None = None,
) -> GenerativeAttack:
    """x_adv = clip(x + G(x), 0, 1), trained with L = L_adv + alpha L_GAN + hinge_weight L_hinge (equations 1 to 4).

    L_adv is the hinge of Carlini & Wagner on the target's logits, L_GAN the least-squares loss, L_hinge bounds ||G(x)||_2.
    `hinge`, `match_margin` and `diversity_weight` are ours; their defaults leave AdvGAN as published.

    Defaults: the paper gives no weights: alpha and hinge_bound are ours. L_hinge, which it adds, is off, as in MGAN's slides.

    Args:
      apply_fn: the target.
      generator: images -> perturbations within epsilon, as `models.generator`.
      discriminator: images -> scores [B].
      alpha: weight of L_GAN.
      hinge_weight: weight of L_hinge; 0 leaves the formula of MGAN's slides.
      hinge_bound: c of L_hinge, a 2-norm in units of pixels in [0, 1].
      kappa: margin on the logits that L_adv asks for.
      hinge: what an untargeted L_adv wants: "leave" the true class, which is content between two wrong classes; or "reach"
        the wrong class that the target likes best at the moment, by kappa above all others.
      match_margin: ask each image for kappa more than this share of the margin of its own clean form; 1: as confident as
        the clean image.
      diversity_weight: weight of the entropy of the batch's mean softmax, in nats, which is to be large: against a
        generator that sends every image to one class.
      target_entropy: where given, the logarithm of the diversity weight moves in every step by a fiftieth of what the entropy
        lacks of this many nats: diverse labels at the least cost in stability.
      mean_margin: where given, kappa is adapted in every step until the mean margin by which the samples are misclassified
        has this value: the control that is as confident as another attack.
      target_label: the class to reach; None: any but the true one.

    Returns:
      A `GenerativeAttack`; its `state['balance']` holds `kappa`, what adapts it, `match`, the share of the clean margin, and
      `diversity`, the weight of the entropy.

    Raises:
      ValueError: a negative weight or kappa, or another hinge.
    """
    for name, value in (
        ("alpha", alpha),
        ("hinge_weight", hinge_weight),
        ("kappa", kappa),
        ("diversity_weight", diversity_weight),
        ("match_margin", match_margin),
        ("target_entropy", target_entropy or 0.0),
    ):
        if value < 0:
            raise ValueError(f"{name} is {value}; choose it >= 0")
    if target_entropy is not None and not diversity_weight:
        raise ValueError("diversity_weight is 0; a target_entropy needs a first weight above 0")
    if hinge not in HINGES:
        raise ValueError(f"hinge is {hinge!r}; choose one of {', '.join(HINGES)}")
    classify = sheltered(apply_fn)

    def init(key: Array, image_shape: tuple[int, int, int]) -> dict:
        generator_key, discriminator_key = jax.random.split(key)
        return {
            "generator": generator.init(generator_key, image_shape),
            "discriminator": discriminator.init(discriminator_key, image_shape),
            "balance": {
                "kappa": jnp.float32(kappa),
                "match": jnp.float32(match_margin),
                "diversity": jnp.float32(diversity_weight),
                "mean_margin": jnp.float32(0.0 if mean_margin is None else mean_margin),
                "gain": jnp.float32(0.0 if mean_margin is None else MARGIN_GAIN),
            },
        }

    def generator_loss(generator_variables, state, key, step, variables, images, labels) -> tuple[Array, GeneratorStep]:
        del key, step
        perturbation = generator.apply(generator_variables, images)
        adversarial = jnp.clip(images + perturbation, 0.0, 1.0)
        logits = classify(variables, adversarial)
        asked = state["balance"]["kappa"]
        if match_margin:
            clean_logits = classify(variables, images)
            asked += state["balance"]["match"] * margin(clean_logits, clean_logits.argmax(-1))
        if target_label is not None:
            adversarial_loss = targeted_hinge(logits, jnp.full_like(labels, target_label), asked)
            fooled = logits.argmax(-1) == target_label
        else:
            if hinge == "reach":
                true = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
                adversarial_loss = targeted_hinge(logits, jnp.where(true, -jnp.inf, logits).argmax(-1), asked)
            else:
                adversarial_loss = untargeted_hinge(logits, labels, asked)
            fooled = logits.argmax(-1) != labels
        gan_loss = least_squares(discriminator.apply(state["discriminator"], adversarial), 1.0)
        loss = adversarial_loss + alpha * gan_loss
        if hinge_weight:
            loss += hinge_weight * norm_hinge(perturbation, hinge_bound)
        entropy = label_entropy(logits)
        loss -= state["balance"]["diversity"] * entropy
        reached = margin(logits, logits.argmax(-1)).mean()
        # Numbers of the state, not of the program: with and without a mean margin one compiled step serves.
        missing = state["balance"]["mean_margin"] - jax.lax.stop_gradient(reached)
        kappa_next = jnp.maximum(state["balance"]["kappa"] + state["balance"]["gain"] * missing, 0.0)
        balance = {**state["balance"], "kappa": kappa_next}
        if target_entropy is not None:
            step_size = DIVERSITY_GAIN * (target_entropy - jax.lax.stop_gradient(entropy))
            balance["diversity"] = jnp.clip(balance["diversity"] * jnp.exp(step_size), *DIVERSITY_BOUNDS)
        metrics = {
            "loss": loss,
            "adversarial_loss": adversarial_loss,
            "gan_loss": gan_loss,
            "misclassification": fooled.mean(),
            "label_entropy": entropy,
            "margin": reached,
        }
        return loss, GeneratorStep(adversarial, logits, balance, metrics)

    def discriminator_loss(discriminator_variables, images, adversarial) -> Array:
        real, fake = (discriminator.apply(discriminator_variables, x) for x in (images, adversarial))
        return (least_squares(real, 1.0) + least_squares(fake, 0.0)) / 2

    def perturb(state, images: Array, scale: Array | float = 1.0) -> Array:
        images = as_images(images)
        return jnp.clip(images + scale * generator.apply(state["generator"], images), 0.0, 1.0)

    def attack(state, key, variables, images, labels, targets=None) -> AttackResult:
        del key
        targets = learned_targets(targets, target_label, labels)
        return attack_result(apply_fn, variables, images, perturb(state, images), labels, targets)

    return GenerativeAttack(init, generator_loss, discriminator_loss, perturb, checked_learned(apply_fn, attack), apply_fn)
