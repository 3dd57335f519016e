"""Attack x defense: every defense under attacks that do not know it, beside attacks made against the defended network itself.

Of results.json `rows` has a cell each: `defense` ("none": the undefended target), `attack`, `aware` (whether the images were made
against the defended network), `robust_accuracy` of `num_images` (read correctly clean and attacked, whatever the
attack aims at), `success_rate` of `num_clean_correct`, medians of distances over successes. `worst_cases`: of a norm and epsilon
the images that every attack leaves, of those that do not know the defense and of all. `curve_rows`: under attacks that know it,
against epsilon and steps.
`defenses`: clean accuracy and seconds of fitting. `checklists`: {defense: lines of what holds where gradients are not masked}.
"""

import time
from typing import Any

import numpy as np

from mgan_jax import engine, metrics
from mgan_jax.datasets.split import class_balanced, classes_of
from mgan_jax.experiments import comparing, generating, masking, sanity
from mgan_jax.experiments.aims import aims
from mgan_jax.experiments.attacking import GENERATORS, Attacked, attacked
from mgan_jax.experiments.attacks import bound, check_attack, chosen_rows
from mgan_jax.experiments.data import test_images
from mgan_jax.experiments.defending import NONE, Defended, build_defense, defended
from mgan_jax.experiments.options import Options, provenance, without_skipped
from mgan_jax.experiments.rebuilding import rebuilt
from mgan_jax.experiments.seeds import each_seed
from mgan_jax.experiments.stages import stage
from mgan_jax.experiments.testing import target_fields
from mgan_jax.experiments.training import Run, build_target, train_target
from mgan_jax.report.defenses import print_defenses, write_defenses
from mgan_jax.report.material import PurifiedMaterial
from mgan_jax.success import fooled, tried, withstands
from mgan_jax.types import Dataset, Split, Variables

KNOWN = ("decode", "code_size", "classify", "redraw")
"""What attacks on a defense that looks for an image's code, or that draws at random, ask for."""


def check(config: Any, dataset: Dataset) -> None:
    """Builds everything that the config names and runs nothing.

    Raises:
      ValueError: a mistake in it.
    """
    classifier, given = build_target(config.target, dataset), {}
    if NONE in config.defenses:
        raise ValueError(f"config.defenses names {NONE!r}, which stands for the undefended target; choose another name")
    for name in chosen_rows(config, "defenses"):
        if not name.isidentifier():
            raise ValueError(f"config.defenses names {name!r}; choose a name of letters, digits and underscores")
        of = config.defenses[name].get("of")
        if of is not None and of not in list(config.defenses)[: list(config.defenses).index(name)]:
            raise ValueError(f"config.defenses.{name}.of is {of!r}; name a defense that stands before it")
        made, given[name] = build_defense(config, name, classifier, dataset)
        given[name] |= {"redraw": made.redraw} if made.redraw else {}
    generating.check_shared(config, with_bases(config, list(given))[1:])
    for name, settings in config.attacks.items():
        unknown = [defense for defense in settings.get("defenses", ()) if defense not in (NONE, *config.defenses)]
        if unknown:
            raise ValueError(f"config.attacks.{name}.defenses names {unknown[0]!r}; choose from {', '.join(config.defenses)}")
        shown = [defense for defense in settings.get("defenses", (NONE, *given)) if defense in (NONE, *given)]
        if not shown:
            continue
        # As `run_seed` makes it: without what a defense gives, where it is shown the undefended target.
        of = [{}] if NONE in shown or settings.get("unaware", True) else []
        of += [{"classify": classifier.apply, **given[defense]} if "decode" in given[defense] else given[defense]
               for defense in shown if defense != NONE]  # fmt: skip
        for facts in of:
            check_attack(config, name, classifier, dataset, **{field: facts[field] for field in KNOWN if field in facts})
    masking.check(config, classifier, dataset)
    comparing.check(config, {name: num_images(config, name, dataset)[1] for name in given})
    made = [name for name, settings in config.attacks.items() if settings.get("unaware", True)]
    unknown = [name for name in config.testing.pictures if name not in made]
    if unknown:
        raise ValueError(f"config.testing.pictures names {unknown[0]!r}; choose from {', '.join(made)}")
    for name in (NONE, *config.defenses):
        numbers = num_images(config, name, dataset)
        if min(numbers) < 1:
            raise ValueError(f"the numbers of images of the defense {name} are {numbers}; choose at least 1")
        for count in numbers:
            subset(test_images(dataset, config.testing.num_images), count, classes_of(dataset))
    test_images(dataset, config.testing.num_images)


