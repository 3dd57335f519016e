"""Attacks that know the detectors: on images, and a generator with detectors in its loss."""

from typing import Any

import jax
import numpy as np

from mgan_jax import metrics, workdir
from mgan_jax.attacks.selective_gradient_descent import selective_gradient_descent
from mgan_jax.attacks.undetected import undetected
from mgan_jax.checkpoint import digest
from mgan_jax.detectors.combined import combined
from mgan_jax.experiments import crafting, detecting, reads
from mgan_jax.experiments.attacking import Attacked, in_batches, kept
from mgan_jax.experiments.detecting import JOINT, Fitted
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run, train_generator
from mgan_jax.types import Classifier, Split, Variables

UNDETECTED = "mgan_undetected"


def followed(run: Run, fitted: dict[str, Fitted]) -> Fitted | None:
    """The joint rule of those members whose score has a derivative, at the joint rule's own threshold: what an attack follows."""
    members = {name: fitted[name] for name in run.config.joint if name in fitted and fitted[name].differentiable}
    if JOINT not in fitted or not members:
        return None
    detector = combined({name: one.detector for name, one in members.items()})
    state = {name: fitted[JOINT].state[name] for name in members}
    return fitted[JOINT]._replace(detector=detector, state=state, differentiable=True)


def adaptive_attack(
    run: Run, name: str, one: Fitted, classifier: Classifier, variables: Variables, test: Split, read: dict
) -> Attacked:
    """Images that are to fool the target and pass a detector, made with both in hand."""
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

    own = {**run.reads(), **read, "adaptive": settings.to_dict(), "threshold": one.threshold, "images": digest([test])[:16]}
    done = workdir.stage(run.path, f"adaptive_{name}", own, make)
    return Attacked(**done.arrays, numbers=done.numbers)


def adaptive_rows(
    run: Run, fitted: dict[str, Fitted], classifier: Classifier, variables: Variables, test: Split, read: dict[str, Any]
) -> list[dict]:
    """A row for each detector of `config.adaptive.detectors` under attacks whose loss contains its score."""
    rows, arguments = [], run.config.adaptive.arguments
    names = [name for name in run.config.adaptive.detectors if name in fitted]
    update = run.start("attacks on detectors", len(names), "detectors")
    for done, name in enumerate(names, 1):
        aimed = followed(run, fitted) if name == JOINT else fitted[name]
        if aimed is None:
            continue
        members = {JOINT: run.config.joint}.get(name, (name,))
        made = adaptive_attack(
            run,
            name,
            aimed,
            classifier,
            variables,
            test,
            {member: read["detectors"][member] for member in members if member in fitted},
        )
        passes = {
            other: one.score(made.images) <= one.threshold for other, one in fitted.items() if detecting.WITHOUT not in other
        }
        fools = metrics.share(made.success, np.ones_like(made.success))
        both = metrics.share(made.success & passes[name], np.ones_like(made.success))
        rows.append({
            "detector": name, "norm": arguments.get("norm", "linf"), "epsilon": arguments.epsilon, "seed": run.seed,
            "num_images": fools["n"], "success_rate": fools["rate"], "success_rate_ci95": fools["ci95"],
            "undetected_rate": both["rate"], "undetected_rate_ci95": both["ci95"],
            "others": {other: float((made.success & of).mean()) for other, of in passes.items() if other != name},
            "seconds_per_1000": 1000 * made.numbers["seconds"] / fools["n"],
        })  # fmt: skip
        update(done)
    return rows


def undetected_images(
    run: Run,
    weight: float,
    fitted: dict[str, Fitted],
    classifier: Classifier,
    variables: Variables,
    test: Split,
    read: dict[str, Any],
) -> Attacked:
    """What an MGAN makes that was trained with the detectors' excess over their joint threshold in its loss."""
    aimed, name = followed(run, fitted), f"{UNDETECTED}_{weight:g}"
    operators = crafting.training_operators("all")
    base = crafting.build_generative_attack(run.config, "mgan", classifier.apply, operators)
    excess = lambda v, x: aimed.detector.score(v, aimed.state, x) - aimed.threshold  # noqa: E731
    attack = undetected(base, excess, weight, run.config.undetected.margin)
    beside = {"undetected": {"weight": weight, "margin": run.config.undetected.margin}, "joint": read["detectors"]}
    own = run._replace(beside={**run.beside, **beside})
    settings = run.config.attacks.mgan
    state, _ = train_generator(own, name, attack, variables, settings, reads.of_attack(own, "mgan"))

    def make() -> tuple[dict, dict]:
        generator = jax.tree_util.Partial(attack.attack, {"generator": state["generator"]})
        result, seconds, compile_seconds = in_batches(generator, stream_key(run.seed, name), variables, test, None, 250)
        return kept(result), {"seconds": seconds, "compile_seconds": compile_seconds}

    done = workdir.stage(run.path, f"attack_{name}", reads.of_images(own, "mgan"), make)
    return Attacked(**done.arrays, numbers=done.numbers)
