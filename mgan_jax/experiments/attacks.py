"""All attacks on one target and one fixed set of images: the comparison that MGAN's claim has to be seen in."""

import inspect
import time
from typing import Any

import numpy as np

from mgan_jax import devices, engine, metrics, success
from mgan_jax.build import factory
from mgan_jax.datasets.split import classes_of
from mgan_jax.experiments import attack_testing, populations, sanity, sweeps
from mgan_jax.experiments.aims import goal_of, is_targeted
from mgan_jax.experiments.attacking import GENERATORS, Attacked, attacked, build_attack, given_samples
from mgan_jax.experiments.crafting import build_generative_attack, check_operator, training_operators
from mgan_jax.experiments.data import correct_images
from mgan_jax.experiments.options import Options, provenance
from mgan_jax.experiments.seeds import each_seed
from mgan_jax.experiments.testing import target_fields
from mgan_jax.experiments.training import Run, build_target, train_target
from mgan_jax.report.comparison import print_comparison, write_comparison
from mgan_jax.report.material import AttackMaterial, Material, write_adversarial
from mgan_jax.types import Classifier, Dataset, Split, Variables


def chosen_rows(config: Any, section: str = "attacks") -> list[str]:
    """Names of the rows of a section to run: those of `config.rows`, names or names with commas between them, or all.

    Raises:
      ValueError: it names one that there is not.
    """
    named = [name.strip() for names in config.rows for name in str(names).split(",")]
    for name in named:
        if name not in config[section]:
            raise ValueError(f"config.rows names {name!r}; choose from {', '.join(config[section])}")
    return [name for name in config[section] if not named or name in named]


def check_attack(config: Any, name: str, classifier: Classifier, dataset: Dataset, **more: Any) -> None:
    """Builds the row `name` of `config.attacks`; `more` as in `build_attack`.

    Raises:
      ValueError: a mistake in it.
    """
    if config.attacks[name].get("method", name) in GENERATORS:
        build_generative_attack(config, name, classifier.apply, training_operators("all") if name == "mgan" else ())
    else:
        attack = build_attack(config.attacks[name], name, classifier, dataset, **more)
        given_samples(config.attacks[name], name, attack, dataset)


def bound(settings: Any, name: str) -> tuple[str, float | None]:
    """Norm and epsilon of a row: of its arguments, of the attack inside, of the section, or the factory's defaults."""
    parameters = inspect.signature(factory("attacks", settings.get("method", name))).parameters
    inner = next(iter(settings.get("attacks", {}).values()), {})
    found = {}
    for field, default in (("norm", "linf"), ("epsilon", None)):
        defaults = {field: parameters[field].default} if field in parameters else {}
        places = (settings.get("arguments", {}), inner, settings, defaults)
        found[field] = next((place[field] for place in places if field in place), default)
    return found["norm"], found["epsilon"]


def check_row(config: Any, name: str, classifier: Classifier, dataset: Dataset) -> None:
    """One row: what it says, and that its attack can be built.

    Raises:
      ValueError: a mistake in it.
    """
    settings, where = config.attacks[name], f"config.attacks.{name}"
    if settings.knowledge not in ("white box", "scores", "labels"):
        raise ValueError(f"{where}.knowledge is {settings.knowledge!r}; choose white box, scores or labels")
    for field in ("batch_size", "fit_images"):
        if settings.get(field, 1) < 1:
            raise ValueError(f"{where}.{field} is {settings[field]}; choose at least 1")
    inner = next(iter(settings.get("attacks", {}).values()), {})
    if "epsilon" in settings and settings.epsilon != inner.get("epsilon", settings.epsilon):
        raise ValueError(f"{where}.epsilon is {settings.epsilon}, that of the attack inside {inner.epsilon}; choose one for both")
    method = settings.get("method", name)
    if method in GENERATORS and method != name:
        raise ValueError(f"{where}.method is {method!r}; choose {method!r} as the row's name, of which there can be one")
    trained_on = tuple(settings.get("trained_on", ()))
    if name == "mgan" and trained_on != ("all",):
        raise ValueError(f"{where}.trained_on is {trained_on}; here MGAN is trained on all operators, choose ('all',)")
    check_attack(config, name, classifier, dataset)


