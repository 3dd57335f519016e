"""Attacks that know the detectors: on images, and a generator with detectors in its loss."""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import engine, metrics
from mgan_jax.attacks.selective_gradient_descent import selective_gradient_descent
from mgan_jax.attacks.undetected import undetected
from mgan_jax.detectors.combined import ranks
from mgan_jax.detectors.label_change_rate import label_change_rate
from mgan_jax.experiments import crafting, detecting
from mgan_jax.experiments.attacking import Attacked, in_batches, kept
from mgan_jax.experiments.detecting import JOINT, Fitted
from mgan_jax.experiments.populations import Streams
from mgan_jax.experiments.stages import made_from, narrowed, stage
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run, build_mutation, train_generator
from mgan_jax.losses import disagreement
from mgan_jax.types import ApplyFn, Array, Classifier, Detector, Split, Variables


def adaptive_arguments(config: Any) -> dict[str, Any]:
    """Arguments of the attack that knows a detector; those that are None in `config.adaptive` are the attack's own."""
    return {name: value for name, value in config.adaptive.arguments.items() if value is not None}


def mutant_loss(apply_fn: ApplyFn, method: str = "auto") -> Callable[[Variables, Variables, Array], Array]:
    """`score(variables, mutants, images) -> [B]`: the mean of L_mutate over a tree of mutants, differentiable.

    Infinite, as a detector's, for an image that the target reads as no class.

    Args:
      apply_fn: the target.
      method: as in `engine.evaluate`.
    """

    def score(variables: Variables, mutants: Variables, images: Array) -> Array:
        decisions = engine.decide(jax.lax.stop_gradient(apply_fn(variables, images)))
        among = jnp.maximum(decisions, 0)
        loss = engine.evaluate(apply_fn, mutants, images, lambda logits: disagreement(logits, among), method).mean(0)
        return jnp.where(decisions == engine.NO_CLASS, jnp.inf, loss)

    return score


def stand_in(run: Run, name: str, classifier: Classifier, variables: Variables, used: Collection[str]) -> Fitted:
    """What an attack follows in place of a detector that counts mutants' votes: L_mutate, of mutants of the attacker's own.

    The attacker knows the operator, the rate and the filter, not the detector's mutants: its own are none of those `used`, and
    are judged on training images. Calibrated as the detector is, on the same clean images.

    Raises:
      ValueError: none of the attacker's mutants qualifies.
    """
    settings, number, testing = run.config.detectors[name], run.config.adaptive.num_mutants, run.config.testing
    own = detecting.own_run(run, f"{name}_followed", settings)
    own = own._replace(sections=(*own.sections, "adaptive.num_mutants"))
    mutate = build_mutation(run.config, settings.operator, settings.rate)
    least = settings.get("arguments", {}).get("min_accuracy_ratio", 0.9)
    detector = Detector(label_change_rate(classifier, mutate, number, least, exclude=used).fit, mutant_loss(classifier.apply))
    given = tuple(array[: testing.num_fit_images] for array in run.dataset.train)
    key = stream_key(run.seed, "attacker's mutants", name)
    return detecting.ready(own, detector, variables, given, key, on_host=False)


def differentiable_members(run: Run, fitted: dict[str, Fitted]) -> list[str]:
    """Members of the joint rule whose own score an attack can follow."""
    return [name for name in run.config.joint if name in fitted and fitted[name].differentiable]


def stand_ins(
    run: Run, fitted: dict[str, Fitted], classifier: Classifier, variables: Variables, used: Streams
) -> dict[str, Fitted]:
    """Of every detector that counts votes and is attacked, by itself or in the joint rule, what attacks follow in its place.

    Args:
      run: the seed.
      fitted: all detectors.
      classifier, variables: the target.
      used: mutants that are used already, the detectors' among them.
    """
    attacked = [name for name in run.config.adaptive.detectors if name in fitted]
    members = {name for aimed in attacked for name in (fitted[JOINT].state if aimed == JOINT else (aimed,))}
    names = [name for name in fitted if name in members and not fitted[name].differentiable]
    found = {}
    for name in names:
        found[name] = stand_in(run, name, classifier, variables, used.every)
        used = detecting.mutants_of(
            detecting.own_run(run, f"{name}_followed", run.config.detectors[name]), found[name].state, used
        )
    return found


def followed(run: Run, name: str, fitted: dict[str, Fitted], stands: dict[str, Fitted]) -> Fitted:
    """What an attack on a detector, or on the joint rule, follows: scores that have a derivative, or their stand-ins."""
    if name != JOINT:
        return stands.get(name, fitted[name])
    detector, state = detecting.as_one(run, {member: stands.get(member, fitted[member]) for member in fitted[JOINT].state})
    return fitted[JOINT]._replace(detector=detector, state=state, differentiable=True)


def sections_of(run: Run, members: Iterable[str]) -> tuple[str, ...]:
    """Names of the sections that these detectors are made by."""
    of = (detecting.own_run(run, member, run.config.detectors[member]).sections for member in members)
    return tuple(dict.fromkeys(section for sections in of for section in sections))