def num_images(config: Any, name: str, dataset: Dataset) -> tuple[int, int]:
    """How many images a defense is shown: of attacks that do not know it, and of those made against it."""
    settings, testing = config.defenses.get(name, {}), config.testing
    whole = min(testing.num_images or len(dataset.test.labels), len(dataset.test.labels))
    wide = min(settings.get("num_images", whole), whole)
    return wide, min(settings.get("num_adaptive_images", testing.num_adaptive_images), wide)


def with_bases(config: Any, names: list[str]) -> list[str]:
    """The undefended target and these defenses, each after the one it is `of`."""
    wanted = set(names)
    for name in reversed(list(config.defenses)):
        if name in wanted and "of" in config.defenses[name]:
            wanted.add(config.defenses[name].of)
    return [NONE, *(name for name in config.defenses if name in wanted)]


def subset(split: Split, count: int, classes: np.ndarray) -> np.ndarray:
    """Places of `count` class-balanced images; fewer are among more."""
    return np.arange(len(split.labels)) if count >= len(split.labels) else class_balanced(split.labels, count, 0, classes)


def row(run: Run, one: Defended, defense: str, attack: str, aware: bool, made: Attacked, test: Split, correct: np.ndarray,
        read: np.ndarray) -> dict[str, Any]:  # fmt: skip
    """One cell with its numbers.

    Args:
      run, one, defense, attack: whose cell it is.
      aware: whether the images were made against the defended network.
      made: the images, of the same places as `test`.
      test: the clean images.
      correct: [N] whether the defended network reads the clean image correctly.
      read: [N] what it reads the attacked image as.
    """
    settings = run.config.attacks[attack]
    norm, epsilon = ("linf", run.config.epsilon) if attack in GENERATORS else bound(settings, attack)
    targets = aims(run, settings, attack, test.labels)
    won = fooled(test.labels, correct, read, targets)
    change = np.abs(made.images - test.images)
    distances = {"l0": (change > 0).any(-1).sum((1, 2)), "l2": np.sqrt(np.square(change).sum((1, 2, 3))),
                 "linf": change.max((1, 2, 3))}  # fmt: skip
    return {
        "defense": defense, "attack": attack, "method": settings.get("method", attack), "aware": aware,
        "knowledge": settings.knowledge, "norm": norm, "epsilon": epsilon, "seed": run.seed,
        "targeted": targets is not None,
        **metrics.named("robust_accuracy", withstands(test.labels, correct, read), np.ones_like(correct), "num_images"),
        **metrics.named("success_rate", won, tried(test.labels, correct, targets), "num_clean_correct"),
        **{f"median_{name}": float(np.median(values[won])) if won.any() else None for name, values in distances.items()},
        "seconds_per_1000": 1000 * made.numbers["seconds"] / len(made.images) if aware else None,
    }  # fmt: skip


def cut(made: Attacked, places: np.ndarray) -> Attacked:
    """What an attack made of the images at these places; its seconds are a share of all."""
    arrays = {name: getattr(made, name)[places] for name in ("images", "success", "success_rounded", "used")}
    return Attacked(**arrays, numbers={**made.numbers, "seconds": made.numbers["seconds"] * len(places) / len(made.images)})


def decisions(one: Defended, images: np.ndarray, size: int, part: str) -> np.ndarray:
    """What a defended network reads images [N, H, W, C] as; what is there is read."""

    def make(run: Run, variables: Variables, images: np.ndarray) -> tuple[dict, dict]:
        return {"decisions": engine.predictions(one.network.apply, variables, images, size)}, {}

    return stage(one.run, f"decisions_{part}", make, {"variables": one.variables, "images": images}).arrays["decisions"]


def defense_rows(
    run: Run, name: str, one: Defended, test: Split, unaware: dict[str, Attacked], update: Any
) -> tuple[list[dict], list[dict], list[dict], dict[str, Any]]:
    """Everything about one defense: its rows, curve, checklist and line of the summary.

    In the last also `kept`, {(attack, aware): [N] bool}, and `images`, all that were made against it.
    """
    config = run.config
    wide, narrow = (subset(test, count, classes_of(run.dataset)) for count in num_images(config, name, run.dataset))
    size = config.defenses.get(name, {}).get("batch_size", config.testing.batch_size)
    correct, rows, kept, own_images = np.zeros(len(test.labels), bool), [], {}, []
    correct[wide] = decisions(one, test.images[wide], size, "clean") == test.labels[wide]
    own = Split(test.images[narrow], test.labels[narrow])
    for attack, made in unaware.items():
        read, right = decisions(one, made.images[wide], size, f"{attack}_of_target"), np.zeros(len(test.labels), bool)
        seen = Split(test.images[wide], test.labels[wide])
        right[wide] = correct[wide] & (read == seen.labels)
        rows.append(row(run, one, name, attack, False, cut(made, wide), seen, correct[wide], read))
        kept[attack, False] = right[narrow]
        update()
    for attack, settings in config.attacks.items():
        if name not in settings.get("defenses", (name,)):
            continue
        if name == NONE:
            made = cut(unaware[attack], narrow) if attack in unaware else None
        else:
            made = attacked(one.run, attack, one.network, one.variables, own, **one.more)
        if made is not None:
            read = decisions(one, made.images, size, attack)
            own_images.append(made.images)
            rows.append(row(run, one, name, attack, True, made, own, correct[narrow], read))
            kept[attack, True] = correct[narrow] & (read == own.labels)
        update()
    curve = masking.curve_rows(one, name, own)
    lines = masking.checklist(one, name, own, kept, curve)
    clean = metrics.share(correct[wide], np.ones(len(wide), bool))
    summary = {"defense": name, "clean_accuracy": clean["rate"], "clean_accuracy_ci95": clean["ci95"], "num_images": clean["n"],
               "num_adaptive_images": len(narrow), "fit_seconds": one.seconds}  # fmt: skip
    return rows, [{"defense": name, **r} for r in curve], lines, {**summary, "kept": kept, "images": own_images}


