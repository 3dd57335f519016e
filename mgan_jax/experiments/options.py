"""What the command line says beside the configuration, the same for every experiment."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from mgan_jax import workdir
from mgan_jax.experiments.data import data_digest, load_data, tested_on
from mgan_jax.experiments.notes import notes
from mgan_jax.experiments.training import Run
from mgan_jax.report.results import environment
from mgan_jax.report.terminal import progress
from mgan_jax.types import Dataset


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


@contextlib.contextmanager
def opened(config: Any, options: Options, check: Callable[[Any, Dataset], Any]) -> Iterator[Iterator[Run]]:
    """The run of each seed, one after the other: `with opened(config, options, check) as runs`.

    Mistakes are found first, then the folder is taken, from other processes too, and progress is shown meanwhile.

    Args:
      config: the whole configuration.
      options: how it is run.
      check: `check(config, dataset)` builds what the config names, and raises ValueError where it cannot.
    """
    check(config, read_data(config, options, options.seeds[0]))
    with workdir.locked(options.path), progress(options.progress) as start:
        workdir.open_workdir(options.path, {**config.to_dict(), "seeds": list(options.seeds)}, options.overwrite)
        yield (one_run(config, options, seed, start) for seed in options.seeds)


def read_data(config: Any, options: Options, seed: int) -> Dataset:
    """The data of one seed, `experiments.data.load_data`; of them the split `config.testing.split` is tested."""
    dataset = load_data(config.dataset, options.data_dir, seed)
    return tested_on(dataset, config.get("testing", {}).get("split", "test"))


def one_run(config: Any, options: Options, seed: int, start: Callable[..., Callable[..., None]]) -> Run:
    """The run of one seed, its data read; `start` as in `report.terminal.progress`."""
    path = options.path if len(options.seeds) == 1 else options.path / f"seed_{seed}"
    dataset = read_data(config, options, seed)
    return Run(config, path, seed, dataset, start, data_digest(dataset), options.mesh)


def provenance(run: Run, seconds: float) -> dict[str, Any]:
    """What every results.json says of how it came about."""
    return {
        "config": run.config.to_dict(),
        "seed": run.seed,
        "versions": environment(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "seconds": seconds,
        "notes": notes(run),
    }


def without_skipped(config: Any) -> Any:
    """A copy of the config that has no attacks which `config.skip` names, no pictures of them and no threats to them.

    Raises:
      ValueError: it names one that there is not.
    """
    skipped = tuple(config.get("skip", ()))
    for name in skipped:
        if name not in config.attacks:
            raise ValueError(f"config.skip names {name!r}; choose from {', '.join(config.attacks)}")
    # Not a deep copy, which would put the sections in alphabetical order.
    config = ConfigDict(config).unlock()
    config.attacks = ConfigDict({name: config.attacks[name] for name in config.attacks if name not in skipped}, sort_keys=False)
    if "pictures" in config.get("testing", {}):
        left = tuple(name for name in config.testing.pictures if name not in skipped)
        config.testing = ConfigDict({**config.testing.to_dict(), "pictures": left})
    if "threats" in config:
        left = tuple(name for name in config.threats.attacks if name not in skipped)
        config.threats = ConfigDict({**config.threats.to_dict(), "attacks": left})
    return config
