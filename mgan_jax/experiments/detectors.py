"""Attack x detector: what sees which attack, and attacks that know the detectors; MGAN against all of them.

Of results.json `rows` has a cell each: `detector` ("joint": those of `config.joint` as one), `attack`, `left_out` (it learned
from other attacks, not from this one), of the `num_adversarial` successes `auroc` and `tpr_at_5fpr` beside the same images clean
and `detection_rate` at `threshold`, which was taken on other clean images; `false_positive_rate` of `num_images` clean ones;
`tpr_low_at_5fpr` where scores far below those of clean images are called adversarial instead.
Of a sequential test `mutants_used` is the mean over the successes, `mutants_used_clean` that over all clean images.
`attack_rows`: success, distances, and the shares of all images that succeed and pass all detectors one by one, or the joint rule.
`adaptive_rows`: attacks whose loss contains a detector's score, or where it counts votes L_mutate; `undetected_rate` those that
fool and pass, `others` those that fool and pass the other detectors. `worst_cases`: of a norm and epsilon the share of
`num_images` of which some attack within it fools the network and passes the detector; `aware` takes in those that know detectors,
whichever they follow.
"""

import time
from typing import Any

import numpy as np

from mgan_jax import engine, metrics
from mgan_jax.attacks.selective_gradient_descent import selective_gradient_descent
from mgan_jax.datasets.split import classes_of
from mgan_jax.experiments import crafting, detecting, evading, populations, sanity
from mgan_jax.experiments.aims import section
from mgan_jax.experiments.attacking import GENERATORS, Attacked, attacked
from mgan_jax.experiments.attacks import bound, check_row, chosen_rows, tried
from mgan_jax.experiments.data import correct_images
from mgan_jax.experiments.detecting import JOINT, Fitted, Said
from mgan_jax.experiments.options import Options, provenance, without_skipped
from mgan_jax.experiments.seeds import each_seed
from mgan_jax.experiments.testing import target_fields
from mgan_jax.experiments.training import Run, build_target, train_target
from mgan_jax.report.detectors import print_detectors, write_detectors
from mgan_jax.types import Classifier, Dataset, Split, Variables


def check(config: Any, dataset: Dataset) -> None:
    """Builds everything that the config names and runs nothing.

    Raises:
      ValueError: a mistake in it.
    """
    classifier = build_target(config.target, dataset)
    names = chosen_rows(config, "detectors")
    for name, settings in detecting.sections(config, names).items():
        detecting.build_detector(config, settings, name, classifier, dataset)
    for name in config.attacks:
        check_row(config, name, classifier, dataset)
    unknown = [name for name in (*config.joint, *config.adaptive.detectors) if name not in (*config.detectors, JOINT)]
    if unknown:
        raise ValueError(f"config.joint or config.adaptive names {unknown[0]!r}; choose from {', '.join(config.detectors)}")
    testing, number = config.testing, len(dataset.validation.labels)
    if not 40 <= testing.num_validation_images <= number:
        raise ValueError(
            f"config.testing.num_validation_images is {testing.num_validation_images}; choose 40 to {number}, that thresholds at "
            "5 % false positives can be taken on half of them"
        )
    for name, settings in detecting.sections(config, names).items():
        fitted = settings.get("fit_images", testing.num_fit_images) if settings.get("fit_on") == "validation" else 0
        if fitted + testing.num_validation_images > number:
            raise ValueError(
                f"config.detectors.{name} is fitted on {fitted} validation images and thresholds are taken on "
                f"{testing.num_validation_images} others; there are {number}"
            )
    if config.adaptive.num_mutants < 1:
        raise ValueError(f"config.adaptive.num_mutants is {config.adaptive.num_mutants}; an attacker needs at least one")
    selective_gradient_descent(classifier.apply, lambda v, x: x, **evading.adaptive_arguments(config))
    if config.undetected.weights and "mgan" not in config.attacks:
        raise ValueError("config.undetected trains mgan with detectors in its loss; name mgan among the attacks, or no weights")


def form(name: str, attack: str, fitted: dict[str, Fitted]) -> str:
    """The form of a detector that has not learned from this attack: itself, or where there is one, that without it."""
    without = f"{name}{detecting.WITHOUT}{attack}"
    return without if without in fitted else name


def within(config: Any, attack: str) -> tuple[str, float | None]:
    """Norm and epsilon of an attack's images."""
    settings = config.attacks.get(attack, {})
    own = bool(settings) and settings.get("method", attack) not in GENERATORS
    return bound(settings, attack) if own else ("linf", config.epsilon)


