"""The words that every module shares: plain trees, pure functions and the tuples that hold them.

Axis letters in all docstrings: B batch, H W C image, M mutants, N examples, K epsilons.
Images are float32 in [0, 1]; labels are int32; keys are `jax.random.key` keys, consumed and never stored.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

Array = jax.Array
Variables = Mapping[str, Any]
"""What `model.init` returns: `{'params': ..., 'structure': ...}`, a tree of arrays."""


class ApplyFn(Protocol):
    """A classifier: `(variables, images [B, H, W, C] in [0, 1]) -> logits [B, num_classes]`."""

    def __call__(self, variables: Variables, images: Array) -> Array: ...


class Mutation(Protocol):
    """A mutation operator: one key is one mutant; `jax.vmap` over keys makes many."""

    def __call__(self, key: Array, variables: Variables) -> Variables: ...


class Split(NamedTuple):
    """Examples of one stream: `images` [N, H, W, C] float32 in [0, 1] and `labels` [N] int32."""

    images: np.ndarray
    labels: np.ndarray


class Dataset(NamedTuple):
    """Three disjoint splits and the facts about them that no config repeats."""

    train: Split
    validation: Split
    test: Split
    num_classes: int
    image_shape: tuple[int, int, int]
    class_names: tuple[str, ...]


class Classifier(NamedTuple):
    """A target network as pure functions.

    Attributes:
      init: `init(key) -> variables`.
      apply: `apply(variables, images [B, H, W, C]) -> logits [B, num_classes]`.
      features: `features(variables, images) -> [B, F]`, the last hidden layer.
      stages: the network as a chain of `(name, stage(variables, x) -> x)`; composing them is `apply`, to rounding. A stage reads
        the leaves variables[collection][its name] alone; in between, activations are laid out as the network likes.
      neuronwise: names of stages that, given the kernel [..., K] and bias [K] of K of their neurons, return the outputs of
        these, [K, ...].
    """

    init: Callable[[Array], Variables]
    apply: ApplyFn
    features: ApplyFn
    stages: tuple[tuple[str, ApplyFn], ...]
    neuronwise: tuple[str, ...] = ()


class AttackResult(NamedTuple):
    """What an attack returns; every field but `used` and `finite` is recomputed from `adversarial`, the images returned.

    With a sweep over K epsilons every field has a leading axis K.

    Attributes:
      adversarial: [B, H, W, C] in [0, 1]; where the attack failed, its best iterate.
      success: [B] bool: the clean image is classified correctly, and the returned one is not (targeted: gets the target), by a
        lead beyond what rounding decides (`losses.margin_to_fool`).
      success_rounded: [B] bool: the same of the returned images rounded to 8 bits, as they are saved.
      withstood: [B] bool: both are classified correctly (targeted: the returned one does not get the target), see
        `success.withstands`; an image that is misread within rounding is neither this nor a success.
      clean_correct: [B] bool: the target classifies the clean image correctly.
      logits: [B, num_classes] of the returned images, in the images' dtype (`losses.settled`, where the network's is coarser).
      l0, l1, l2, linf: [B] distances from the clean images (`l0` counts changed pixels, channels together).
      used: [B] int32: gradients of the target that were taken for an image; of black-box attacks, queries of it.
      finite: [B] bool: what the attack ended with was finite, and so are the target's logits of the clean and the returned image.
        Where an attack ends with an image that is not, the original is returned; logits that are not are no success, and never
        correct.
    """

    adversarial: Array
    success: Array
    success_rounded: Array
    withstood: Array
    clean_correct: Array
    logits: Array
    l0: Array
    l1: Array
    l2: Array
    linf: Array
    used: Array
    finite: Array


class Attack(Protocol):
    """`attack(key, variables, images [B, H, W, C], labels [B], targets [B] or None) -> AttackResult`.

    Images may be lists or NumPy's, and uint8, labels and targets any integers. What rank, shape and dtype tell to be wrong raises
    ValueError. So do values, pixels outside [0, 1] or labels that are no class, but only where they are known: under your own
    `jax.jit` they are not, and are computed with. Of no images the result is empty.
    """

    def __call__(
        self, key: Array, variables: Variables, images: Array, labels: Array, targets: Array | None = None
    ) -> AttackResult: ...


class LearnedAttack(NamedTuple):
    """An attack that learns on images before it attacks others; `jax.tree_util.Partial(attack, state)` is an `Attack`.

    Attributes:
      fit: `fit(key, variables, images [N, H, W, C], labels [N]) -> state`, a tree of arrays; can be jitted.
      attack: `attack(state, key, variables, images, labels, targets=None) -> AttackResult`.
    """

    fit: Callable[..., Any]
    attack: Callable[..., AttackResult]


class Network(NamedTuple):
    """A network that is no classifier: `init(key, image_shape) -> variables` and `apply(variables, images)`."""

    init: Callable[[Array, tuple[int, int, int]], Variables]
    apply: Callable[[Variables, Array], Array]


class Autoregressive(NamedTuple):
    """A density of images over grey levels, p(x) = product over i of p(x_i | x_1, ..., x_{i-1}).

    The values x_i are ordered row by row, pixel by pixel, channel by channel. Images [B, H, W, C] are rounded to the nearest of
    `num_levels` levels, evenly spaced from 0 to 1, before anything looks at them.

    Attributes:
      init: `init(key, image_shape) -> variables`.
      apply: `apply(variables, images) -> log p(level | values before) [B, H, W, C, num_levels]`.
      log_likelihood: `log_likelihood(variables, images) -> [B]`, log p(x) in nats; bits per dimension are
        -log p(x) / (H W C log 2).
      rewrite: `rewrite(variables, images, choose) -> [B, H, W, C]`: in raster order every value becomes
        `choose(log p(level | new values before) [B, num_levels], old values [B]) -> levels [B] int`; what is returned lies on the
        levels. It costs as much arithmetic as one `apply`, and has no useful derivative.
      num_levels: grey levels.
    """

    init: Callable[[Array, tuple[int, int, int]], Variables]
    apply: Callable[[Variables, Array], Array]
    log_likelihood: Callable[[Variables, Array], Array]
    rewrite: Callable[[Variables, Array, Callable[[Array, Array], Array]], Array]
    num_levels: int


class GenerativeAttack(NamedTuple):
    """An attack that learns a generator: `training.gan` optimises it, `jax.tree_util.Partial(attack, state)` is an `Attack`.

    `state` is `{'generator': ..., 'discriminator': ..., 'balance': ...}`; `balance` holds what is adapted by rule instead
    of by gradient.

    Attributes:
      init: `init(key, image_shape) -> state`.
      generator_loss: `(generator, state, key, step, variables, images, labels) -> (loss, GeneratorStep)`, differentiated in
        its first argument; `key` is the training's own, folded with what the method draws per step.
      discriminator_loss: `(discriminator, images, adversarial) -> loss`, differentiated in its first argument.
      perturb: `perturb(state, images, scale=1.0) -> adversarial [B, H, W, C]`, the perturbation times `scale`.
      attack: `attack(state, key, variables, images, labels, targets=None) -> AttackResult`.
      apply_fn: the target, whose classes labels are.
    """

    init: Callable[..., Mapping[str, Any]]
    generator_loss: Callable[..., tuple[Array, "GeneratorStep"]]
    discriminator_loss: Callable[..., Array]
    perturb: Callable[..., Array]
    attack: Callable[..., AttackResult]
    apply_fn: ApplyFn


class GeneratorStep(NamedTuple):
    """What a generator's loss leaves behind.

    Attributes:
      adversarial: [B, H, W, C].
      logits: the target's on them, [B, num_classes].
      balance: the next value of `state['balance']`.
      metrics: scalars to be logged.
    """

    adversarial: Array
    logits: Array
    balance: Any
    metrics: dict[str, Array]


class Detector(NamedTuple):
    """A detector of adversarial images.

    Attributes:
      fit: `fit(key, variables, images, labels) -> state`, on clean data only.
      score: `score(variables, state, images [B, H, W, C]) -> [B]`, larger = more suspicious.
      used: `used(variables, state, images) -> [B]` mutants that it asked, of one whose work depends on the image; else None.
    """

    fit: Callable[..., Any]
    score: Callable[..., Array]
    used: Callable[..., Array] | None = None


class Train(Protocol):
    """Minimises a loss: what a detector or defense that learns is given, so that its training can be watched, saved and resumed.

    `train(key, name, params, loss, data) -> params`, on the host, not under `jax.jit`. `loss(params, key, step, *batch) ->
    (scalar, metrics)` is differentiated in its first argument, `metrics` is a dict of scalars to be logged; `data` is a tuple of
    arrays [N, ...], of which each batch holds the same rows. `name` tells the trainings of one method apart.
    """

    def __call__(self, key: Array, name: str, params: Any, loss: Callable[..., Any], data: tuple) -> Any: ...


class Defense(NamedTuple):
    """A defense: the defended classifier is again an `ApplyFn`, so that an attack on it is plain composition.

    Attributes:
      fit: `fit(key, variables, images, labels) -> state`, a tree of arrays, on the host; what the defense draws at random lies in
        it, as arrays.
      apply: `apply({'target': variables, 'defense': state}, images [B, H, W, C]) -> logits [B, num_classes]`. Where it has no
        useful derivative it is given that of a stand-in (backward pass differentiable approximation, Athalye et al. 2018,
        arXiv:1802.00420), said in the factory: an attack on `apply` is then an adaptive one.
      purify: for those that change the image before the target sees it: `purify(variables, images) -> [B, H, W, C]`, of the same
        variables; else None.
      redraw: for those that draw at random: `redraw(key, variables)`, the same variables with other draws, which attackers who do
        not know those in the state average over (`expectation_over_transformations`); else None.
      network: for those whose state is the variables of a network that answers in the target's place: that network; else None.
    """

    fit: Callable[..., Any]
    apply: ApplyFn
    purify: Callable[..., Array] | None = None
    redraw: Callable[[Array, Variables], Variables] | None = None
    network: Classifier | None = None


class TrainState(NamedTuple):
    """Everything a resumed training needs besides the seed; arrays only.

    Attributes:
      step: int32, the number of optimiser steps done.
      params: what is trained.
      opt_state: the optimiser's state for `params`.
    """

    step: Array
    params: Any
    opt_state: Any
