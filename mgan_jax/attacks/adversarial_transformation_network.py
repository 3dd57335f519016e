"""Adversarial transformation networks (Baluja & Fischer 2017, arXiv:1703.09387): a network that makes adversarial images."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from mgan_jax.attacks.entry import checked_fit, checked_learned, finite_gradient
from mgan_jax.attacks.result import attack_result, learned_targets
from mgan_jax.losses import finite_rows
from mgan_jax.types import ApplyFn, Array, AttackResult, LearnedAttack, Network, Variables

FORMS = ("perturbation", "autoencoding")
AIMS = ("runner_up", "without", "nearest")
LOSSES = ("squared", "cross_entropy")
BETA_GAIN = 0.01
BETA_BOUNDS = (1e-6, 1e3)


def rerank(probabilities: Array, targets: Array, alpha: float) -> Array:
    """r_alpha(y, t): y_t becomes alpha max(y), the others stay, and all are divided by their sum.

    Args:
      probabilities: y, [B, num_classes].
      targets: t, [B].
      alpha: > 1; the class that was first becomes second, and no other pair changes its order.
    """
    aimed = jax.nn.one_hot(targets, probabilities.shape[-1], dtype=bool)
    raised = jnp.where(aimed, alpha * probabilities.max(-1, keepdims=True), probabilities)
    return raised / raised.sum(-1, keepdims=True)


def adversarial_transformation_network(
    apply_fn: ApplyFn | Sequence[ApplyFn],
    network: Network,
    form: str = "perturbation",
    target_label: int | None = None,
    aim: str = "nearest",
    alpha: float = 1.5,
    beta: float = 0.005,
    loss: str = "squared",
    success_rate: float | None = None,
    num_steps: int = 3000,
    batch_size: int = 100,
    learning_rate: float = 1e-3,
    judge: ApplyFn | None = None,
) -> LearnedAttack:
    """g_f minimises the mean of beta ||x' - x||^2 + ||f(x') - r_alpha(f(x), t)||^2, f the softmax (equations 1 to 3).

    P-ATN: x' = clip(x + g(x)); AAE, the adversarial autoencoder: x' = clip(g(x)). With target_label this is the paper; what an
    untargeted network aims at, cross-entropy and the adapted beta are ours. Once it is fitted, an image costs no gradient.

    How strong it is depends on the network that is given and on how long it is trained.

    Defaults: alpha and beta are the paper's for MNIST (of its .01, .005 and .001), the others ours. Its P-ATN is tanh(x +
    g(x)), of pixels in [-1, 1], which changes an image where g is 0 too; here x + g(x) is cut.

    Args:
      apply_fn: the network f to learn on: the target itself, or a substitute; or several, whose losses are averaged.
      network: g, as `models.autoencoder`; for a P-ATN that is bounded in L-inf `models.generator`.
      form: "perturbation" (P-ATN) or "autoencoding" (AAE).
      target_label: t, the class to reach; None: any but the true one.
      aim: what an untargeted network aims at: "runner_up", t is the likeliest class but the true one; "without", in place of
        r_alpha f(x) with the true class's probability set to 0 and the others divided by their sum; "nearest", the same of
        f(x') as it is at the moment, any wrong class that is near, whatever becomes of the others' order.
      alpha: of r_alpha.
      beta: weight of the squared 2-norm of the change, summed over pixels in [0, 1], before x' is cut to them.
      loss: "squared", as above; "cross_entropy" of f(x') with r_alpha in its place, whose gradient does not vanish where f
        is certain.
      success_rate: s; where given, the logarithm of beta moves in every step by a hundredth of (b - s) / (s (1 - s)), cut to
        [-1, 1], b the share of the batch that fools: the smallest changes that fool so many.
      num_steps, batch_size, learning_rate: of Adam, its rate falling along a cosine to 0.
      judge: the network that the results are about; None: apply_fn, of several the classifier by their mean softmax.

    Returns:
      A `LearnedAttack`: `fit`'s `variables` are those of apply_fn, of several a sequence as long; `attack`'s those of the
      judge. The state holds g's variables as `generator`, and the last `beta`.

    Raises:
      ValueError: another form, aim or loss; alpha <= 1; a beta, rate or size that makes no sense; no network to learn on; in
        `fit`, a target_label that is no class.
    """
    several = not callable(apply_fn)
    networks = tuple(apply_fn) if several else (apply_fn,)
    if not networks:
        raise ValueError("apply_fn is an empty sequence; choose at least one network to learn on")
    for name, value, values in (("form", form, FORMS), ("aim", aim, AIMS), ("loss", loss, LOSSES)):
        if value not in values:
            raise ValueError(f"{name} is {value!r}; choose one of {', '.join(values)}")
    if not alpha > 1 or not beta >= 0:
        raise ValueError(f"alpha is {alpha}, beta {beta}; choose alpha > 1 and beta >= 0")
    if success_rate is not None and not (0 < success_rate < 1 and beta > 0):
        raise ValueError(f"success_rate is {success_rate}, beta {beta}; choose it between 0 and 1, and a first beta above 0")
    if num_steps < 1 or batch_size < 1 or not learning_rate > 0:
        raise ValueError(
            f"num_steps is {num_steps}, batch_size {batch_size}, learning_rate {learning_rate}; all must be positive"
        )

    def transform(generator: Variables, images: Array) -> tuple[Array, Array]:
        """x', and g's own image before it is cut."""
        made = network.apply(generator, images)
        whole = images + made if form == "perturbation" else made
        return jnp.clip(whole, 0.0, 1.0), whole

    def each(variables, images: Array) -> list[Array]:
        """The log softmax [B, num_classes] of every network."""
        pairs = zip(networks, variables if several else (variables,), strict=True)
        return [jax.nn.log_softmax(f(v, images)) for f, v in pairs]

    def together(variables, images: Array) -> Array:
        """Logits of the classifier by the mean softmax."""
        return jax.nn.logsumexp(jnp.stack(each(variables, images)), axis=0)

    def goals(variables, images: Array, now: list[Array], labels: Array) -> list[Array]:
        num_classes = now[0].shape[-1]
        if target_label is not None and not 0 <= target_label < num_classes:
            raise ValueError(f"target_label is {target_label}; choose one of the classes 0 to {num_classes - 1}")
        true = jax.nn.one_hot(labels, num_classes, dtype=bool)
        nearest = target_label is None and aim == "nearest"
        clean = jax.lax.stop_gradient(now) if nearest else each(variables, images)
        if target_label is None and aim != "runner_up":
            return [jax.nn.softmax(jnp.where(true, -jnp.inf, one)) for one in clean]
        if target_label is None:
            mean = jax.nn.logsumexp(jnp.stack(clean), axis=0)
            targets = jnp.where(true, -jnp.inf, mean).argmax(-1)
        else:
            targets = jnp.full_like(labels, target_label)
        return [rerank(jnp.exp(one), targets, alpha) for one in clean]

    def distance(log_probabilities: Array, goal: Array) -> Array:
        if loss == "squared":
            return jnp.square(jnp.exp(log_probabilities) - goal).sum(-1)
        return -(goal * log_probabilities).sum(-1)

    def fooled_by(log_probabilities: Array, labels: Array) -> Array:
        decisions = log_probabilities.argmax(-1)
        return finite_rows(log_probabilities) & (decisions != labels if target_label is None else decisions == target_label)

    def fit(key: Array, variables, images: Array, labels: Array) -> dict:
        init_key, batch_key = jax.random.split(key)
        size = min(batch_size, images.shape[0])
        optimizer = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))

        def total(generator, weight, x, y):
            adversarial, whole = transform(generator, x)
            now = each(variables, finite_gradient(adversarial))
            # Before the cut, where a pixel that is far outside still has a gradient.
            change = jnp.square(whole - x).sum((1, 2, 3))
            parts = [distance(*pair) for pair in zip(now, goals(variables, x, now, y), strict=True)]
            fooled = sum(fooled_by(one, y).mean() for one in now) / len(networks)
            return (weight * change + sum(parts) / len(networks)).mean(), fooled

        def one(step, carry):
            generator, opt_state, weight = carry
            rows = jax.random.randint(jax.random.fold_in(batch_key, step), (size,), 0, images.shape[0])
            gradient, fooled = jax.grad(total, has_aux=True)(generator, weight, images[rows], labels[rows])
            updates, opt_state = optimizer.update(gradient, opt_state, generator)
            if success_rate is not None:
                surplus = jnp.clip((fooled - success_rate) / (success_rate * (1 - success_rate)), -1.0, 1.0)
                weight = jnp.clip(weight * jnp.exp(BETA_GAIN * surplus), *BETA_BOUNDS)
            return optax.apply_updates(generator, updates), opt_state, weight

        first = network.init(init_key, images.shape[1:])
        start = first, optimizer.init(first), jnp.float32(beta)
        generator, _, weight = jax.lax.fori_loop(0, num_steps, one, start)
        return {"generator": generator, "beta": weight}

    judged_by = judge if judge is not None else together if several else apply_fn

    def attack(state, key, variables, images, labels, targets=None) -> AttackResult:
        del key
        targets = learned_targets(targets, target_label, labels)
        return attack_result(judged_by, variables, images, transform(state["generator"], images)[0], labels, targets)

    return LearnedAttack(checked_fit(together, fit), checked_learned(judged_by, attack))