def detection_row(
    run: Run, detector: str, left_out: bool, attack: str, one: Fitted, clean: Said, made: Said, success: np.ndarray
) -> dict[str, Any]:
    """One cell: what a detector says of an attack's successes, beside the same images clean.

    Args:
      run: the seed.
      detector: its name; left_out: whether it learned from other attacks and not from this one.
      attack: its name.
      one: the detector.
      clean, made: what it says of the clean images and of the attack's.
      success: [N] bool.
    """
    norm, epsilon = within(run.config, attack)
    found = metrics.share(made["scores"] > one.threshold, success)
    alarms = metrics.share(clean["scores"] > one.threshold, np.ones_like(success))
    positive, negative = made["scores"][success], clean["scores"][success]
    mean = lambda used: float(used.mean()) if len(used) else None  # noqa: E731
    asked = {"mutants_used": mean(made["used"][success]), "mutants_used_clean": mean(clean["used"])} if "used" in made else {}
    return {
        "detector": detector, "attack": attack, "left_out": left_out, "norm": norm, "epsilon": epsilon, "seed": run.seed,
        "num_adversarial": found["n"], "auroc": metrics.auroc(positive, negative) if success.any() else None,
        "detection_rate": found["rate"], "detection_rate_ci95": found["ci95"],
        "false_positive_rate": alarms["rate"], "false_positive_rate_ci95": alarms["ci95"], "num_images": alarms["n"],
        "tpr_at_5fpr": metrics.true_positive_rate(positive, negative) if success.any() else None,
        "tpr_low_at_5fpr": metrics.true_positive_rate(-positive, -negative) if success.any() else None,
        "threshold": one.threshold,
        **asked,
    }  # fmt: skip


def attack_row(run: Run, name: str, made: Attacked, passed: dict[str, np.ndarray], test: Split) -> dict[str, Any]:
    """An attack by itself: success and distance, and how much of it passes the joint rule and all detectors one by one."""
    change, won = np.abs(made.images - test.images), made.success
    whole = tried(section(run.config, name), test.labels)
    row = {"attack": name, "seed": run.seed, **metrics.named("success_rate", won, whole, "num_images"),
           "median_l2": float(np.median(np.sqrt(np.square(change).sum((1, 2, 3)))[won])) if won.any() else None,
           "median_linf": float(np.median(change.max((1, 2, 3))[won])) if won.any() else None}  # fmt: skip
    for group, passes in passed.items():
        share = metrics.share(won & passes, whole)
        row |= {f"{group}_rate": share["rate"], f"{group}_rate_ci95": share["ci95"]}
    return row


def attacks_made(
    run: Run, fitted: dict[str, Fitted], classifier: Classifier, variables: Variables, test: Split
) -> dict[str, Attacked]:
    """What every attack makes of the test images, MGAN with detectors in its loss among them."""
    config = run.config
    made, update = {}, run.start("attacks", len(config.attacks) + len(config.undetected.weights), "attacks")
    for name in config.attacks:
        made[name] = attacked(run, name, classifier, variables, test)
        update(len(made))
    for weight in config.undetected.weights if evading.differentiable_members(run, fitted) else ():
        name = crafting.undetected_name(weight)
        made[name] = evading.undetected_images(run, float(weight), fitted, classifier, variables, test)
        update(len(made))
    return made


def detection_rows(
    run: Run, names: list[str], fitted: dict[str, Fitted], made: dict[str, Attacked], scores: dict[str, dict[str, Said]]
) -> list[dict[str, Any]]:
    """Every cell; of a detector that learns from attacks each of these is shown where it was left out."""
    config, chosen, rows = run.config, detecting.sections(run.config, names), []
    for name, one in fitted.items():
        detector, is_part = detecting.column(name, chosen)
        learned = chosen[name].get("learned_from", ()) if name in chosen else ()
        whole = config.detectors.get(detector, {}).get("learned_from", ())
        for attack, of in made.items():
            if attack in whole if not is_part else name != f"{detector}{detecting.WITHOUT}{attack}":
                continue
            pair = scores[name]["clean"], scores[name][attack]
            rows.append(detection_row(run, detector, bool(whole) and attack not in learned, attack, one, *pair, of.success))
    return rows


def attack_rows(
    run: Run, fitted: dict[str, Fitted], made: dict[str, Attacked], scores: dict[str, dict[str, Said]], test: Split
) -> list[dict[str, Any]]:
    """Every attack by itself."""
    single = [name for name in fitted if name != JOINT and detecting.WITHOUT not in name]
    rows = []
    for attack, of in made.items():
        shown = {name: form(name, attack, fitted) for name in fitted}
        below = {name: scores[shown[name]][attack]["scores"] <= fitted[shown[name]].threshold for name in fitted}
        passed = {"passes_all": np.all([below[name] for name in single], axis=0)}
        passed |= {"passes_joint": below[JOINT]} if JOINT in fitted else {}
        rows.append(attack_row(run, attack, of, passed, test))
    return rows


