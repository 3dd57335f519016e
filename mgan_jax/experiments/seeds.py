"""An experiment run for one seed after the other, each with its page, and what they say together."""

from collections.abc import Callable
from typing import Any

from mgan_jax import devices
from mgan_jax.experiments.options import Options, opened
from mgan_jax.experiments.training import Run
from mgan_jax.report.document import seeds_line
from mgan_jax.report.results import mean_and_spread, write_results
from mgan_jax.types import Dataset


def each_seed(
    config: Any,
    options: Options,
    check: Callable[[Any, Dataset], Any],
    run_seed: Callable[[Run], tuple],
    write: Callable[..., None],
    show: Callable[[dict], None],
) -> list[dict]:
    """Runs an experiment for each seed, writes its results.json and report.html and prints its tables.

    Several seeds are then joined: their means and deviations, with the pictures of the first, are a page in `options.path`.

    Args:
      config, options, check: as in `experiments.options.opened`.
      run_seed: `run_seed(run) -> (results, *material)`.
      write: `write(path, results, *material)` writes a page.
      show: `show(results)` prints tables.

    Returns:
      The results of each seed, as its results.json holds them.
    """

    def finish(path, results, material):
        devices.on_primary(write_results, path / "results.json", results)
        devices.on_primary(write, path / "report.html", results, *material)
        show(results)
        for note in results["notes"]:
            print(note)
        print(f"report: {path / 'report.html'}")

    done, first = [], None
    with opened(config, options, check) as runs:
        for one in runs:
            results, *material = run_seed(one)
            finish(one.path, results, material)
            done.append(results)
            first = material if first is None else first
    if len(done) > 1:
        joined = mean_and_spread(done)
        print(f"\n{seeds_line(joined)}")
        finish(options.path, joined, first)
    return done
