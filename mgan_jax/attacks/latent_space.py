"""The attack on invert-and-classify in the latent space of its generator (Ilyas et al. 2017, arXiv:1712.09196)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import optax

from mgan_jax.attacks.ball import check_ball, project, swept
from mgan_jax.attacks.entry import cast, checked, matched
from mgan_jax.attacks.result import attack_result, choose
from mgan_jax.inversion import Decode, Descent, check_descent, invert
from mgan_jax.losses import margin, margin_to_fool
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Variables

WEIGHTS = (1e-4, 1e4)
SLACK = 1e-3


def of_defense(variables: Variables) -> Variables:
    """Where `defenses.invert_and_classify` keeps its generator."""
    return variables["defense"]["generator"]


def latent_space(
    apply_fn: ApplyFn,
    decode: Decode,
    classify: ApplyFn,
    code_size: int = 32,
    epsilon: float | Sequence[float] = 0.3,
    norm: str = "linf",
    num_steps: int = 200,
    learning_rate: float = 0.05,
    confidences: Sequence[float] = (1.0, 2.0, 4.0, 8.0),
    initial_weight: float = 1.0,
    weight_factor: float = 1.05,
    num_restarts: int = 4,
    inversion_steps: int = 100,
    inversion_rate: float = 0.1,
    generator: Callable[[Variables], Variables] = of_defense,
) -> Attack:
    """Looks for a code whose image is misclassified and as close to the ball around x as can be.

    max(margin of C(G(z)), -kappa) + w ||G(z) - P(G(z))||_2^2 is descended from z*(x), P the projection on the ball and [0, 1]: a
    defense that inverts x' = P(G(z)) finds z, if no code of the true class lies closer to x'. w, one number an image, grows by a
    factor in every step in which G(z) fools C by kappa and shrinks by it in every other: the search stays where it just does. A
    search ends with P(G(z)) of the z that fools by kappa with the smallest distance from the ball, or where none does, of the one
    of least margin. What kappa survives the inversion depends on the image: there is a search for each of several, and returned
    is the image that the defended classifier gets wrong by most.

    Defaults: epsilon is that of Madry et al. for MNIST; the others are ours, as the search with several kappas is.

    Args:
      apply_fn: what is attacked, a defense's `apply`.
      decode: G, `(variables, codes) -> images`.
      classify: C, the network behind the inversion, of the same variables as `apply_fn`; it is differentiated.
      code_size: K.
      epsilon: radius of the ball, in units of pixels in [0, 1]; K of them give results [K, B, ...] in one program.
      norm: "linf" or "l2".
      num_steps: of Adam on the codes.
      learning_rate: its rate.
      confidences: of each search, kappa as a multiple of the margin, in logits, by which C decides for the class of G(z*(x)).
      initial_weight: the first w.
      weight_factor: by which it changes.
      num_restarts, inversion_steps, inversion_rate: of the inversion of x by Adam, which gives z*(x).
      generator: where G's variables lie in those that are attacked.

    Raises:
      ValueError: epsilon out of range, another norm, numbers or rates that are not positive, a factor not above 1.
    """
    check_ball(epsilon, norm)
    apply_fn, decode, classify = matched(apply_fn), cast(decode), matched(classify)
    descent = Descent(inversion_steps, inversion_rate, 0.9, "adam")
    check_descent(descent)
    if num_steps < 1 or not learning_rate > 0 or not initial_weight > 0 or not weight_factor > 1:
        raise ValueError(
            f"num_steps is {num_steps}, learning_rate {learning_rate}, initial_weight {initial_weight}, weight_factor "
            f"{weight_factor}; choose steps, rate and weight > 0, the factor > 1"
        )
    if not confidences or min(confidences) < 0:
        raise ValueError(f"confidences is {tuple(confidences)}; choose at least one, all >= 0")
    if code_size < 1 or num_restarts < 1:
        raise ValueError(f"code_size is {code_size}, num_restarts {num_restarts}; choose them >= 1")
    transform = optax.adam(learning_rate)

    def attack(epsilon, key, variables, images, labels, targets=None) -> AttackResult:
        weights = generator(variables)
        starts = jax.random.normal(key, (num_restarts, code_size), images.dtype)
        first = invert(decode, weights, images, starts, descent).codes
        clean_logits = classify(variables, decode(weights, first))
        clean_margin = margin(clean_logits, clean_logits.argmax(-1))

        def search(kappa: Array) -> Array:
            def objective(codes: Array, weight: Array) -> tuple[Array, tuple[Array, ...]]:
                made = decode(weights, codes)
                inside = project(made, images, epsilon, norm)
                outside = jnp.square(made - jax.lax.stop_gradient(inside)).sum((1, 2, 3))
                distance = margin_to_fool(classify(variables, made), labels, targets) + kappa
                # A little beyond, so that there is a slope where the class changes.
                return (jnp.maximum(distance, -SLACK) + weight * outside).sum(), (inside, distance, outside)

            def keep(best, inside, distance, outside):
                """Ranked by the distance from the ball if it fools, else behind all that do, by the margin."""
                fools = distance < 0
                rank = jnp.where(fools, outside, distance)
                better = (fools & ~best[1]) | ((fools == best[1]) & (rank < best[2]))
                return choose(better, (inside, fools, rank), best)

            def step(_, carry):
                codes, state, weight, best = carry
                slope, found = jax.grad(objective, has_aux=True)(codes, weight)
                best = keep(best, *found)
                updates, state = transform.update(slope, state)
                weight = jnp.clip(weight * jnp.where(found[1] < 0, weight_factor, 1 / weight_factor), *WEIGHTS)
                return optax.apply_updates(codes, updates), state, weight, best

            best = images, jnp.zeros(labels.shape, bool), jnp.full(labels.shape, jnp.inf, images.dtype)
            carry = first, transform.init(first), jnp.full(labels.shape, initial_weight, images.dtype), best
            codes, _, weight, best = jax.lax.fori_loop(0, num_steps, step, carry)
            return keep(best, *objective(codes, weight)[1])[0]

        def one(best, confidence):
            adversarial = search(confidence * clean_margin)
            distance = margin_to_fool(apply_fn(variables, adversarial), labels, targets)
            return choose(distance < best[1], (adversarial, distance), best), None

        best = images, margin_to_fool(apply_fn(variables, images), labels, targets)
        (adversarial, _), _ = jax.lax.scan(one, best, jnp.asarray(confidences, images.dtype))
        used = num_steps * len(confidences)
        return attack_result(apply_fn, variables, images, adversarial, labels, targets, used=used)

    return checked(apply_fn, swept(attack, epsilon))
