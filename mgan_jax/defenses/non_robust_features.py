"""Training on what attacks add to images alone (Ilyas et al. 2019, arXiv:1905.02175): the counterpart of `robust_features`."""

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax.defenses.retraining import learn_afresh, replacing
from mgan_jax.types import Array, Attack, Classifier, Defense, Train, Variables

AIMS = ("random", "next")


def non_robust_features(
    attack: Attack, classifier: Classifier, train: Train, aim: str = "random", batch_size: int = 500
) -> Defense:
    """Moves every training image a little towards a class t, calls it t, and trains a fresh classifier on these as usual.

    To people the labels are wrong. A classifier that is nevertheless right on clean test images has learned it from features that
    predict the class and that a small change turns: the reason, say the authors, why attacks exist and transfer. It is no
    defense; it stands beside `robust_features` as its control.

    Args:
      attack: targeted, on a network trained as usual, `fit`'s target; the authors' is PGD in L2 with epsilon .5, 100 steps of .1.
      classifier: the fresh network, of any architecture; it has as many classes as the target.
      train: trains the `classifier`.
      aim: "random": t is drawn uniformly from all classes, so that robust features say nothing of it; "next": the class after the
        true one, so that they say the wrong thing.
      batch_size: images that are attacked at once.

    Returns:
      A `Defense` whose state is the classifier's variables.

    Raises:
      ValueError: another aim, a batch size below 1, or several attacks.
    """
    if not callable(attack):
        raise ValueError(f"attack is {len(attack)} attacks; choose one")
    if aim not in AIMS or batch_size < 1:
        raise ValueError(f"aim is {aim!r}, batch_size {batch_size}; choose one of {', '.join(AIMS)}, and at least 1")
    attacked = jax.jit(lambda *arguments: attack(*arguments).adversarial)

    def fit(key: Array, variables: Variables, images: Array, labels: Array) -> Variables:
        aim_key, attack_key, learn_key = jax.random.split(key, 3)
        shape = jax.eval_shape(lambda x: classifier.apply(classifier.init(jax.random.key(0)), x), jnp.asarray(images[:1])).shape
        drawn = jax.random.randint(aim_key, (len(images),), 0, shape[-1], jnp.int32)
        targets = drawn if aim == "random" else (jnp.asarray(labels) + 1) % shape[-1]
        targets, made = np.asarray(targets, np.int32), []
        for start in range(0, len(images), batch_size):
            batch = (jnp.asarray(array[start : start + batch_size]) for array in (images, labels, targets))
            made.append(np.asarray(attacked(jax.random.fold_in(attack_key, start), variables, *batch)))
        return learn_afresh(learn_key, "classifier", classifier, train, np.concatenate(made), targets)

    return replacing(classifier, fit)