def purified(run: Run, one: Defended, test: Split, unaware: dict[str, Attacked], places: np.ndarray) -> dict[str, np.ndarray]:
    """{"clean" or attack: images [N, H, W, C] after purification}, of a few images, with labels beside them."""
    found = {}
    for attack in ("clean", *run.config.testing.pictures):
        images = test.images[places] if attack == "clean" else unaware[attack].images[places]
        found[attack] = np.asarray(one.purify(one.variables, images))
    return found


def material(run: Run, test: Split, unaware: dict[str, Attacked], all_defended: dict[str, Defended]) -> PurifiedMaterial:
    """What the report's pictures are made of: an image of each class, before and after each purification or rebuilding."""
    places = np.array([np.flatnonzero(test.labels == label)[0] for label in np.unique(test.labels)])
    before = {"clean": test.images[places], **{name: unaware[name].images[places] for name in run.config.testing.pictures}}
    after = {name: purified(run, one, test, unaware, places) for name, one in all_defended.items() if one.purify is not None}
    changed = {name: images for name in all_defended if (images := rebuilt(name, all_defended))}
    return PurifiedMaterial(before, after, changed, test.labels[places], run.dataset.class_names)


def run_seed(run: Run) -> tuple[dict, PurifiedMaterial]:
    """One seed; every part that is finished is read, not run again."""
    began, config = time.monotonic(), run.config
    classifier, variables, _ = train_target(run)
    clean = engine.predictions(classifier.apply, variables, run.dataset.test.images)
    test = test_images(run.dataset, config.testing.num_images)
    names = with_bases(config, chosen_rows(config, "defenses"))
    attacks = [name for name, a in config.attacks.items() if a.get("unaware", True)]
    update, unaware = run.start("attacks on the undefended target", len(attacks), "attacks"), {}
    for name in attacks:
        unaware[name] = attacked(run, name, classifier, variables, test)
        update(len(unaware))
    update, fitted = run.start("defenses", len(names) - 1, "defenses"), {}
    for done, name in enumerate(names):
        fitted[name] = defended(run, name, classifier, variables, fitted)
        update(done)
    update, done = run.start("attacks on defenses", len(names) * (len(attacks) + len(config.attacks)), "cells"), 0

    def advance() -> None:
        nonlocal done
        done += 1
        update(done)

    rows, curve, lines, summaries, worst, kept, made = [], [], {}, [], [], {}, [one.images for one in unaware.values()]
    for name, one in fitted.items():
        own, own_curve, lines[name], summary = defense_rows(run, name, one, test, unaware, advance)
        rows, curve = rows + own, curve + own_curve
        kept[name] = summary.pop("kept")
        made += summary.pop("images")
        worst += comparing.worst_cases(own, kept[name])
        summaries.append(summary)
    results = {
        "target": target_fields(config.target.name, clean, run.dataset.test.labels),
        "defenses": summaries,
        "rows": rows,
        "worst_cases": worst,
        "compared": comparing.compared(config, run.seed, kept),
        "curve_rows": curve,
        "checklists": lines,
        "sanity": sanity.of_images([(classifier, variables)], test, made),
        **provenance(run, time.monotonic() - began),
    }
    return results, material(run, test, unaware, fitted)


def run(config: Any, options: Options) -> list[dict]:
    """Runs the experiment for each seed; options as in `experiments.options`.

    A line of a checklist that does not hold is a finding about a defense, and leaves the exit status alone.

    Returns:
      The results of each seed, as its results.json holds them.
    """
    config = masking.without_skipped(without_skipped(config))
    return each_seed(config, options, check, run_seed, write_defenses, print_defenses)
