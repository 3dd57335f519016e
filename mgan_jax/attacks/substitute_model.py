"""Attack on a substitute that is trained on the target's labels (Papernot et al. 2017, arXiv:1602.02697)."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mgan_jax.attacks.entry import checked_fit, checked_learned, matched
from mgan_jax.attacks.fgsm import fgsm
from mgan_jax.attacks.result import attack_result
from mgan_jax.engine import decide
from mgan_jax.types import ApplyFn, Array, Attack, AttackResult, Classifier, LearnedAttack, Variables

ASKED_AT_ONCE = 500


def substitute_model(
    apply_fn: ApplyFn,
    classifier: Classifier,
    make_attack: Callable[[ApplyFn], Attack] = fgsm,
    num_rounds: int = 6,
    step_size: float = 0.1,
    period: int | None = None,
    num_doublings: int | None = None,
    reservoir_size: int = 400,
    num_epochs: int = 10,
    batch_size: int = 50,
    optimizer: optax.GradientTransformation | None = None,
) -> LearnedAttack:
    """A white-box attack on F, which has learned from labels alone, transferred to the target O.

    S_{rho+1} = S_rho and {x + lambda_rho sgn(dF_y(x) / dx) : x in S_rho, y = O(x)}, lambda_rho = lambda (-1)^floor(rho / tau),
    cut to [0, 1]; F is trained on every S_rho. After the first sigma rounds only kappa images of S_rho, drawn without
    replacement, are augmented (reservoir sampling and periodic steps: Papernot et al. 2016, arXiv:1605.07277).

    How strong it is depends on the substitute, on how long it is trained, and on the queries that it may spend.

    Defaults: the papers' for MNIST; batch_size is ours.

    Args:
      apply_fn: the target O; only its labels are looked at.
      classifier: the substitute F, which may be of any architecture.
      make_attack: `make_attack(classifier.apply) -> attack` on the substitute; it bounds the change.
        `variance_reduced_gradient` transfers best.
      num_rounds: augmentations; the labels asked for double in each, from 100 images to 6,400 in six.
      step_size: lambda, in units of pixels in [0, 1].
      period: tau, rounds after which the step changes its sign; None: never.
      num_doublings: sigma, rounds that augment all images; None: all rounds.
      reservoir_size: kappa.
      num_epochs: passes over S_rho that F is trained for; it goes on from round to round.
      batch_size: of these and of the queries; minibatches are drawn with replacement.
      optimizer: None: gradient descent at 0.01 with momentum 0.9.

    Returns:
      A `LearnedAttack`. `fit` gets the attacker's own images and looks at no label but the target's, and learns nothing from
      images that have none; its state is `{"substitute": variables of F, "queries": number of labels asked for}`. Attacking asks
      for none, so `used` is 0. Where the attack inside sweeps over K epsilons, results are [K, B, ...].

    Raises:
      ValueError: numbers out of range.
    """
    if num_rounds < 0 or num_epochs < 1 or batch_size < 1 or not 0 < step_size <= 1:
        raise ValueError(
            f"num_rounds is {num_rounds}, num_epochs {num_epochs}, batch_size {batch_size}, step_size {step_size}; "
            "choose >= 0, >= 1, >= 1 and a step above 0, at most 1"
        )
    if not (period is None or period >= 1) or not (num_doublings is None or num_doublings >= 0) or reservoir_size < 1:
        raise ValueError(
            f"period is {period}, num_doublings {num_doublings}, reservoir_size {reservoir_size}; choose >= 1, >= 0 and >= 1"
        )
    transform = optimizer or optax.sgd(1e-2, momentum=0.9)
    crafting = make_attack(classifier.apply)
    apply_fn = matched(apply_fn)

    def fit(key, variables, images, labels) -> dict:
        del labels
        added = [len(images)]
        for i in range(num_rounds):
            whole = num_doublings is None or i < num_doublings
            added.append(sum(added) if whole else min(sum(added), reservoir_size))
        sizes = np.cumsum([0, *added])
        capacity = int(sizes[-1])
        init_key, train_key, reservoir_key = jax.random.split(key, 3)
        # Room for all rounds: a set that grows inside would be another program every round.
        store = jnp.zeros((capacity, *images.shape[1:]), images.dtype).at[: len(images)].set(images)
        substitute = classifier.init(init_key)

        def in_batches(first: Array, last: Array, body: Callable, carry):
            """`body(places [batch_size], carry)`, over first ... last - 1; places from last on repeat the last one."""
            places = lambda i: jnp.minimum(first + i * batch_size + jnp.arange(batch_size), last - 1)  # noqa: E731
            return jax.lax.fori_loop(0, -(-(last - first) // batch_size), lambda i, c: body(places(i), c), carry)

        def trained(round_index, size, store, answers, substitute, moments):
            round_key = jax.random.fold_in(train_key, round_index)

            def step(i, carry):
                substitute, moments = carry
                rows = jax.random.randint(jax.random.fold_in(round_key, i), (batch_size,), 0, size)

                def loss(params):
                    entropy = answered_entropy(classifier.apply({**substitute, "params": params}, store[rows]), answers[rows])
                    return entropy.sum() / jnp.maximum((answers[rows] >= 0).sum(), 1)

                updates, moments = transform.update(jax.grad(loss)(substitute["params"]), moments, substitute["params"])
                return {**substitute, "params": optax.apply_updates(substitute["params"], updates)}, moments

            return jax.lax.fori_loop(0, num_epochs * -(-size // batch_size), step, (substitute, moments))

        def one_round(carry, xs):
            store, answers, substitute, moments = carry
            index, asked, size, next_size, step = xs

            def ask(places, answers):
                return answers.at[places].set(decide(apply_fn(variables, store[places])))

            answers = in_batches(asked, size, ask, answers)
            substitute, moments = trained(index, size, store, answers, substitute, moments)
            # A permutation of S_rho, whose first images are augmented: all of them where as many are added.
            drawn = jax.random.uniform(jax.random.fold_in(reservoir_key, index), (capacity,))
            parents = jnp.argsort(jnp.where(jnp.arange(capacity) < size, drawn, 2.0))

            def add(places, store):
                rows = parents[places - size]
                return store.at[places].set(augmented(classifier.apply, substitute, store[rows], answers[rows], step))

            return (in_batches(size, next_size, add, store), answers, substitute, moments), None

        rounds = np.arange(num_rounds + 1)
        steps = step_size * (-1.0) ** (rounds // period if period else 0 * rounds)
        xs = (rounds, sizes[:-1], sizes[1:], np.r_[sizes[2:], capacity], steps.astype(np.float32))
        carry = store, jnp.zeros(capacity, jnp.int32), substitute, transform.init(substitute["params"])
        (_, _, substitute, _), _ = jax.lax.scan(one_round, carry, jax.tree.map(jnp.asarray, xs))
        return {"substitute": substitute, "queries": jnp.int32(capacity)}

    def attack(state, key, variables, images, labels, targets=None) -> AttackResult:
        adversarial = crafting(key, state["substitute"], images, labels, targets).adversarial
        transfer = lambda x: attack_result(apply_fn, variables, images, x, labels, targets, used=0)  # noqa: E731
        return transfer(adversarial) if adversarial.ndim == images.ndim else jax.lax.map(transfer, adversarial)

    return LearnedAttack(checked_fit(apply_fn, fit), checked_learned(apply_fn, attack))


def learned_on(apply_fn: ApplyFn, learned: LearnedAttack, substitutes: Sequence[LearnedAttack]) -> LearnedAttack:
    """An attack that learns on substitutes in place of the target, of which it sees labels alone.

    Args:
      apply_fn: the target.
      learned: learns on a sequence of networks, of which its `fit` is given the variables, and attacks the target, as
        `adversarial_transformation_network` with the substitutes' `apply` and the target's as its judge.
      substitutes: `substitute_model`s of the target, one or more.

    Returns:
      A `LearnedAttack`. `fit` looks at no label but the target's, of the images for each substitute and for `learned`; its state
      is that of `learned`, a dict, with the substitutes' states as `substitutes` and the number of labels that were asked for,
      some of them of the same image, as `queries`. Attacking asks for none.
    """

    def fit(key, variables, images, labels) -> dict:
        del labels
        own_key, *keys = jax.random.split(key, len(substitutes) + 1)
        answers = jax.lax.map(lambda image: decide(apply_fn(variables, image[None]))[0], images, batch_size=ASKED_AT_ONCE)
        # Shapes are fixed, so the first image that has an answer stands in for each that has none.
        rows = jnp.where(answers >= 0, jnp.arange(len(answers)), (answers >= 0).argmax())
        images, answers = images[rows], answers[rows]
        states = [one.fit(k, variables, images, answers) for one, k in zip(substitutes, keys, strict=True)]
        state = learned.fit(own_key, [one["substitute"] for one in states], images, answers)
        queries = sum(one["queries"] for one in states) + len(images)
        return {**state, "substitutes": states, "queries": jnp.int32(queries)}

    return LearnedAttack(checked_fit(apply_fn, fit), learned.attack)


def answered_entropy(logits: Array, answers: Array) -> Array:
    """Cross-entropy [B] of logits [B, num_classes] and the target's labels [B]; 0 where the target reads no class."""
    known = answers >= 0
    return jnp.where(known, optax.softmax_cross_entropy_with_integer_labels(logits, jnp.where(known, answers, 0)), 0.0)


def augmented(apply_fn: ApplyFn, variables: Variables, images: Array, labels: Array, step: Array | float) -> Array:
    """x + step sgn(dF_y(x) / dx), cut to [0, 1], with F_y the softmax output of class y; [B, H, W, C].

    Of log F_y, whose derivative has the same sign and is no zero where the softmax is 1 in float32. An image whose label is no
    class stays as it is.
    """

    def chosen(x):
        return -answered_entropy(apply_fn(variables, x), labels).sum()

    return jnp.clip(images + step * jnp.sign(jax.grad(chosen)(images)), 0.0, 1.0)


def agreement(apply_fn: ApplyFn, variables: Variables, classifier: Classifier, state: dict, images: Array) -> Array:
    """Share of the images [B, H, W, C] on which a fitted substitute decides as the target does."""
    ours, theirs = decide(classifier.apply(state["substitute"], images)), decide(apply_fn(variables, images))
    return ((ours == theirs) & (theirs >= 0)).mean()
