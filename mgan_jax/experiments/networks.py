"""Several trained networks in one run: each by the target's section with changes of its own, in a folder of its own."""

from typing import Any

from ml_collections import ConfigDict

from mgan_jax.experiments.threats import varied
from mgan_jax.experiments.training import Run, build_target, train_target
from mgan_jax.types import Classifier, Dataset, Variables

OFFSET = "seed_offset"
Networks = dict[str, tuple[Run, Classifier, Variables]]


def settings_of(config: Any, name: str) -> dict[str, Any]:
    """The section `target` of the network `name`: the configuration's with that network's changes."""
    changes = config.networks[name].to_dict()
    changes.pop(OFFSET, None)
    return {**config.target.to_dict(), **changes}


def offset_of(config: Any, name: str) -> int:
    """By how much a network's seed is greater than the run's."""
    return config.networks[name].get(OFFSET, 0)


def check_networks(config: Any, dataset: Dataset) -> dict[str, Classifier]:
    """Builds every network of `config.networks` and trains none.

    Raises:
      ValueError: there is none, a name that is no folder's, a field that no training has, a seed offset below 0, or a mistake in
        a network.
    """
    if not config.networks:
        raise ValueError("config.networks is empty; name at least one network, as in lenet = dict(name='lenet')")
    built = {}
    for name in config.networks:
        if not name.isidentifier():
            raise ValueError(f"config.networks names {name!r}; choose a name of letters, digits and underscores")
        fields = (*dict.fromkeys((*config.target, "model", "standardize")), OFFSET)
        unknown = [field for field in config.networks[name] if field not in fields]
        if unknown:
            raise ValueError(f"config.networks.{name} has {unknown[0]!r}; choose from {', '.join(fields)}")
        offset = offset_of(config, name)
        if not isinstance(offset, int) or offset < 0:
            raise ValueError(f"config.networks.{name}.{OFFSET} is {offset!r}; choose 0, 1, 2, ...")
        built[name] = build_target(ConfigDict(settings_of(config, name)), dataset)
    return built


def train_networks(run: Run) -> Networks:
    """Every network of `run.config.networks` with the run that it belongs to; finished trainings are read."""
    trained = {}
    update = run.start("networks", len(run.config.networks), "networks")
    for done, name in enumerate(run.config.networks, 1):
        own = varied(run, name, "networks", target=settings_of(run.config, name))
        own = own._replace(seed=run.seed + offset_of(run.config, name))
        trained[name] = (own, *train_target(own)[:2])
        update(done)
    return trained


def siblings(config: Any, name: str) -> list[str]:
    """The network itself, then those that differ from it in their seed alone."""
    others = [other for other in config.networks if other != name and settings_of(config, other) == settings_of(config, name)]
    return [name, *others]
