"""The terms of L = L_adv + alpha L_GAN + beta L_mutate, and their relatives; pure, each a mean over the batch.

Logits that are not [B, num_classes], and labels that are not one class an image, raise ValueError.
"""

import jax
import jax.numpy as jnp
import optax

from mgan_jax.inputs import as_array, as_classes, as_logits, read_images
from mgan_jax.types import Array

OUTPUTS = {"softmax": jax.nn.softmax, "logits": lambda logits: logits}
"""What of a classifier's answer can be compared, by name."""


def _read(logits: Array, labels: Array) -> tuple[Array, Array]:
    """Logits [B, num_classes] and classes [B] int32 as JAX arrays."""
    logits = as_logits(logits)
    return logits, as_classes(labels, logits.shape, num_classes=logits.shape[1])


def _compared(logits: Array, labels: Array) -> tuple[Array, Array]:
    """z_y and max over i != y of z_i, both [B]: the two logits between which the margin lies."""
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0], jnp.where(own, -jnp.inf, logits).max(-1)


def margin(logits: Array, labels: Array) -> Array:
    """z_y - max over i != y of z_i, [B]: how far the decision is from leaving class y.

    Args:
      logits: [B, num_classes], of any sign.
      labels: [B] int.
    """
    own, other = _compared(*_read(logits, labels))
    return own - other


def runner_up(logits: Array, labels: Array) -> Array:
    """The likeliest class besides y, [B]; logits [B, num_classes], labels [B]."""
    logits, labels = _read(logits, labels)
    return jnp.where(jax.nn.one_hot(labels, logits.shape[-1], dtype=bool), -jnp.inf, logits).argmax(-1).astype(labels.dtype)


def runners_up(logits: Array, labels: Array, count: int) -> Array:
    """The `count` likeliest classes besides y, likeliest first, [B, count]; all of them, where there are no more."""
    logits, labels = _read(logits, labels)
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    order = jnp.argsort(jnp.where(own, -jnp.inf, logits), axis=-1, descending=True).astype(labels.dtype)
    return order[:, : min(count, logits.shape[-1] - 1)]


def _share(first: Array, second: Array, dtype: jnp.dtype) -> Array:
    """What rounding may take from the lead of one of two logits over the other, computed in a dtype; they broadcast."""
    own, sums = (float(jnp.finfo(each).eps) for each in (dtype, jnp.promote_types(dtype, jnp.float32)))
    return (4 * own + 80 * sums) * jnp.maximum(jnp.abs(first), jnp.abs(second))


def rounding(logits: Array, labels: Array) -> Array:
    """By how much the `margin` of class y may differ between two programs, a share of the larger of its two logits, [B].

    The share is 80 units in the last place of the sums, which are in float32 at least (1e-5 there), and 4 of the logits' own.
    No other logit has a say in it: a class that the network rules out with -1e9 changes nothing.

    Args:
      logits: [B, num_classes].
      labels: [B] int.
    """
    logits, labels = _read(logits, labels)
    return _share(*_compared(logits, labels), logits.dtype)


def settled(logits: Array, dtype: jnp.dtype) -> Array:
    """Logits [B, num_classes] in another dtype, in which a lead within their own `rounding` stays one that decides nothing.

    Where the dtype is finer than their own, a class that the highest leads by so little is put a hair below it: the decision is
    the same, and `margin_to_fool` finds no lead. All other values, and gradients, are those of the logits.
    """
    logits = as_logits(logits)
    own_type = logits.dtype
    if not jnp.issubdtype(own_type, jnp.floating) or jnp.finfo(own_type).eps <= jnp.finfo(dtype).eps:
        return logits.astype(dtype)
    # Compiled, a value may be rounded to a coarse dtype in one place and not in another: all of these are of the cast ones.
    cast = logits.astype(dtype)
    value = jax.lax.stop_gradient(cast)
    highest = value.max(-1, keepdims=True)
    undecided = (value < highest) & (highest - value < _share(highest, value, own_type))
    hair = float(jnp.finfo(dtype).eps) * jnp.abs(highest)
    return jnp.where(undecided, highest - hair + (cast - value), cast)


def finite_rows(array: Array) -> Array:
    """Whether all values of each row [B, ...] are finite, [B]."""
    array = jnp.asarray(as_array(array, "rows"))
    return jnp.isfinite(array).all(tuple(range(1, array.ndim)))