def check(config: Any, dataset: Dataset) -> None:
    """Builds everything that the config names and runs nothing.

    Raises:
      ValueError: a mistake in it.
    """
    classifier = build_target(config.target, dataset)
    for name in ("num_mutants", "num_validation_mutants", "num_images", "num_validation_images"):
        if config.testing[name] is None or config.testing[name] < 1:
            raise ValueError(f"config.testing.{name} is {config.testing[name]}; choose at least 1")
    for protocol in config.protocols.values():
        for operator in config.testing.operators:
            check_operator(config, classifier, operator, protocol.rate)
    names = chosen_rows(config)
    for name in names:
        check_row(config, name, classifier, dataset)
    sweeps.check(config, names, classifier, dataset)


def tried(settings: Any, labels: np.ndarray) -> np.ndarray:
    """Which images [N] an attack is to fool: not those of the class it aims at, and of some classes only where it names them."""
    classes = settings.get("arguments", {}).get("classes")
    chosen = np.ones(len(labels), bool) if classes is None else np.isin(labels, classes)
    return success.tried(labels, chosen, goal_of(settings))


def facts(config: Any, name: str, made: Attacked, test: Split) -> dict[str, Any]:
    """What a row says of an attack beside what every attack's row says.

    Args:
      config: the whole configuration.
      name: of the row.
      made: what the attack made.
      test: the images it was given, all classified correctly.
    """
    settings, aimed = config.attacks[name], tried(config.attacks[name], test.labels)
    black_box, generator = settings.knowledge != "white box", settings.get("method", name) in GENERATORS
    clean, images, won = test.images[aimed], made.images[aimed], made.success[aimed]
    change = np.abs(images - clean)
    distances = {"l0": (change > 0).any(-1).sum((1, 2)), "l1": change.sum((1, 2, 3)),
                 "l2": np.sqrt(np.square(change).sum((1, 2, 3))), "linf": change.max((1, 2, 3))}  # fmt: skip
    learned = made.numbers["extras"].get("fit_queries")
    needed = np.sort(np.where(won, made.used[aimed], np.inf))
    last = lambda share: max(int(np.ceil(len(won) * share / 100)) - 1, 0)  # noqa: E731
    reached = {f"used_{share}": needed[last(share)] if len(won) else np.inf for share in (50, 90)}
    norm, epsilon = ("linf", config.epsilon) if generator else bound(settings, name)
    whole = np.ones(len(won), bool)
    return {
        "method": settings.get("method", name),
        "knowledge": settings.knowledge,
        "norm": norm,
        "epsilon": epsilon,
        "targeted": is_targeted(settings),
        "some_classes": settings.get("arguments", {}).get("classes") is not None,
        # A network that never answers a class leaves none of its images to be fooled.
        **metrics.named("success_rate", won, whole, "num_images"),
        **metrics.named("success_rounded", made.success_rounded[aimed], whole, "num_images"),
        **{f"median_{k}": float(np.median(v[won])) if won.any() else None for k, v in distances.items()},
        "mean_l2": float(distances["l2"][won].mean()) if won.any() else None,
        "ssim": float(metrics.ssim(clean, images)[won].mean()) if won.any() else None,
        "used": float(made.used[aimed].mean()) if learned is None and len(won) else None,
        **{k: float(v) if black_box and learned is None and np.isfinite(v) else None for k, v in reached.items()},
        "seconds_per_1000": 1000 * made.numbers["seconds"] / len(test.labels),
        **{field: made.numbers[field] for field in ("compile_seconds", "out_of_bounds", "not_finite")},
        # A generator's training may have been resumed: its time is not known.
        "fit_seconds": None if generator else made.numbers["fit_seconds"],
        **made.numbers["extras"],
    }


def robust(row: dict[str, Any], accuracy: float) -> dict[str, Any]:
    """Robust accuracy of a row: the test accuracy times the share, and the share's interval, of its images that withstand."""
    return {"robust_accuracy": accuracy * row["withstand_rate"],
            "robust_accuracy_ci95": [accuracy * bound for bound in row["withstand_rate_ci95"]]}  # fmt: skip