def worst_cases(
    run: Run,
    fitted: dict[str, Fitted],
    made: dict[str, Attacked],
    scores: dict[str, dict[str, Said]],
    followed: dict[str, dict[str, np.ndarray]],
) -> list[dict]:
    """For each detector, norm and epsilon the share of images that some attack makes fool the network and pass.

    Of the first images, which attacks that know a detector are made of; `followed` as `evading.adaptive_rows` gives it.
    """
    settings, rows = run.config.adaptive, []
    bounds = {attack: within(run.config, attack) for attack in made}
    bounds |= {f"follows {name}": (settings.arguments.get("norm", "linf"), settings.arguments.epsilon) for name in followed}
    bounds = {attack: where for attack, where in bounds.items() if where[1] is not None}
    for name in (name for name in fitted if detecting.WITHOUT not in name):
        passing = {f"follows {other}": of[name] for other, of in followed.items()}
        for attack, of in made.items():
            one = form(name, attack, fitted)
            passing[attack] = (of.success & (scores[one][attack]["scores"] <= fitted[one].threshold))[: settings.num_images]
        for norm, epsilon in dict.fromkeys(bounds.values()):
            inside = [attack for attack, where in bounds.items() if where[0] == norm and where[1] <= epsilon]
            unaware = [attack for attack in inside if attack in run.config.attacks]
            for aware, attacks in ((False, unaware), (True, inside if inside != unaware else [])):
                if attacks:
                    undetected = np.any([passing[attack] for attack in attacks], axis=0)
                    share = metrics.share(undetected, np.ones_like(undetected))
                    rows.append({"detector": name, "norm": norm, "epsilon": epsilon, "aware": aware, "attacks": attacks,
                                 "seed": run.seed, "undetected_rate": share["rate"], "undetected_rate_ci95": share["ci95"],
                                 "num_images": share["n"]})  # fmt: skip
    return rows


def run_seed(run: Run) -> tuple[dict, dict[str, dict[str, np.ndarray]]]:
    """One seed; every part that is finished is read, not run again. With it {detector: {part: scores}}, for curves."""
    began, config, dataset = time.monotonic(), run.config, run.dataset
    classifier, variables, _ = train_target(run)
    clean = engine.predictions(classifier.apply, variables, dataset.test.images)
    test = correct_images(dataset.test, clean, config.testing.num_images, classes_of(dataset))
    names = chosen_rows(config, "detectors")
    counting = any("operator" in settings for settings in detecting.sections(config, names).values())
    used = populations.trained(run, variables) if counting else populations.NOTHING_USED
    fitted, used = detecting.detectors(run, names, classifier, variables, used)
    stands = evading.stand_ins(run, fitted, classifier, variables, used)
    made = attacks_made(run, fitted, classifier, variables, test)
    images = {"clean": test.images, **{name: one.images for name, one in made.items()}}
    scores = detecting.scores(run, fitted, variables, images, run.start("scores", len(fitted), "detectors"))
    adaptive_test = Split(*(array[: config.adaptive.num_images] for array in test))
    adaptive, followed, aimed = evading.adaptive_rows(run, fitted, stands, classifier, variables, adaptive_test)
    alarms = {name: scores[name]["clean"]["scores"] > one.threshold for name, one in fitted.items()}
    results = {
        "target": target_fields(config.target.name, clean, dataset.test.labels),
        "detectors": [
            {"detector": name, "threshold": one.threshold, "fit_seconds": one.seconds, "differentiable": one.differentiable,
             **metrics.named("false_positive_rate", alarms[name], np.ones_like(alarms[name]), "num_images")}
            for name, one in fitted.items()
        ],
        "rows": detection_rows(run, names, fitted, made, scores),
        "attack_rows": attack_rows(run, fitted, made, scores, test),
        "sanity": sanity.of_images([(classifier, variables)], test, [of.images for of in (*made.values(), *aimed)]),
        "adaptive_rows": adaptive,
        "worst_cases": worst_cases(run, fitted, made, scores, followed),
        **provenance(run, time.monotonic() - began),
    }  # fmt: skip
    of = lambda name, attack: scores[form(name, attack, fitted)][attack]["scores"][made[attack].success]  # noqa: E731
    successes = {name: {"clean": scores[name]["clean"]["scores"], **{attack: of(name, attack) for attack in made}}
                 for name in fitted if detecting.WITHOUT not in name}  # fmt: skip
    return results, successes


def run(config: Any, options: Options) -> list[dict]:
    """Runs the experiment for each seed; options as in `experiments.options`.

    Returns:
      The results of each seed, as its results.json holds them.
    """
    return each_seed(without_skipped(config), options, check, run_seed, write_detectors, print_detectors)
