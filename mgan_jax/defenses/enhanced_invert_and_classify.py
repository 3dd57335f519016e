"""The robust manifold defense (Jalal et al. 2019, arXiv:1712.09196v3): invert-and-classify, its classifier trained on pairs."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mgan_jax.defenses.entry import checked
from mgan_jax.defenses.invert_and_classify import invert_and_classify
from mgan_jax.inputs import exact
from mgan_jax.inversion import Decode
from mgan_jax.losses import OUTPUTS
from mgan_jax.types import ApplyFn, Array, Defense, Train, Variables


def enhanced_invert_and_classify(
    apply_fn: ApplyFn,
    decode: Decode,
    train_generator: Callable[[Array, Array], Variables],
    search: Callable[..., Any],
    train: Train,
    code_size: int = 32,
    mu: float = 0.5,
    num_pairs: int = 50,
    outputs: str = "softmax",
    num_restarts: int = 10,
    num_steps: int = 200,
    learning_rate: float = 10.0,
    momentum: float = 0.7,
    optimizer: str = "momentum",
    start_scale: float = 1.0,
) -> Defense:
    """inf over theta of mu sup over z, z' of ||C(G(z)) - C(G(z'))||^2 + (1 - mu) mean f(y, C(x)), ||G(z) - G(z')||^2 <= eta^2.

    The classifier goes on learning from the target's weights. In every step the supremum is looked for anew from codes of the
    prior N(0, 1), its pairs held fixed while the classifier moves. Images are then classified as by
    `invert_and_classify`, by the new classifier.

    Args:
      apply_fn: the target, C before.
      decode, train_generator, code_size: the generator, as in `invert_and_classify`.
      search: the overpowered attack, `(key, variables, generator, codes [B, K]) -> pairs` with `first` and `second` [B, K], built
        with C and eta.
      train: trains C.
      mu: weight of the pairs, 0 to 1.
      num_pairs: pairs in a step.
      outputs: what of C is compared, "softmax" or "logits"; the same as in `search`.
      num_restarts, num_steps, learning_rate, momentum, optimizer, start_scale: of the inversion.

    Returns:
      A `Defense`. Its state is that of `invert_and_classify` and `classifier`, the new variables.

    Raises:
      ValueError: as `invert_and_classify`; mu outside [0, 1], no pairs, other outputs.
    """
    if not 0 <= mu <= 1 or num_pairs < 1:
        raise ValueError(f"mu is {mu}, num_pairs {num_pairs}; choose mu between 0 and 1, at least one pair")
    if outputs not in OUTPUTS:
        raise ValueError(f"outputs is {outputs!r}; choose one of {', '.join(OUTPUTS)}")
    plain = invert_and_classify(
        apply_fn, decode, train_generator, code_size, num_restarts, num_steps, learning_rate, momentum, optimizer, start_scale
    )

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> dict[str, Any]:
        plain_key, train_key = jax.random.split(key)
        state = plain.fit(plain_key, variables, images, labels)

        def loss(params, key, step, images, labels):
            code_key, pair_key = jax.random.split(jax.random.fold_in(key, step))
            classifier = {**variables, "params": params}
            codes = jax.random.normal(code_key, (num_pairs, code_size), jnp.float32)
            pairs = search(pair_key, jax.lax.stop_gradient(classifier), state["generator"], codes)
            made = decode(state["generator"], jax.lax.stop_gradient(jnp.concatenate([pairs.first, pairs.second])))
            classes = OUTPUTS[outputs](apply_fn(classifier, made))
            distance = jnp.square(classes[:num_pairs] - classes[num_pairs:]).sum(-1).mean()
            entropy = optax.softmax_cross_entropy_with_integer_labels(apply_fn(classifier, images), labels).mean()
            return mu * distance + (1 - mu) * entropy, {"class_distance": distance, "cross_entropy": entropy}

        params = train(train_key, "classifier", jax.tree.map(exact, variables["params"]), loss, (images, labels))
        return {**state, "classifier": {**variables, "params": params}}

    def as_target(variables: Variables) -> Variables:
        return {**variables, "target": variables["defense"]["classifier"]}

    def apply(variables: Variables, images: Array) -> Array:
        return plain.apply(as_target(variables), images)

    return checked(plain._replace(fit=fit, apply=apply), apply_fn)
