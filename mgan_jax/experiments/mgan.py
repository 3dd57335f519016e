"""The main job: target, AdvGAN, MGAN and controls, tested by model mutation testing, and the report."""

import time
from pathlib import Path
from typing import Any

import numpy as np

from mgan_jax import devices, engine, workdir
from mgan_jax.experiments import crafting, populations, sanity
from mgan_jax.experiments.aims import aims, section
from mgan_jax.experiments.curves import epsilon_rows
from mgan_jax.experiments.data import test_images
from mgan_jax.experiments.measuring import measure
from mgan_jax.experiments.options import Options, opened, provenance, without_skipped
from mgan_jax.experiments.testing import target_fields
from mgan_jax.experiments.threats import threat_rows
from mgan_jax.experiments.training import Run, train_target
from mgan_jax.report import results as report_results
from mgan_jax.report.events import write_events
from mgan_jax.report.material import AttackMaterial, Material, write_adversarial
from mgan_jax.report.page import write_report
from mgan_jax.report.terminal import print_tables
from mgan_jax.success import fooled

THREAT_MODEL = [
    "The attacker knows the target's weights, the mutation operators and their rates, and draws mutants of its own.",
    "The attacker does not know the detector's mutants: training, validation and evaluation draw from disjoint streams, and "
    "mutants are compared by content.",
    "LD, LA and AFR have only a few distinct mutants; they are left out of training and kept whole for evaluation.",
    "The detector knows clean validation images and their labels, and nothing of the attack.",
]


def run_seed(run: Run) -> tuple[dict, Material]:
    """One seed of the pipeline; every part that is finished is read, not run again."""
    began, config = time.monotonic(), run.config
    classifier, variables, history = train_target(run)
    whole = run.dataset.test
    decisions = engine.predictions(classifier.apply, variables, whole.images)
    test = test_images(run.dataset, config.testing.num_images)
    made, generators, histories = crafting.all_attacks(run, classifier, variables, test.images, test.labels)
    used = populations.trained(run, variables)
    rows, rates, used = measure(run, classifier, variables, test, made, used=used)
    loosened, used = threat_rows(run, classifier, variables, test, made, used)
    curves, _ = epsilon_rows(run, classifier, variables, test, generators, used)
    lines = [*sanity.of_images([(classifier, variables)], test, made.values()), *sanity.generator_lines(rows)]
    earlier = workdir.load_stage(run.path, "clock")
    seconds = (earlier.numbers["seconds"] if earlier else 0.0) + time.monotonic() - began
    workdir.finish_stage(run.path, "clock", {}, {"seconds": seconds})
    results = {
        **provenance(run, seconds),
        "target": target_fields(config.target.name, decisions, whole.labels),
        "rows": rows,
        "epsilon_rows": curves,
        "threat_rows": loosened,
        "sanity": lines,
    }
    probabilities = lambda images: engine.probabilities(classifier.apply, variables, images)  # noqa: E731
    clean = probabilities(test.images)
    adversarial = {}
    for (name, trained_on), images in made.items():
        label = name if trained_on in (None, "all") else f"{name} {trained_on}"
        p, targets = probabilities(images), aims(run, section(config, name), name, test.labels)
        won = np.asarray(fooled(test.labels, engine.decide(clean) == test.labels, engine.decide(p), targets))
        adversarial[label] = AttackMaterial(images, p, won)
    material = Material(
        clean_images=test.images,
        labels=test.labels,
        probabilities=clean,
        class_names=run.dataset.class_names,
        adversarial=adversarial,
        lcr=rates,
        epsilon_rows=curves,
        history={"target": history, **histories},
        threat_model=THREAT_MODEL,
    )
    devices.on_primary(write_seed, run.path, results, material)
    return results, material


def write_seed(path: Path, results: dict, material: Material) -> None:
    """Results, images, training curves and the page of one seed."""
    report_results.write_results(path / "results.json", results)
    write_adversarial(path / "adversarial.npz", material)
    write_events(path / "events", material.history)
    write_report(path / "report.html", results, material)


def run(config: Any, options: Options) -> dict:
    """Runs the pipeline for each seed, prints the tables and writes the report.

    Args:
      config: as in configs/mgan.py.
      options: folder, data, seeds, devices.

    Returns:
      The results, joined over the seeds.
    """
    config = without_skipped(config)
    with opened(config, options, crafting.check) as runs:
        done = [run_seed(one) for one in runs]
    results, material = done[0]
    if len(options.seeds) > 1:
        results = report_results.mean_and_spread([one for one, _ in done])
        devices.on_primary(report_results.write_results, options.path / "results.json", results)
        devices.on_primary(write_report, options.path / "report.html", results, material)
    print_tables(results)
    print(f"report: {options.path / 'report.html'}")
    return results
