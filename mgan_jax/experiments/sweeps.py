"""Attacks along an axis: robust accuracy against epsilon, and label change rate against the confidence an attack asks for."""

import copy
import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from mgan_jax import engine, population
from mgan_jax.build import factory
from mgan_jax.experiments import aims, populations
from mgan_jax.experiments.attacking import GENERATORS, build_attack, in_batches
from mgan_jax.experiments.crafting import WEIGHT_OPERATORS
from mgan_jax.experiments.stages import rows as stage_rows
from mgan_jax.experiments.stages import without_shown
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.testing import RESAMPLES, auroc_of, mutant_fields
from mgan_jax.experiments.training import Run, build_mutation
from mgan_jax.losses import margin
from mgan_jax.metrics import auroc, named, two_way_bootstrap
from mgan_jax.mutation.mixture import mixture
from mgan_jax.types import Classifier, Dataset, LearnedAttack, Split, Variables

KAPPA_TOLERANCE = 1e-3
LIMIT_IMAGES = 100


def changed(settings: Any, **arguments: Any) -> ConfigDict:
    """A row of the config with other arguments."""
    settings = copy.deepcopy(ConfigDict(without_shown("attacks", settings))).unlock()
    settings.arguments = ConfigDict({**settings.get("arguments", {}), **arguments})
    return settings


def chosen(config: Any, names: Sequence[str]) -> tuple[list[str], bool, bool]:
    """What is swept where `config.rows` chose the rows `names`: what belongs to one of them, or where it chose none, all.

    Returns:
      (attacks whose epsilon is; whether the steps of `config.curve.steps_of` are; whether the kappa of `config.confidence` is).
    """
    belongs = lambda name: not config.rows or name in names  # noqa: E731
    curve, confidence = config.curve, config.confidence
    swept = belongs(confidence.attack) and len(confidence.kappas) > 0
    return [name for name in curve.attacks if belongs(name)], belongs(curve.steps_of), swept


def check_growing(where: str, steps: Sequence[int]) -> None:
    """Whether numbers of steps grow, as a comparison of each with the one before takes them to.

    Raises:
      ValueError: they do not.
    """
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"{where} are {tuple(steps)}; name them from the fewest to the most, each once")


def check(config: Any, names: Sequence[str], classifier: Classifier, dataset: Dataset) -> None:
    """Builds every attack that is swept; `names` as in `chosen`.

    Raises:
      ValueError: a name that is no row, an attack that learns or takes no such argument, no values, steps that do not grow, or
        too few images.
    """
    curve, confidence = config.curve, config.confidence
    for name in (*curve.attacks, curve.steps_of):
        if name not in config.attacks:
            raise ValueError(f"config.curve names {name!r}; choose from {', '.join(config.attacks)}")
    if not curve.epsilons:
        raise ValueError("config.curve.epsilons is empty; choose at least one")
    check_growing("config.curve.steps", curve.steps)
    attacks, with_steps, with_kappas = chosen(config, names)
    swept = [(name, changed(config.attacks[name], epsilon=tuple(curve.epsilons))) for name in attacks]
    swept += [(curve.steps_of, steps_settings(config, steps)) for steps in curve.steps if with_steps]
    swept += [(confidence.attack, confidence_settings(config, kappa)) for kappa in confidence.kappas if with_kappas]
    for name, settings in swept:
        if settings.get("method", name) in GENERATORS or isinstance(
            build_attack(settings, name, classifier, dataset), LearnedAttack
        ):
            raise ValueError(f"{name} learns; choose attacks for config.curve and config.confidence that do not")
    if with_kappas and not 1 <= confidence.num_images <= config.testing.num_images:
        raise ValueError(f"config.confidence.num_images is {confidence.num_images}; choose 1 to {config.testing.num_images}")
    if with_kappas and "qualified" not in config.protocols:
        raise ValueError("config.confidence takes the protocol 'qualified'; name it in config.protocols, or choose no kappas")


def steps_settings(config: Any, steps: int) -> ConfigDict:
    """The row `config.curve.steps_of` with so many steps."""
    curve = config.curve
    return changed(config.attacks[curve.steps_of], num_steps=int(steps), step_size=None, epsilon=curve.steps_epsilon)


def confidence_settings(config: Any, kappa: float) -> ConfigDict:
    """The attack of `config.confidence`, asked for this confidence."""
    sweep = config.confidence
    return changed({**sweep, "method": sweep.attack}, **sweep.arguments, confidence=float(kappa))


