"""Defenses of an experiment: built as the config says, fitted once, their states kept."""

import inspect
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import checkpoint, workdir
from mgan_jax.build import build, factory
from mgan_jax.experiments.attacking import attack_arguments
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run, trainer
from mgan_jax.types import Array, Classifier, Dataset, Train, Variables

NONE = "none"
"""The name under which the undefended target stands among the defenses."""
FIELDS = ("method", "arguments", "networks", "optimizers", "attacks", "training", "fit_images")
"""Of a section of `config.defenses`: what its state depends on."""


class Defended(NamedTuple):
    """A target with its defense, or without one.

    Attributes:
      run: the seed, in a folder of its own, whose stages read the defense too.
      network: what is attacked, as a `Classifier` of which only `apply` is certain to be its own.
      variables: of the network.
      purify: as in `Defense`.
      seconds: of fitting, 0 without a defense; of a training that was resumed, of its last part.
    """

    run: Run
    network: Classifier
    variables: Variables
    purify: Callable[[Variables, Array], Array] | None
    seconds: float


def facts(classifier: Classifier, dataset: Dataset, train: Train | None) -> dict[str, Any]:
    """What a factory of a defense or detector may ask for by name, beside what the config says."""
    return {
        "apply_fn": classifier.apply,
        "features": classifier.features,
        "classifier": classifier,
        "network": classifier,
        "train": train,
        "image_shape": dataset.image_shape,
        "num_classes": dataset.num_classes,
    }


def build_method(
    kind: str, settings: Any, name: str, classifier: Classifier, dataset: Dataset, train: Train | None = None, **more: Any
) -> tuple[Any, dict[str, Any]]:
    """A defense or detector as a section of a config describes it, and the arguments that it was built with.

    Args:
      kind: "defenses" or "detectors".
      settings: `method`, where it is not the section's name; `arguments`, `networks`, `optimizers`, `attacks` as in
        `attacking.build_attack`.
      name: of the section.
      classifier: the target.
      dataset: whose shapes models take.
      train: runs its trainings; None: only to see whether it can be built.
      **more: further arguments that the factory may ask for by name.

    Raises:
      ValueError: as factories do.
    """
    method = settings.get("method", name)
    takes = inspect.signature(factory(kind, method)).parameters
    given = {key: value for key, value in {**facts(classifier, dataset, train), **more}.items() if key in takes}
    arguments = {**given, **attack_arguments(settings, dataset)}
    return build(kind, method, **arguments), arguments


def own_run(run: Run, name: str) -> Run:
    """The run of a defended target: in a folder of its own, its stages read the defense."""
    if name == NONE:
        return run
    section = run.config.defenses[name].to_dict()
    beside = {"defense": {field: section[field] for field in FIELDS if field in section}}
    return run._replace(path=run.path / "defenses" / name, beside={**run.beside, **beside})


def defended(run: Run, name: str, classifier: Classifier, variables: Variables) -> Defended:
    """The target under the defense `name` of `config.defenses`, or under none; a state that is there is read.

    Args:
      run: the seed.
      name: of the defense, or `NONE`.
      classifier, variables: the target.
    """
    if name == NONE:
        return Defended(run, classifier, variables, None, 0.0)
    own, settings = own_run(run, name), run.config.defenses[name]
    train = trainer(own, "defense", settings.training, own.reads()) if "training" in settings else None
    defense, arguments = build_method("defenses", settings, name, classifier, run.dataset, train)
    images, labels = (array[: settings.get("fit_images", len(array))] for array in run.dataset.train)
    state, seconds = fitted(own, lambda key: defense.fit(key, variables, images, labels), stream_key(run.seed, "defense", name))
    if set(state) == set(variables):
        # The state is a network of its own: mutants and features are those of that network.
        return Defended(own, arguments.get("classifier", classifier), state, None, seconds)
    network = classifier._replace(apply=defense.apply)
    return Defended(own, network, {"target": variables, "defense": state}, defense.purify, seconds)


def fitted(run: Run, fit: Callable[[Array], Any], key: Array) -> tuple[Any, float]:
    """The state of a defense or detector, from its checkpoint or by fitting, and the seconds that took.

    Args:
      run: of its own, as `own_run` gives it.
      fit: `fit(key) -> state`, nested dicts of arrays.
      key: consumed.
    """
    folder = run.path / "checkpoints" / "state"
    workdir.claim(run.path, "state", run.reads(), folder)
    kept = checkpoint.restore(folder)
    if kept is None:
        began = time.monotonic()
        state = jax.block_until_ready(fit(key))
        kept = {"state": state, "seconds": np.float64(time.monotonic() - began)}
        if jax.tree.leaves(state):
            checkpoint.save(folder, 1, kept)
    return jax.tree.map(jnp.asarray, kept["state"]), float(kept["seconds"])
