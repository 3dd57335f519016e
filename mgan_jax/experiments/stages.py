"""Stages of an experiment: what each was made from is derived from what it is given, so that nothing stale is ever read.

One thing that a population of mutants is drawn by is no input of it: the mutants used before, which it leaves out. They differ
with the rows that a start chooses, of which a folder keeps those of every start. So what is kept is checked to have none of
them: then it is what would be drawn anew, wherever the ones to leave out have only become more, and an overlap is refused.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict, config_dict

from mgan_jax import workdir
from mgan_jax.checkpoint import digest
from mgan_jax.types import Dataset

SHOWN = {
    "attacks": ("knowledge", "trained_on", "defenses", "unaware"),
    "defenses": ("num_images", "num_adaptive_images", "masking"),
}
"""Of the sections in these: what says where a method is shown and on how many images, not what it is; no stage can read it."""
ALWAYS = ("dataset", "target")
HOW = ("testing.method", "testing.batch_size")
"""How the work is done, which changes results by rounding at most: every stage may read it, and none was made from it."""


class Run(NamedTuple):
    """One seed of an experiment.

    Attributes:
      config: the whole configuration; in a stage no more of it than the stage was made from.
      path: folder of this seed's stages.
      seed: of everything.
      dataset: the data.
      start: `start(name, total, unit) -> update(done, **numbers)`, the progress display.
      data: digest of the data set.
      mesh: devices that share the work; None: one.
      sections: names of sections that all its stages are made from beside the target's, such as a defense's.
    """

    config: Any
    path: Any
    seed: int
    dataset: Dataset
    start: Callable[..., Callable[..., None]]
    data: str = ""
    mesh: Mesh | None = None
    sections: tuple[str, ...] = ()

    @property
    def how(self) -> dict[str, Any]:
        """How mutants vote: arguments of `engine.outputs`, by which probabilities agree up to rounding."""
        return {"method": self.config.testing.method, "mesh": self.mesh}


def without_shown(kind: str, section: Any) -> Any:
    """The section of a method of this kind ("attacks", ...) without what says where it is shown; its order stays."""
    left_out = [field for field in SHOWN.get(kind, ()) if isinstance(section, ConfigDict) and field in section]
    if not left_out:
        return section
    return ConfigDict({field: section[field] for field in section if field not in left_out}, sort_keys=False)


def part(config: Any, names: Sequence[str]) -> ConfigDict:
    """A configuration of these sections of another, "attacks.fgsm" or "epsilon", and of nothing else."""
    found = ConfigDict(sort_keys=False)
    within = lambda name: any(name.startswith(f"{other}.") for other in names)  # noqa: E731
    for name in (name for name in dict.fromkeys(names) if not within(name)):
        *parents, last = name.split(".")
        there, here = config, found
        for parent in parents:
            there = there[parent]
            if parent not in here:
                here[parent] = ConfigDict(sort_keys=False)
            here = here[parent]
        here[last] = without_shown(".".join(parents), there[last])
    return found


def with_hidden(found: ConfigDict, whole: Any) -> ConfigDict:
    """A part of a configuration, in it the names of all that it lacks of the whole, without what they stand for."""
    for name in whole:
        if name not in found:
            found[name] = config_dict.required_placeholder(object)
        elif isinstance(found[name], ConfigDict) and found[name] is not whole[name]:
            found[name] = with_hidden(found[name], whole[name])
    return found


def narrowed(run: Run, sections: Sequence[str]) -> Run:
    """The run with no more of its configuration than the data, the target and these sections, by which a stage is made.

    What else there is keeps its name, and reading it raises RequiredValueError, also by `get`.
    """
    how = [name for name in HOW if "testing" in run.config and name.removeprefix("testing.") in run.config.testing]
    return run._replace(config=with_hidden(part(run.config, (*ALWAYS, *run.sections, *sections, *how)), run.config))


def described(value: Any) -> Any:
    """Numbers and words as they are; arrays, and tuples of them, by a digest; what lies in a dict, each for itself."""
    if isinstance(value, dict):
        return {str(name): described(one) for name, one in value.items()}
    leaves = jax.tree.leaves(value)
    if any(isinstance(leaf, (np.ndarray, jax.Array)) for leaf in leaves):
        return digest(value)[:16]
    if any(isinstance(leaf, float) and not math.isfinite(leaf) for leaf in leaves):
        return repr(value)
    return value.item() if isinstance(value, np.generic) else value


def made_from(run: Run, sections: Sequence[str], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """All that a stage is made from, nested dicts of JSON values: seed, data, sections in words, and digests of its inputs.

    Args:
      run: the seed.
      sections: names of sections of the configuration, each of which counts as a whole but for `SHOWN`.
      inputs: {name: numbers and words, or a tree of arrays}; arrays that are read of files, not such as the next start would
        compute anew, which on some devices differ in rounding.
    """
    read = part(run.config, (*ALWAYS, *run.sections, *sections)).to_dict()
    return {"seed": run.seed, "data": run.data, **read, "inputs": {name: described(value) for name, value in inputs.items()}}


def stage(
    run: Run, name: str, make: Callable[..., tuple[dict, dict]], inputs: Mapping[str, Any], sections: Sequence[str] = ()
) -> workdir.Stage:
    """The results of a stage: those that are there, else what `make` gives, which are then kept.

    Args:
      run: the seed, in whose folder they lie.
      name: of the stage.
      make: `make(run, **inputs) -> (arrays, numbers)`; its run is `narrowed`, and arrays reach it as inputs alone.
      inputs, sections: as in `made_from`.

    Raises:
      WorkdirMismatch: those that are there were made from something else.
      CorruptCheckpoint: the file is damaged.
    """
    own = narrowed(run, sections)
    return workdir.stage(run.path, name, made_from(run, sections, inputs), lambda: make(own, **inputs))


def rows(
    run: Run, name: str, make: Callable[..., list[dict]], inputs: Mapping[str, Any], sections: Sequence[str] = ()
) -> list[dict]:
    """The rows of a stage whose `make(run, **inputs)` gives nothing else."""
    turned = lambda own, **given: ({}, {"rows": make(own, **given)})  # noqa: E731
    return stage(run, name, turned, inputs, sections).numbers["rows"]