def worst_cases(rows: dict[str, dict], made: dict[str, Attacked], read: dict[str, np.ndarray], labels: np.ndarray) -> list[dict]:
    """For each norm, epsilon and knowledge the shares of images that some attack of that kind flips, and that withstand all.

    Args:
      rows: {attack: as `facts` gives them}; attacks count within a norm, a knowledge and up to an epsilon.
      made: {attack: what it made}, of N images that are classified correctly.
      read: {attack: [N] what the target reads these as}.
      labels: [N].
    """
    bounded = {
        name: row for name, row in rows.items()
        if row["epsilon"] is not None and not row["targeted"] and not row["some_classes"]
    }  # fmt: skip
    found = []
    for norm, epsilon, knowledge in dict.fromkeys((row["norm"], row["epsilon"], row["knowledge"]) for row in bounded.values()):
        names = [
            name for name, row in bounded.items()
            if (row["norm"], row["knowledge"]) == (norm, knowledge) and row["epsilon"] <= epsilon
        ]  # fmt: skip
        flipped = np.any([made[name].success for name in names], axis=0)
        held = np.all([success.withstands(labels, True, read[name]) for name in names], axis=0)
        shares = sweeps.withstood(flipped, held)
        found.append({"norm": norm, "epsilon": epsilon, "knowledge": knowledge, "attacks": names, **shares})
    return found


def material(run: Run, classifier: Classifier, variables: Variables, test: Split, made: dict[str, Attacked]) -> Material:
    """What the report's pictures are made of."""
    probabilities = lambda images: engine.probabilities(classifier.apply, variables, images)  # noqa: E731
    return Material(
        clean_images=test.images,
        labels=test.labels,
        probabilities=probabilities(test.images),
        class_names=run.dataset.class_names,
        adversarial={name: AttackMaterial(one.images, probabilities(one.images), one.success) for name, one in made.items()},
        lcr={},
        epsilon_rows=[],
        history={},
        threat_model=[],
    )


def run_seed(run: Run) -> tuple[dict, Material]:
    """One seed of the comparison; every part that is finished is read, not run again."""
    began, config, dataset = time.monotonic(), run.config, run.dataset
    classifier, variables, _ = train_target(run)
    decisions = engine.predictions(classifier.apply, variables, dataset.test.images)
    accuracy = float((decisions == dataset.test.labels).mean())
    test = correct_images(dataset.test, decisions, config.testing.num_images, classes_of(dataset))
    names = chosen_rows(config)
    update = run.start("attacks", len(names), "attacks")
    made, own = {}, {}
    for done, name in enumerate(names, 1):
        made[name] = attacked(run, name, classifier, variables, test)
        own[name] = facts(config, name, made[name], test)
        rate = own[name]["success_rate"]
        update(done, **({} if rate is None else {"success": rate}))
    alone = attack_testing.attack_rows(run, classifier, variables, test, made)
    alone = {name: {"attack": name, "seed": run.seed, **row, **own[name]} for name, row in alone.items()}
    read = {name: engine.predictions(classifier.apply, variables, one.images) for name, one in made.items()}
    swept, with_steps, with_kappas = sweeps.chosen(config, names)
    pairs = len(config.protocols) * len(config.testing.operators)
    update = run.start("mutation testing", pairs * len(names), "rows")
    used = populations.trained(run, variables) if pairs or with_kappas else populations.NOTHING_USED
    tested, used = attack_testing.tested_rows(run, classifier, variables, test, made, update, used)
    rows = [*alone.values(), *({**alone[row["attack"]], **row} for row in tested)]
    curve = sweeps.epsilon_rows(run, swept, classifier, variables, test)
    curve = [{**row, **robust(row, accuracy)} for row in curve]
    steps = sweeps.step_rows(run, classifier, variables, test) if with_steps else []
    confidence = sweeps.confidence_rows(run, classifier, variables, test, used) if with_kappas else []
    unswept = [name for name in names if name not in swept or not {0.0, 1.0} <= set(config.curve.epsilons)]
    gradient = (*sanity.SINGLE_STEP, *sanity.ITERATED)
    bounded = [name for name in unswept if own[name]["method"] in gradient and not own[name]["targeted"]]
    limits = sweeps.limit_rows(run, bounded, classifier, variables, test)
    results = {
        "target": target_fields(config.target.name, decisions, dataset.test.labels),
        "rows": rows,
        "worst_cases": worst_cases(own, made, read, test.labels),
        "curve_rows": curve,
        "step_rows": steps,
        "confidence_rows": confidence,
        "sanity": sanity.checks(classifier, variables, test, list(alone.values()), curve, steps, limits),
        **provenance(run, time.monotonic() - began),
    }
    shown = material(run, classifier, variables, test, made)
    devices.on_primary(write_adversarial, run.path / "adversarial.npz", shown)
    return results, shown


def run(config: Any, options: Options) -> list[dict]:
    """Runs the comparison for each seed; options as in `experiments.options`.

    Returns:
      The results of each seed, as its results.json holds them.
    """
    return each_seed(config, options, check, run_seed, write_comparison, print_comparison)
