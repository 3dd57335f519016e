"""Defenses of an experiment: built as the config says, fitted once, their states kept."""

import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import checkpoint, workdir
from mgan_jax.build import build, factory
from mgan_jax.experiments import crafting, generating
from mgan_jax.experiments.attacking import GENERATORS, attack_arguments, build_attack
from mgan_jax.experiments.stages import made_from, narrowed
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run, trainer
from mgan_jax.types import Array, Attack, AttackResult, Classifier, Dataset, Defense, Train, Variables

NONE = "none"
"""The name under which the undefended target stands among the defenses."""


class Defended(NamedTuple):
    """A target with its defense, or without one.

    Attributes:
      run: the seed, in a folder of its own, whose stages are made from the defense's section too.
      network: what is attacked, as a `Classifier` of which only `apply` is certain to be its own.
      variables: of the network.
      purify: as in `Defense`.
      more: what attacks on it may ask for by name; of one that looks for an image's code `decode`, `code_size`, `classify`, the
        network behind; of one that draws `redraw`.
      seconds: of fitting, 0 without a defense; of a training that was resumed, of its last part.
    """

    run: Run
    network: Classifier
    variables: Variables
    purify: Callable[[Variables, Array], Array] | None
    more: dict[str, Any]
    seconds: float


def facts(classifier: Classifier, dataset: Dataset, train: Train | None) -> dict[str, Any]:
    """What a factory of a defense or detector may ask for by name, beside what the config says."""
    return {
        "apply_fn": classifier.apply,
        "features": classifier.features,
        "classifier": classifier,
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
    if kind == "detectors":
        # A detector's own network goes by this name.
        given.pop("classifier", None)
    arguments = {**given, **attack_arguments(settings, dataset)}
    return build(kind, method, **arguments), arguments


def sections_of(config: Any, name: str) -> tuple[str, ...]:
    """Names of the sections that a defense is made by: its own, and those that it names."""
    section = config.defenses[name]
    found = sections_of(config, section["of"]) if "of" in section else ()
    found += (f"defenses.{name}",)
    if "generator" in section:
        found += (f"generators.{section['generator']}",)
    if "opponent" in section:
        found += crafting.generator_sections(section["opponent"], section["opponent"])
    return found + tuple(f"{teachers_of(config, row)}.{row}" for row in section.get("learned_from", ()))


def own_run(run: Run, name: str) -> Run:
    """The run of a defended target: in a folder of its own, its stages are made from the defense's sections too."""
    if name == NONE:
        return run
    return run._replace(path=run.path / "defenses" / name, sections=(*run.sections, *sections_of(run.config, name)))


def teachers_of(config: Any, row: str) -> str:
    """Where the attack `row` stands that a defense learns from: in `teachers` or in `attacks`.

    Raises:
      ValueError: there is none of this name.
    """
    for place in ("teachers", "attacks"):
        if row in config.get(place, {}):
            return place
    raise ValueError(f"learned_from names {row!r}; choose from {', '.join((*config.attacks, *config.get('teachers', {})))}")


def teacher(config: Any, row: str) -> Any:
    """The section of an attack that a defense learns from; raises as `teachers_of`."""
    return config[teachers_of(config, row)][row]


def build_defense(
    config: Any,
    name: str,
    classifier: Classifier,
    dataset: Dataset,
    train: Train | None = None,
    run: Run | None = None,
    variables: Variables | None = None,
) -> tuple[Defense, dict[str, Any]]:
    """The defense `name` of `config.defenses`, and all that its factory was given.

    Args:
      config: the whole configuration.
      name: of its section, as `build_method` takes it; with `learned_from`, rows of attacks on the target that it learns from,
        `opponent`, the generator (advgan or mgan) trained against the target that it is trained against, and `generator`, see
        `generating.facts`.
      classifier: the target, or where the section says `of`, the network of that defense.
      dataset: whose shapes models take.
      train, run: as in `build_method` and `generating.facts`; None: only to see whether it can be built.
      variables: the target's.

    Raises:
      ValueError: as factories do.
    """
    settings = config.defenses[name]
    more = generating.facts(config, settings, classifier, dataset, run)
    rows = [build_attack(teacher(config, row), row, classifier, dataset) for row in settings.get("learned_from", ())]
    for row, attack in zip(settings.get("learned_from", ()), rows, strict=True):
        crafting.that_learns_nothing(attack, f"config.defenses.{name}.learned_from names {row}")
    if rows:
        more["attack"] = rows[0] if len(rows) == 1 else tuple(rows)
    if "opponent" in settings:
        if settings.opponent not in GENERATORS or settings.opponent not in config.attacks:
            raise ValueError(f"config.defenses.{name}.opponent is {settings.opponent!r}; choose advgan or mgan of config.attacks")
        if "of" in settings:
            raise ValueError(f"config.defenses.{name} has both of and opponent; choose one")
        fixed = None if run is None else opponent(run, settings.opponent, classifier, variables)
        more["make_attack"] = lambda apply_fn: fixed
    return build_method("defenses", settings, name, classifier, dataset, train, **more)


def opponent(run: Run, name: str, classifier: Classifier, variables: Variables) -> Attack:
    """AdvGAN or MGAN trained against the target, the same as the attack's own row."""
    operators = crafting.training_operators("all") if name == "mgan" else ()
    made, state, _ = crafting.generative(run, classifier, variables, name, name, operators)

    def attack(key: Array, others: Variables, images: Array, labels: Array, targets: Array | None = None) -> AttackResult:
        """On the target it was trained against, whatever network is being trained."""
        del others
        return made.attack({"generator": state["generator"]}, key, variables, images, labels, targets)

    return attack


def defended(run: Run, name: str, classifier: Classifier, variables: Variables, others: Mapping[str, Defended]) -> Defended:
    """The target under the defense `name` of `config.defenses`, or under none; a state that is there is read.

    Args:
      run: the seed.
      name: of the defense, or `NONE`.
      classifier, variables: the target.
      others: defenses that are fitted already, for one that is `of` another: its target is that one's network.
    """
    if name == NONE:
        return Defended(run, classifier, variables, None, {}, 0.0)
    own, settings = own_run(run, name), run.config.defenses[name]
    if "of" in settings:
        classifier, variables = others[settings.of].network, others[settings.of].variables
    images, labels = (array[: settings.get("fit_images", len(array))] for array in run.dataset.train)
    inputs = {"variables": variables, "images": images, "labels": labels}
    origin = made_from(own, (), inputs)
    train = trainer(own, "defense", settings.training, origin) if "training" in settings else None
    defense, arguments = build_defense(narrowed(own, ()).config, name, classifier, run.dataset, train, run, variables)
    state, seconds = fitted(own, defense.fit, inputs, stream_key(run.seed, "defense", name))
    if defense.network is not None:
        # Mutants and features are those of that network.
        return Defended(own, defense.network, state, None, {}, seconds)
    more = {}
    if defense.redraw is not None:
        more["redraw"] = defense.redraw
    if "decode" in arguments:
        behind = (lambda v: v["defense"]["classifier"]) if "classifier" in state else (lambda v: v["target"])
        more |= {"decode": arguments["decode"], "code_size": arguments["code_size"],
                 "classify": lambda v, x: classifier.apply(behind(v), x)}  # fmt: skip
    network = classifier._replace(apply=defense.apply)
    return Defended(own, network, {"target": variables, "defense": state}, defense.purify, more, seconds)


def fitted(run: Run, fit: Callable[..., Any], inputs: Mapping[str, Any], key: Array) -> tuple[Any, float]:
    """The state of a defense or detector, from its checkpoint or by fitting, and the seconds that took.

    Args:
      run: of its own, as `own_run` gives it.
      fit: `fit(key, **inputs) -> state`, nested dicts of arrays.
      inputs: the arrays that it is fitted with.
      key: consumed.
    """
    folder = run.path / "checkpoints" / "state"
    workdir.claim(run.path, "state", made_from(run, (), inputs), folder)
    kept = checkpoint.restore(folder)
    if kept is None:
        began = time.monotonic()
        state = jax.block_until_ready(fit(key, **inputs))
        kept = {"state": state, "seconds": np.float64(time.monotonic() - began)}
        if jax.tree.leaves(state):
            checkpoint.save(folder, 1, kept)
    return jax.tree.map(jnp.asarray, kept["state"]), float(kept["seconds"])