def adaptive_attack(
    run: Run, name: str, one: Fitted, members: Iterable[str], classifier: Classifier, variables: Variables, test: Split
) -> Attacked:
    """Images that are to fool the target and pass a detector, made with both in hand.

    Args:
      run: the seed.
      name: of the detector.
      one: what is followed in its place, see `followed`.
      members: the detectors that it consists of.
      classifier, variables: the target.
      test: the images.
    """

    score = one.detector.score

    def make(
        run: Run, variables: Variables, state: Any, threshold: float, images: np.ndarray, labels: np.ndarray
    ) -> tuple[dict, dict]:
        attack = selective_gradient_descent(
            lambda v, x: classifier.apply(v["target"], x),
            lambda v, x: score(v["target"], v["detector"], x),
            threshold=threshold,
            **adaptive_arguments(run.config),
        )
        both, key = {"target": variables, "detector": state}, stream_key(run.seed, "adaptive", name)
        size = run.config.adaptive.batch_size
        result, seconds, compile_seconds = in_batches(attack, key, both, Split(images, labels), None, size)
        return kept(result), {"seconds": seconds, "compile_seconds": compile_seconds}

    inputs = {"variables": variables, "state": one.state, "threshold": one.threshold, "images": test.images,
              "labels": test.labels}  # fmt: skip
    sections = (*sections_of(run, members), "adaptive.arguments", "adaptive.batch_size")
    done = stage(run, f"adaptive_{name}", make, inputs, sections)
    return Attacked(**done.arrays, numbers=done.numbers)


def adaptive_rows(
    run: Run,
    fitted: dict[str, Fitted],
    stands: dict[str, Fitted],
    classifier: Classifier,
    variables: Variables,
    test: Split,
) -> tuple[list[dict], dict[str, dict[str, np.ndarray]], list[Attacked]]:
    """A row for each detector of `config.adaptive.detectors` under attacks that follow it (`followed`).

    Returns:
      The rows; {detector followed: {detector: whether an image [N] fools the network and passes it}}; what was made.
    """
    rows, undetected, aimed, settings = [], {}, [], run.config.adaptive
    names = [name for name in settings.detectors if name in fitted]
    whole = {name: one for name, one in fitted.items() if detecting.WITHOUT not in name}
    update = run.start("attacks on detectors", len(names), "detectors")
    for done, name in enumerate(names, 1):
        members = [member for member in (run.config.joint if name == JOINT else (name,)) if member in fitted]
        one = followed(run, name, fitted, stands)
        made = adaptive_attack(run, name, one, members, classifier, variables, test)
        part = f"follows_{name}"
        said = detecting.scores(run, whole, variables, {part: made.images})
        undetected[name] = {other: made.success & (of[part]["scores"] <= whole[other].threshold) for other, of in said.items()}
        aimed.append(made)
        fools = metrics.share(made.success, np.ones_like(made.success))
        both = metrics.share(undetected[name][name], np.ones_like(made.success))
        others = {other: metrics.share(of, np.ones_like(of)) for other, of in undetected[name].items() if other != name}
        rows.append({
            "detector": name, "norm": settings.arguments.get("norm", "linf"), "epsilon": settings.arguments.epsilon,
            "seed": run.seed, "num_images": fools["n"],
            "success_rate": fools["rate"], "success_rate_ci95": fools["ci95"],
            "undetected_rate": both["rate"], "undetected_rate_ci95": both["ci95"],
            "others": {other: of["rate"] for other, of in others.items()},
            "others_ci95": {other: of["ci95"] for other, of in others.items()},
            "seconds_per_1000": 1000 * made.numbers["seconds"] / fools["n"],
        })  # fmt: skip
        update(done)
    return rows, undetected, aimed


def undetected_images(
    run: Run, weight: float, fitted: dict[str, Fitted], classifier: Classifier, variables: Variables, test: Split
) -> Attacked:
    """What an MGAN makes that was trained with each detector's excess over their joint threshold in its loss.

    Those that count mutants' votes have no part in it: MGAN's own L_mutate is theirs.
    """
    members, joint, name = differentiable_members(run, fitted), fitted[JOINT], crafting.undetected_name(weight)
    sections = (*crafting.generator_sections("mgan", "mgan"), *sections_of(run, joint.state), "undetected.margin")
    own = narrowed(run, sections)
    of_each = ranks({member: fitted[member].detector for member in members})
    base = crafting.build_generative_attack(own.config, "mgan", classifier.apply, crafting.training_operators("all"))
    excess = lambda v, x: of_each(v, joint.state, x) - joint.threshold  # noqa: E731
    attack = undetected(base, excess, weight, own.config.undetected.margin)
    inputs = {"variables": variables, "weight": weight, "members": members, "state": joint.state, "threshold": joint.threshold}
    state, _ = train_generator(own, name, attack, variables, own.config.attacks.mgan, made_from(own, sections, inputs))

    def make(run: Run, generator: Any, variables: Variables, images: np.ndarray, labels: np.ndarray) -> tuple[dict, dict]:
        perturbing, key = jax.tree_util.Partial(attack.attack, {"generator": generator}), stream_key(run.seed, name)
        result, seconds, compile_seconds = in_batches(perturbing, key, variables, Split(images, labels), None, 250)
        return kept(result), {"seconds": seconds, "compile_seconds": compile_seconds}

    given = {"generator": state["generator"], "variables": variables, "images": test.images, "labels": test.labels}
    done = stage(run, f"attack_{name}", make, given, sections)
    return Attacked(**done.arrays, numbers=done.numbers)
