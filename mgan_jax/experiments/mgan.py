"""The main job: target, AdvGAN, MGAN and controls, tested by model mutation testing, and the report."""

import copy
import time
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh
from scipy.special import softmax

from mgan_jax import devices, engine, workdir
from mgan_jax.experiments import crafting
from mgan_jax.experiments.curves import epsilon_rows
from mgan_jax.experiments.data import data_digest, load_data, test_images
from mgan_jax.experiments.measuring import measure
from mgan_jax.experiments.populations import training_digests
from mgan_jax.experiments.threats import threat_rows
from mgan_jax.experiments.training import Run, train_target
from mgan_jax.report import results as report_results
from mgan_jax.report.events import write_events
from mgan_jax.report.material import AttackMaterial, Material, write_adversarial
from mgan_jax.report.page import write_report
from mgan_jax.report.terminal import print_tables, progress

THREAT_MODEL = [
    "The attacker knows the target's weights, the mutation operators and their rates, and draws mutants of its own.",
    "The attacker does not know the detector's mutants: training, validation and evaluation draw from disjoint streams, and "
    "mutants are compared by content.",
    "LD, LA and AFR have only a few distinct mutants; they are left out of training and kept whole for evaluation.",
    "The detector knows clean validation images and their labels, and nothing of the attack.",
]


def run_seed(config: Any, path: Path, data_dir: str | None, seed: int, start: Any, mesh: Mesh | None) -> tuple[dict, Material]:
    """One seed of the pipeline; every part that is finished is read, not run again."""
    began = time.monotonic()
    dataset = load_data(config.dataset, data_dir, seed)
    run = Run(config, path, seed, dataset, start, data_digest(dataset), mesh)
    classifier, variables, history = train_target(run)
    whole = run.dataset.test
    accuracy = float((engine.predictions(classifier.apply, variables, whole.images) == whole.labels).mean())
    test = test_images(run.dataset, config.testing.num_images)
    made, generators, histories = crafting.all_attacks(run, classifier, variables, test.images, test.labels)
    trained = partial(training_digests, run, variables)
    rows, rates = measure(run, classifier, variables, test, made, trained=trained)
    loosened = threat_rows(run, classifier, variables, test, made)
    curves = epsilon_rows(run, classifier, variables, test, generators)
    earlier = workdir.load_stage(path, "clock")
    seconds = (earlier.numbers["seconds"] if earlier else 0.0) + time.monotonic() - began
    workdir.finish_stage(path, "clock", {}, {"seconds": seconds})
    results = {
        "config": config.to_dict(),
        "seed": seed,
        "versions": report_results.environment(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "seconds": seconds,
        "target": {"name": config.target.name, "test_accuracy": accuracy, "num_images": len(whole.labels)},
        "rows": rows,
        "epsilon_rows": curves,
        "threat_rows": loosened,
    }
    probabilities = lambda images: softmax(engine.logits(classifier.apply, variables, images), axis=-1)  # noqa: E731
    clean = probabilities(test.images)
    adversarial = {}
    for (name, trained_on), images in made.items():
        label = name if trained_on in (None, "all") else f"{name} {trained_on}"
        p, correct = probabilities(images), clean.argmax(-1) == test.labels
        adversarial[label] = AttackMaterial(images, p, correct & (p.argmax(-1) != test.labels))
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
    devices.on_primary(write_seed, path, results, material)
    return results, material


def write_seed(path: Path, results: dict, material: Material) -> None:
    """Results, images, training curves and the page of one seed."""
    report_results.write_results(path / "results.json", results)
    write_adversarial(path / "adversarial.npz", material)
    write_events(path / "events", material.history)
    write_report(path / "report.html", results, material)


def without_skipped(config: Any) -> Any:
    """A copy of the config that has no attacks which `config.skip` names.

    Raises:
      ValueError: it names one that there is not.
    """
    config = copy.deepcopy(config).unlock()
    for name in config.get("skip", ()):
        if name not in config.attacks:
            raise ValueError(f"config.skip names {name!r}; choose from {', '.join(config.attacks)}")
        del config.attacks[name]
    return config


def run(
    config: Any,
    path: Path,
    data_dir: str | None,
    seeds: list[int],
    overwrite: bool,
    show_progress: bool,
    mesh: Mesh | None = None,
) -> dict:
    """Runs the pipeline for each seed, prints the tables and writes the report.

    Args:
      config: as in configs/mgan.py.
      path: the run's folder; with several seeds each has a folder in it.
      data_dir: where the data lie, for sets that are not embedded.
      seeds: one or more.
      overwrite: start anew.
      show_progress: whether progress is shown, where there is a terminal.
      mesh: devices that share batches and images; None: one.

    Returns:
      The results, joined over the seeds.
    """
    config = without_skipped(config)
    crafting.check(config, load_data(config.dataset, data_dir, seeds[0]))
    workdir.open_workdir(path, {**config.to_dict(), "seeds": seeds}, overwrite)
    done = []
    with progress(show_progress) as start:
        for seed in seeds:
            place = path if len(seeds) == 1 else path / f"seed_{seed}"
            done.append(run_seed(config, place, data_dir, seed, start, mesh))
    results, material = done[0]
    if len(seeds) > 1:
        results = report_results.mean_and_spread([one for one, _ in done])
        devices.on_primary(report_results.write_results, path / "results.json", results)
        devices.on_primary(write_report, path / "report.html", results, material)
    print_tables(results)
    print(f"report: {path / 'report.html'}")
    return results
