"""What the command line says beside the configuration, the same for every experiment."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from mgan_jax import workdir
from mgan_jax.experiments.data import data_digest, load_data
from mgan_jax.experiments.training import Run


class Options(NamedTuple):
    """How an experiment is run.

    Attributes:
      path: the run's folder; with several seeds each has a folder in it.
      data_dir: where the data lie, for sets that are not embedded.
      seeds: one or more.
      overwrite: start anew.
      progress: whether progress is shown, where there is a terminal.
      mesh: devices that share batches and images; None: one.
    """

    path: Path
    data_dir: str | None = None
    seeds: tuple[int, ...] = (0,)
    overwrite: bool = False
    progress: bool = False
    mesh: Mesh | None = None


def open_run(config: Any, options: Options) -> None:
    """Takes the run's folder, and notes the configuration in it; raises as `workdir.open_workdir`."""
    workdir.open_workdir(options.path, {**config.to_dict(), "seeds": list(options.seeds)}, options.overwrite)


def each_seed(config: Any, options: Options, start: Callable[..., Callable[..., None]]) -> Iterator[Run]:
    """The run of each seed, its data read; `start` as in `report.terminal.progress`."""
    for seed in options.seeds:
        place = options.path if len(options.seeds) == 1 else options.path / f"seed_{seed}"
        dataset = load_data(config.dataset, options.data_dir, seed)
        yield Run(config, place, seed, dataset, start, data_digest(dataset), options.mesh)
