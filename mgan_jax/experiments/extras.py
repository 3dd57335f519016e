"""What a row says of one attack alone: how a substitute agrees, what a universal perturbation moves beside its aim, ..."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np

from mgan_jax import engine, metrics
from mgan_jax.attacks.substitute_model import agreement
from mgan_jax.types import AttackResult, Classifier, Split, Variables


def extras(
    method: str,
    arguments: dict[str, Any],
    state: Any,
    classifier: Classifier,
    variables: Variables,
    test: Split,
    result: AttackResult,
) -> dict[str, Any]:
    """Further fields of a row, none for most methods.

    Args:
      method: name of the attack.
      arguments: those it was built with, and as `substitutes` the classifiers that it learned on in place of the target.
      state: what it learned; None where it learns nothing.
      classifier, variables: the target.
      test: the images, clean.
      result: what it made of them.
    """
    if method == "substitute_model":
        same = jax.jit(lambda s, v, x: agreement(classifier.apply, v, arguments["classifier"], s, x))
        agreed = agreeing("agreement", float(same(state, variables, test.images)), len(test.labels))
        return {**agreed, "fit_queries": int(state["queries"])}
    if method == "universal_perturbation":
        clean = engine.predictions(classifier.apply, variables, test.images)
        chosen = {name: arguments.get(name) for name in ("classes", "target_label")}
        found = metrics.fooling_rate(clean, np.asarray(engine.decide(result.logits)), test.labels, **chosen)
        counts = {"num_fooling": found.pop("num_images"), "num_collateral": found.pop("num_others")}
        return {**found, **counts}
    if method == "adversarial_transformation_network":
        clean = engine.logits(classifier.apply, variables, test.images)
        order = {f"order_{name}": value for name, value in metrics.kept_order(clean, result.logits).items()}
        return {**order, **of_substitutes(arguments["substitutes"], state, classifier, variables, test)}
    return {}


def agreeing(name: str, share: float, count: int) -> dict[str, Any]:
    """A share of so many images on which a substitute answers as the target does, and its interval, as fields of a row."""
    return {name: share, f"{name}_ci95": metrics.wilson(round(share * count), count), "num_compared": count}


def of_substitutes(
    substitutes: Sequence[Classifier], state: Any, classifier: Classifier, variables: Variables, test: Split
) -> dict[str, Any]:
    """What an attack asked of the target, and how its least faithful substitute agrees with it; nothing without substitutes."""
    if not substitutes:
        return {}
    pairs = zip(substitutes, state["substitutes"], strict=True)
    same = [jax.jit(partial(agreement, classifier.apply, classifier=c))(variables, state=s, images=test.images) for c, s in pairs]
    least = {"num_substitutes": len(same), **agreeing("least_agreement", float(min(same)), len(test.labels))}
    return {**least, "fit_queries": int(state["queries"])}