def bounds_rows(
    run: Run, kind: str, name: str, settings: ConfigDict, classifier: Classifier, variables: Variables, test: Split
) -> list[dict]:
    """Success of one attack at each of its epsilons, all in one program.

    Args:
      run: whose stage and stream it is.
      kind: what they are named by beside the attack's name.
      name, settings: the attack's row; its epsilon is a tuple.
      classifier, variables, test: the target, and images that it classifies correctly.

    Returns:
      Rows with attack, epsilon, norm, targeted, success_rate, withstand_rate, both with their intervals, and num_images.
    """

    def make(run: Run, settings: dict[str, Any], variables: Variables, images: np.ndarray, labels: np.ndarray) -> list[dict]:
        attack = build_attack(ConfigDict(settings), name, classifier, run.dataset)
        # K epsilons lead: the images come first for joining batches.
        moved = lambda *args: _images_first(attack(*args))  # noqa: E731
        key = stream_key(run.seed, kind, name)
        targets = aims.given(run, settings, name, labels)
        result, _, _ = in_batches(moved, key, variables, Split(images, labels), targets, settings.get("batch_size", 250))
        arguments, targeted = settings["arguments"], targets is not None
        return [
            {
                "attack": name,
                "epsilon": float(epsilon),
                "norm": arguments.get("norm", "linf"),
                "targeted": targeted,
                **withstood(won, held),
            }
            for epsilon, won, held in zip(arguments["epsilon"], result.success.T, result.withstood.T, strict=True)
        ]

    inputs = {"settings": settings.to_dict(), "variables": variables, "images": test.images, "labels": test.labels}
    return stage_rows(run, f"{kind}_{name}", make, inputs)


def withstood(won: np.ndarray, held: np.ndarray) -> dict[str, Any]:
    """Of images that the target classifies correctly the shares on which an attack succeeds, `won` [N], and that withstand.

    `held` [N] says which withstand; an image may do neither, see `AttackResult.withstood`.
    """
    whole = np.ones_like(won)
    return {**named("success_rate", won, whole, "num_images"), **named("withstand_rate", held, whole, "num_images")}


def _images_first(result: Any) -> Any:
    return result._replace(**{name: leaf.swapaxes(0, 1) for name, leaf in result._asdict().items()})


def epsilon_rows(run: Run, names: list[str], classifier: Classifier, variables: Variables, test: Split) -> list[dict]:
    """Success of each attack of these names at each of `config.curve.epsilons`; rows as of `bounds_rows`."""
    settings = {name: changed(run.config.attacks[name], epsilon=tuple(run.config.curve.epsilons)) for name in names}
    return [row for name in names for row in bounds_rows(run, "curve", name, settings[name], classifier, variables, test)]


def limit_rows(run: Run, names: Sequence[str], classifier: Classifier, variables: Variables, test: Split) -> list[dict]:
    """Success of bounded attacks at epsilon 0 and at the largest distance of two images, 1 or the root of the number of values.

    Returns:
      Rows as of `bounds_rows`, with the method; two of each of these names.
    """
    few, rows = Split(test.images[:LIMIT_IMAGES], test.labels[:LIMIT_IMAGES]), []
    for name in names:
        own = run.config.attacks[name]
        arguments = own.get("arguments", {})
        most = 1.0 if arguments.get("norm", "linf") == "linf" else float(np.sqrt(np.prod(test.images.shape[1:])))
        # A step of a fixed length may not get there.
        parameters = inspect.signature(factory("attacks", own.get("method", name))).parameters
        settings = changed(own, epsilon=(0.0, most), **({"step_size": None} if "step_size" in parameters else {}))
        found = bounds_rows(run, "limits", name, settings, classifier, variables, few)
        rows += [{**row, "method": own.get("method", name)} for row in found]
    return rows


