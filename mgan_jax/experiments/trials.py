"""Trials of MGAN: what `config.trials` changes, each trained against the same target and tested on the same images and mutants.

    rows                   names of those that are run; all where it is empty
    trials                 {name: sections that replace parts of the configuration, such as {"generator": {"widths": (16, 32)}}}

A row of results.json is as one of configs/mgan.py, with `trial`, its name. What needs no mutants stands in every row.
"""

import time
from typing import Any

from ml_collections import ConfigDict

from mgan_jax import devices
from mgan_jax.experiments import crafting, populations
from mgan_jax.experiments.attacks import chosen_rows
from mgan_jax.experiments.data import test_images
from mgan_jax.experiments.measuring import measure
from mgan_jax.experiments.options import Options, opened, provenance, without_skipped
from mgan_jax.experiments.training import Run, train_target
from mgan_jax.report import results as report_results
from mgan_jax.report.over_seeds import trials_tables
from mgan_jax.report.terminal import print_table
from mgan_jax.types import Dataset


def changed(config: Any, name: str) -> ConfigDict:
    """The configuration with what the trial of this name changes.

    Raises:
      ValueError: it names a section or argument that there is not, or gives it a value of another type.
    """
    found = ConfigDict(config).unlock()
    del found["trials"]
    found = ConfigDict(found.to_dict(), sort_keys=False)
    try:
        found.lock().update(config.trials[name].to_dict())
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"config.trials.{name} does not fit the configuration: {error}") from None
    return found.unlock()


def check(config: Any, dataset: Dataset) -> None:
    """Builds what every trial names; raises as `crafting.check`, `changed` and `chosen_rows` do."""
    for name in chosen_rows(config, "trials"):
        crafting.check(changed(config, name), dataset)


def run_seed(run: Run) -> dict:
    """All trials of one seed; every part that is finished is read, not run again."""
    began, rows = time.monotonic(), []
    classifier, variables, _ = train_target(run)
    test = test_images(run.dataset, run.config.testing.num_images)
    for name in chosen_rows(run.config, "trials"):
        own = run._replace(config=changed(run.config, name), path=run.path / "trials" / name)
        made, _, _ = crafting.all_attacks(own, classifier, variables, test.images, test.labels)
        found, _, _ = measure(own, classifier, variables, test, made, False, populations.trained(own, variables))
        rows += [{"trial": name, **row} for row in found]
    results = {**provenance(run, time.monotonic() - began), "rows": rows}
    devices.on_primary(report_results.write_results, run.path / "results.json", results)
    return results


def run(config: Any, options: Options) -> dict:
    """Runs the trials for each seed and prints them beside one another.

    Args:
      config: as in configs/trials.py.
      options: folder, data, seeds, devices.

    Returns:
      The results, joined over the seeds.
    """
    config = without_skipped(config)
    with opened(config, options, check) as runs:
        done = [run_seed(one) for one in runs]
    results = done[0]
    if len(done) > 1:
        results = report_results.mean_and_spread(done)
        devices.on_primary(report_results.write_results, options.path / "results.json", results)
    for table in trials_tables(results):
        print_table(table)
    print(f"results: {options.path / 'results.json'}")
    return results
