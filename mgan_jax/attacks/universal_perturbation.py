"""Universal perturbation (Moosavi-Dezfooli et al. 2017, arXiv:1610.08401) by gradients (Shafahi et al., arXiv:1811.11304)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mgan_jax.attacks.ball import check_ball, direction, project, swept
from mgan_jax.attacks.entry import checked_fit, checked_learned, finite_gradient, matched
from mgan_jax.attacks.result import attack_result, learned_targets
from mgan_jax.losses import finite_rows, margin_to_fool
from mgan_jax.types import ApplyFn, Array, AttackResult, LearnedAttack, Variables

LOSSES = ("cross_entropy", "margin")


def universal_perturbation(
    apply_fn: ApplyFn,
    epsilon: float | Sequence[float] = 0.3,
    norm: str = "linf",
    classes: Sequence[int] | None = None,
    target_label: int | None = None,
    collateral_weight: float = 0.0,
    loss: str = "cross_entropy",
    beta: float = 2.0,
    num_steps: int = 400,
    step_size: float | None = None,
    batch_size: int = 100,
    num_restarts: int = 1,
) -> LearnedAttack:
    """One delta for all images: max over ||delta|| <= epsilon of mean_i min(l(x_i + delta, y_i), beta), by minibatches.

    Steps go along sign(g), in L2 along g / ||g||_2, and fall along a cosine to 0. (Adam, the best of Shafahi et al., gained
    nothing in L-inf, and in L2 ends elsewhere than at the optimum of a linear model.) Gradients are those of the clipped images
    clip(x + delta, 0, 1) and pass the clipping as if it were none: a pixel of delta that all images clip would otherwise have no
    gradient and never come back. Of several restarts the delta is kept that fools most of the images it was learned on, less
    `collateral_weight` times the share of the others that it misclassifies.

    How strong it is depends on the images that it is learned on, of which more and more various ones make it hold for others.

    Defaults: epsilon is that of Madry et al. for MNIST; the others are ours.

    Args:
      apply_fn: the target.
      epsilon: radius of delta's ball, in units of pixels in [0, 1]; K of them learn K deltas, and results are [K, B, ...].
      norm: "linf" or "l2".
      classes: only images of these classes are to be fooled; None: all. `metrics.fooling_rate` counts both sides.
      target_label: the class to reach; None: any but the true one.
      collateral_weight: weight of the cross-entropy of images of other classes, which is to stay small; of use with classes.
      loss: l, "cross_entropy", or "margin", max_{i != y} z_i - z_y; with a target their negatives for the target's class.
      beta: where l is cut, so that images that are fooled do not outweigh those that are not; Shafahi et al. take 9 for
        ImageNet. A targeted cross-entropy is bounded by 0 and not cut.
      num_steps: minibatches a restart.
      step_size: of the first step, in the units of epsilon; None: epsilon / 3.
      batch_size: images a step, drawn with replacement; as many of other classes join where collateral counts.
      num_restarts: runs from other random starts.

    Returns:
      A `LearnedAttack`; its state is `{"perturbation": delta [1, H, W, C]}`, and attacking takes no gradient.

    Raises:
      ValueError: epsilon out of range, another norm or loss, no class or the target among them, numbers out of range;
        of the attack: targets for a perturbation without target_label.
    """
    check_ball(epsilon, norm)
    if loss not in LOSSES:
        raise ValueError(f"loss is {loss!r}; choose one of {', '.join(LOSSES)}")
    if min(num_steps, batch_size, num_restarts) < 1 or not (step_size is None or 0 < step_size < float("inf")):
        raise ValueError(
            f"num_steps is {num_steps}, batch_size {batch_size}, num_restarts {num_restarts}, step_size {step_size}; "
            "all must be positive and finite"
        )
    if not beta > 0 or not collateral_weight >= 0:
        raise ValueError(f"beta is {beta}, collateral_weight {collateral_weight}; choose > 0 and >= 0")
    if classes is not None and (not len(classes) or target_label in classes):
        raise ValueError(f"classes is {tuple(classes)}, target_label {target_label}; choose other classes, at least one")
    if collateral_weight and classes is None:
        raise ValueError(f"collateral_weight is {collateral_weight}; it needs classes that leave others, or choose 0")
    apply_fn = matched(apply_fn)

    def inside(delta: Array, epsilon: Array) -> Array:
        if norm == "linf":
            return jnp.clip(delta, -epsilon, epsilon)
        length = jnp.linalg.norm(delta)
        return delta * jnp.minimum(1.0, epsilon / jnp.where(length > 0, length, 1.0))

    def climbed(logits: Array, labels: Array) -> Array:
        """What images to be fooled climb, [B]."""
        targets = None if target_label is None else jnp.full_like(labels, target_label)
        if loss == "margin":
            return jnp.minimum(-margin_to_fool(logits, labels, targets), beta)
        if targets is None:
            return jnp.minimum(optax.softmax_cross_entropy_with_integer_labels(logits, labels), beta)
        return -optax.softmax_cross_entropy_with_integer_labels(logits, targets)

    def fit(epsilon, key, variables, images, labels) -> dict[str, Array]:
        others = jnp.zeros(labels.shape, bool) if classes is None else ~jnp.isin(labels, jnp.asarray(classes))
        chosen = ~others if target_label is None else ~others & (labels != target_label)
        size = epsilon / 3 if step_size is None else step_size

        def rows(key: Array, mask: Array) -> Array:
            """Uniform draws, [batch_size], among the images where the mask holds; any image where it holds for none."""
            counts = jnp.cumsum(mask)
            place = jax.random.randint(key, (batch_size,), 0, jnp.maximum(counts[-1], 1))
            return jnp.minimum(jnp.searchsorted(counts, place, side="right"), len(mask) - 1)

        def gradient(key: Array, delta: Array) -> Array:
            if collateral_weight:
                index = jnp.concatenate([rows(k, mask) for k, mask in zip(jax.random.split(key), (chosen, others), strict=True)])
            else:
                index = rows(key, chosen)
            y = labels[index]

            def total(x):
                logits = apply_fn(variables, finite_gradient(x))
                kept = optax.softmax_cross_entropy_with_integer_labels(logits, y)
                parts = jnp.where(chosen[index], climbed(logits, y), -collateral_weight * jnp.where(others[index], kept, 0.0))
                return parts.sum()

            return jax.grad(total)(jnp.clip(images[index] + delta, 0.0, 1.0)).sum(0, keepdims=True)

        def run(key: Array) -> Array:
            start_key, batch_key = jax.random.split(key)

            def step(i, delta):
                g = gradient(jax.random.fold_in(batch_key, i), delta)
                falling = 0.5 * (1 + jnp.cos(jnp.pi * i / num_steps))
                return inside(delta + size * falling * direction(g, norm), epsilon)

            start = inside(epsilon * jax.random.normal(start_key, images[:1].shape, images.dtype), epsilon)
            return jax.lax.fori_loop(0, num_steps, step, start)

        def score(delta: Array) -> Array:
            """Share of the chosen images that are fooled, less the weighted share of the others that are misclassified."""

            def count(i, counts):
                index = i * batch_size + jnp.arange(batch_size)
                valid, index = index < len(labels), jnp.minimum(index, len(labels) - 1)
                logits = apply_fn(variables, jnp.clip(images[index] + delta, 0.0, 1.0))
                decisions, valid = logits.argmax(-1), valid & finite_rows(logits)
                wrong = decisions != labels[index]
                fooled = wrong if target_label is None else decisions == target_label
                return counts + jnp.stack([valid & chosen[index] & fooled, valid & others[index] & wrong]).sum(1)

            counts = jax.lax.fori_loop(0, -(-len(labels) // batch_size), count, jnp.zeros(2, jnp.int32))
            fooled, moved = counts / jnp.maximum(jnp.stack([chosen.sum(), others.sum()]), 1)
            return fooled - collateral_weight * moved

        if num_restarts == 1:
            return {"perturbation": run(key)}

        def restart(best, key):
            delta = run(key)
            new = delta, score(delta)
            return jax.tree.map(lambda n, o: jnp.where(new[1] > best[1], n, o), new, best), None

        none = jnp.zeros(images[:1].shape, images.dtype), jnp.float32(-jnp.inf)
        return {"perturbation": jax.lax.scan(restart, none, jax.random.split(key, num_restarts))[0][0]}

    def attack(state, key, variables: Variables, images, labels, targets=None) -> AttackResult:
        del key
        targets = learned_targets(targets, target_label, labels)

        def one(epsilon, delta):
            return attack_result(
                apply_fn, variables, images, project(images + delta, images, epsilon, norm), labels, targets, used=0
            )

        if np.ndim(epsilon) == 0:
            return one(epsilon, state["perturbation"])
        return jax.lax.map(lambda pair: one(*pair), (jnp.asarray(epsilon, jnp.float32), state["perturbation"]))

    return LearnedAttack(checked_fit(apply_fn, swept(fit, epsilon)), checked_learned(apply_fn, attack))