def step_rows(run: Run, classifier: Classifier, variables: Variables, test: Split) -> list[dict]:
    """Success of `config.curve.steps_of` with each number of steps of `config.curve.steps`, at `config.curve.steps_epsilon`."""
    name = run.config.curve.steps_of

    def make(run: Run, variables: Variables, images: np.ndarray, labels: np.ndarray) -> list[dict]:
        rows, curve, test = [], run.config.curve, Split(images, labels)
        for steps in curve.steps:
            settings = steps_settings(run.config, steps)
            attack = build_attack(settings, name, classifier, run.dataset)
            key = stream_key(run.seed, "steps", name)
            targets = aims.given(run, settings, name, labels)
            result, _, _ = in_batches(attack, key, variables, test, targets, settings.get("batch_size", 250))
            rows.append({"attack": name, "epsilon": float(curve.steps_epsilon), "num_steps": int(steps),
                         "targeted": targets is not None, **withstood(result.success, result.withstood)})  # fmt: skip
        return rows

    inputs = {"variables": variables, "images": test.images, "labels": test.labels}
    sections = (f"attacks.{name}", *(f"curve.{field}" for field in ("steps_of", "steps", "steps_epsilon")))
    return stage_rows(run, f"steps_{name}", make, inputs, sections)


def confidence_rows(run: Run, classifier: Classifier, variables: Variables, test: Split, used: populations.Streams) -> list[dict]:
    """Label change rate of an attack's images against the confidence kappa that it asks for.

    The mutants are qualified ones of mixed operators; the images a random part of the comparison's set. Images count whose
    logit leads the true class's by kappa or more, which is what was asked for; a third class may be closer behind. Mutants
    that are `used` already are left out.

    Returns:
      Rows with attack, kappa, success_rate of any margin and reached_rate, both of num_images; and over the num_adversarial
      images that reach kappa l2, margin of the decision over any other class, lcr, normal_lcr, auroc; num_mutants.
    """
    sweep, testing = run.config.confidence, run.config.testing
    protocol = run.config.protocols.qualified
    some = np.random.default_rng(0).permutation(len(test.labels))[: sweep.num_images]
    images, labels = test.images[some], test.labels[some]
    mutate = mixture([build_mutation(run.config, operator, protocol.rate) for operator in WEIGHT_OPERATORS])
    number, how = testing.num_mutants, protocol.to_dict()
    found, _ = populations.sampled(run, "confidence", classifier, variables, mutate, how, number, used)

    def make(run: Run, variables: Variables, images: np.ndarray, labels: np.ndarray, **_) -> list[dict]:
        sweep = run.config.confidence
        if not found.num_mutants:
            return []
        decide = lambda x: engine.predictions(classifier.apply, variables, x)  # noqa: E731
        flips = lambda x: population.votes(classifier, found, x, **run.how) != decide(x)  # noqa: E731
        normal, whole, rows = flips(images), np.ones(len(labels), bool), []
        interval = lambda matrix: two_way_bootstrap([matrix], lambda r: r[0].mean(), RESAMPLES, 0.99, run.seed)  # noqa: E731
        for kappa in sweep.kappas:
            settings = confidence_settings(run.config, kappa)
            attack = build_attack(settings, sweep.attack, classifier, run.dataset)
            key = stream_key(run.seed, "confidence", sweep.attack)
            result, _, _ = in_batches(attack, key, variables, Split(images, labels), None, sweep.batch_size)
            moved = flips(result.adversarial)
            first, second = np.sort(result.logits, -1)[:, [-1, -2]].T
            lead = -np.asarray(margin(result.logits, labels))
            won = result.success & (lead >= kappa - KAPPA_TOLERANCE)
            rows.append({
                "attack": sweep.attack, "kappa": float(kappa), **named("success_rate", result.success, whole, "num_images"),
                **named("reached_rate", won, whole, "num_images"),
                "l2": float(result.l2[won].mean()) if won.any() else None,
                "margin": float((first - second)[won].mean()) if won.any() else None,
                "lcr": float(moved[:, won].mean()) if won.any() else None, "lcr_ci99": interval(moved[:, won]),
                "normal_lcr": float(normal[:, won].mean()) if won.any() else None, "normal_lcr_ci99": interval(normal[:, won]),
                "auroc": auroc(moved[:, won].mean(0), normal[:, won].mean(0)),
                "auroc_ci95": two_way_bootstrap([moved[:, won], normal[:, won]], auroc_of, RESAMPLES, 0.95, run.seed),
                "num_adversarial": int(won.sum()), **mutant_fields(found),
            })  # fmt: skip
        return rows

    inputs = {"variables": variables, "images": images, "labels": labels, "mutants": found.key_data}
    return stage_rows(run, "confidence", make, inputs, ("confidence", "protocols.qualified", "mutation"))
