"""Attacks that know the detectors: on images, and a generator with detectors in its loss."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mgan_jax import engine, metrics, workdir
from mgan_jax.attacks.selective_gradient_descent import selective_gradient_descent
from mgan_jax.attacks.undetected import undetected
from mgan_jax.checkpoint import digest
from mgan_jax.detectors.combined import ranks
from mgan_jax.detectors.label_change_rate import label_change_rate
from mgan_jax.experiments import crafting, detecting, reads
from mgan_jax.experiments.attacking import Attacked, in_batches, kept
from mgan_jax.experiments.detecting import JOINT, Fitted
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run, build_mutation, train_generator
from mgan_jax.losses import disagreement
from mgan_jax.types import ApplyFn, Array, Classifier, Detector, Split, Variables

UNDETECTED = "mgan_undetected"


def mutant_loss(apply_fn: ApplyFn, method: str = "auto") -> Callable[[Variables, Variables, Array], Array]:
    """`score(variables, mutants, images) -> [B]`: the mean of L_mutate over a tree of mutants, differentiable.

    Args:
      apply_fn: the target.
      method: as in `engine.evaluate`.
    """

    def score(variables: Variables, mutants: Variables, images: Array) -> Array:
        decisions = jax.lax.stop_gradient(apply_fn(variables, images).argmax(-1))
        return engine.evaluate(apply_fn, mutants, images, lambda logits: disagreement(logits, decisions), method).mean(0)

    return score


def stand_in(run: Run, name: str, classifier: Classifier, variables: Variables) -> Fitted:
    """What an attack follows in place of a detector that counts mutants' votes: L_mutate, of mutants of the attacker's own.

    The attacker knows the operator, the rate and the filter, not the detector's mutants; these are judged on training images.
    Calibrated as the detector is, on the same clean images.

    Raises:
      ValueError: none of the attacker's mutants qualifies.
    """
    settings, number, testing = run.config.detectors[name], run.config.adaptive.num_mutants, run.config.testing
    own = detecting.own_run(run, f"{name}_followed", settings)
    own = own._replace(beside={**own.beside, "num_mutants": number, "num_fit_images": testing.num_fit_images})
    mutate = build_mutation(run.config, settings.operator, settings.rate)
    least = settings.get("arguments", {}).get("min_accuracy_ratio", 0.9)
    detector = Detector(label_change_rate(classifier, mutate, number, least).fit, mutant_loss(classifier.apply))
    given = tuple(array[: testing.num_fit_images] for array in run.dataset.train)
    key = stream_key(run.seed, "attacker's mutants", name)
    return detecting.ready(own, detector, variables, given, key, on_host=False)


def differentiable_members(run: Run, fitted: dict[str, Fitted]) -> list[str]:
    """Members of the joint rule whose own score an attack can follow."""
    return [name for name in run.config.joint if name in fitted and fitted[name].differentiable]


def stand_ins(run: Run, fitted: dict[str, Fitted], classifier: Classifier, variables: Variables) -> dict[str, Fitted]:
    """Of every detector that counts votes and is attacked, by itself or in the joint rule, what attacks follow in its place."""
    attacked = [name for name in run.config.adaptive.detectors if name in fitted]
    members = {name for aimed in attacked for name in (fitted[JOINT].state if aimed == JOINT else (aimed,))}
    names = [name for name in fitted if name in members and not fitted[name].differentiable]
    return {name: stand_in(run, name, classifier, variables) for name in names}


def followed(run: Run, name: str, fitted: dict[str, Fitted], stands: dict[str, Fitted]) -> Fitted:
    """What an attack on a detector, or on the joint rule, follows: scores that have a derivative, or their stand-ins."""
    if name != JOINT:
        return stands.get(name, fitted[name])
    detector, state = detecting.as_one(run, {member: stands.get(member, fitted[member]) for member in fitted[JOINT].state})
    return fitted[JOINT]._replace(detector=detector, state=state, differentiable=True)


def adaptive_attack(
    run: Run, name: str, one: Fitted, classifier: Classifier, variables: Variables, test: Split, own: dict[str, Any]
) -> Attacked:
    """Images that are to fool the target and pass a detector, made with both in hand.

    Args:
      run: the seed.
      name: of the detector.
      one: what is followed in its place, see `followed`.
      classifier, variables: the target.
      test: the images.
      own: what they depend on.
    """
    settings = run.config.adaptive
    attack = selective_gradient_descent(
        lambda v, x: classifier.apply(v["target"], x),
        lambda v, x: one.detector.score(v["target"], v["detector"], x),
        threshold=one.threshold,
        **settings.arguments,
    )

    def make() -> tuple[dict, dict]:
        both = {"target": variables, "detector": one.state}
        key = stream_key(run.seed, "adaptive", name)
        result, seconds, compile_seconds = in_batches(attack, key, both, test, None, settings.batch_size)
        return kept(result), {"seconds": seconds, "compile_seconds": compile_seconds}

    done = workdir.stage(run.path, f"adaptive_{name}", own, make)
    return Attacked(**done.arrays, numbers=done.numbers)


def adaptive_rows(
    run: Run,
    fitted: dict[str, Fitted],
    stands: dict[str, Fitted],
    classifier: Classifier,
    variables: Variables,
    test: Split,
    read: dict[str, Any],
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
        own = {**run.reads(), **{member: read["detectors"][member] for member in members}, "threshold": one.threshold,
               "adaptive": {"arguments": settings.arguments.to_dict(), "batch_size": settings.batch_size},
               "images": digest([test])[:16]}  # fmt: skip
        own |= {"num_mutants": settings.num_mutants} if any(member in stands for member in members) else {}
        made = adaptive_attack(run, name, one, classifier, variables, test, own)
        part = f"follows_{name}"
        said = detecting.scores(run, whole, {part: made.images}, {**read, "images": {part: own}})
        undetected[name] = {other: made.success & (of[part]["scores"] <= whole[other].threshold) for other, of in said.items()}
        aimed.append(made)
        fools = metrics.share(made.success, np.ones_like(made.success))
        both = metrics.share(undetected[name][name], np.ones_like(made.success))
        rows.append({
            "detector": name, "norm": settings.arguments.get("norm", "linf"), "epsilon": settings.arguments.epsilon,
            "seed": run.seed, "num_images": fools["n"],
            "success_rate": fools["rate"], "success_rate_ci95": fools["ci95"],
            "undetected_rate": both["rate"], "undetected_rate_ci95": both["ci95"],
            "others": {other: float(of.mean()) for other, of in undetected[name].items() if other != name},
            "seconds_per_1000": 1000 * made.numbers["seconds"] / fools["n"],
        })  # fmt: skip
        update(done)
    return rows, undetected, aimed


def undetected_images(
    run: Run,
    weight: float,
    fitted: dict[str, Fitted],
    classifier: Classifier,
    variables: Variables,
    test: Split,
    read: dict[str, Any],
) -> Attacked:
    """What an MGAN makes that was trained with each detector's excess over their joint threshold in its loss.

    Those that count mutants' votes have no part in it: MGAN's own L_mutate is theirs.
    """
    members, joint, name = differentiable_members(run, fitted), fitted[JOINT], f"{UNDETECTED}_{weight:g}"
    of_each = ranks({member: fitted[member].detector for member in members})
    operators = crafting.training_operators("all")
    base = crafting.build_generative_attack(run.config, "mgan", classifier.apply, operators)
    excess = lambda v, x: of_each(v, joint.state, x) - joint.threshold  # noqa: E731
    attack = undetected(base, excess, weight, run.config.undetected.margin)
    own = {"weight": weight, "margin": run.config.undetected.margin, "hinges": "each detector's"}
    beside = {"undetected": own, **read["detectors"][JOINT]}
    own = run._replace(beside={**run.beside, **beside})
    settings = run.config.attacks.mgan
    state, _ = train_generator(own, name, attack, variables, settings, reads.of_attack(own, "mgan"))

    def make() -> tuple[dict, dict]:
        generator = jax.tree_util.Partial(attack.attack, {"generator": state["generator"]})
        result, seconds, compile_seconds = in_batches(generator, stream_key(run.seed, name), variables, test, None, 250)
        return kept(result), {"seconds": seconds, "compile_seconds": compile_seconds}

    done = workdir.stage(run.path, f"attack_{name}", reads.of_images(own, "mgan"), make)
    return Attacked(**done.arrays, numbers=done.numbers)