def margin_to_fool(logits: Array, labels: Array, targets: Array | None = None) -> Array:
    """By how much an image is still of class y, or with targets not yet of class t; [B], negative where it fools.

    An image fools only if it leads by more than `rounding`: a smaller lead, which another batch size or another processor may
    take back, is 0. Gradients are those of the margin everywhere. Logits that are not finite fool nobody: there it is infinite.

    Args:
      logits: [B, num_classes].
      labels: [B] classes to leave.
      targets: [B] classes to reach, of a targeted attack.
    """
    logits, labels = _read(logits, labels)
    value = margin(logits, labels) if targets is None else -margin(logits, targets)
    undecided = (value < 0) & (value > -rounding(logits, labels if targets is None else targets))
    decided = jnp.where(undecided, value - jax.lax.stop_gradient(value), value)
    return jnp.where(finite_rows(logits), decided, jnp.inf)


def untargeted_hinge(logits: Array, labels: Array, kappa: Array | float = 0.0) -> Array:
    """L_adv = max(z_y - max_{i != y} z_i, -kappa) (Carlini & Wagner 2017, f_6, with the true class to leave)."""
    return jnp.maximum(margin(logits, labels), -kappa).mean()


def targeted_hinge(logits: Array, targets: Array, kappa: Array | float = 0.0) -> Array:
    """L_adv = max(max_{i != t} z_i - z_t, -kappa) (Carlini & Wagner 2017, f_6)."""
    return jnp.maximum(-margin(logits, targets), -kappa).mean()


def least_squares(scores: Array, goal: float) -> Array:
    """(D(x) - goal)^2 (Mao et al. 2017): goal 1 for what shall pass as real, 0 for what shall not; scores [B]."""
    return jnp.square(scores - goal).mean()


def norm_hinge(perturbations: Array, bound: float) -> Array:
    """max(0, ||G(x)||_2 - c) (Xiao et al. 2018, equation 3); perturbations [B, H, W, C], c in units of pixels in [0, 1]."""
    perturbations = read_images(perturbations, "perturbations", values=False)
    squares = jnp.square(perturbations).reshape(perturbations.shape[0], -1).sum(-1)
    return jnp.maximum(jnp.sqrt(squares + 1e-12) - bound, 0.0).mean()


def disagreement(mutant_logits: Array, decisions: Array) -> Array:
    """L_mutate of one mutant, [B]: cross-entropy between its softmax and the target's own decisions.

    Args:
      mutant_logits: [B, num_classes].
      decisions: [B] int, what the target answers on the very images tested.
    """
    return optax.softmax_cross_entropy_with_integer_labels(*_read(mutant_logits, decisions))


def label_entropy(logits: Array) -> Array:
    """Entropy in nats of the mean softmax of a batch [B, num_classes]: how evenly its labels are spread."""
    logits = as_logits(logits)
    log_mean = jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(logits.shape[0])
    return -(jnp.exp(log_mean) * log_mean).sum()


def log_odds(logits: Array, labels: Array) -> Array:
    """log p_y - log(1 - p_y) of the softmax, [B]: logits [B, num_classes], labels [B]."""
    logits, labels = _read(logits, labels)
    own = jax.nn.one_hot(labels, logits.shape[-1], dtype=bool)
    rest = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=-1)
    return jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0] - rest


def relative_disagreement(mutant_logits: Array, decisions: Array, normal_logits: Array, normal_decisions: Array) -> Array:
    """L_mutate of one mutant with the normal image as the measure, [B]: -q log p - (1 - q) log(1 - p).

    p is the probability that the mutant's softmax gives the target's own decision on the adversarial image, q the same on
    its clean form. It is least where p = q; where q = 1, the mutant keeps the clean decision, it is `disagreement`.

    Args:
      mutant_logits, normal_logits: [B, num_classes], the mutant's on the adversarial images and on the same images clean.
      decisions, normal_decisions: [B] int, what the target answers on them.
    """
    q = jax.lax.stop_gradient(jax.nn.sigmoid(log_odds(normal_logits, normal_decisions)))
    return optax.sigmoid_binary_cross_entropy(log_odds(mutant_logits, decisions), q)
