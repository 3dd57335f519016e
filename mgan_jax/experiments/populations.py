"""The mutants of an experiment: each population is kept as its keys, and no mutant is in two streams."""

import inspect
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mgan_jax import engine, population, workdir
from mgan_jax.attacks.mgan import drawn, mgan
from mgan_jax.attacks.pgd_mutants import drawn_in_batch, pgd_mutants
from mgan_jax.experiments import crafting
from mgan_jax.experiments.data import test_images, validation_images
from mgan_jax.experiments.stages import stage
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.testing import Protocol, kappa_of
from mgan_jax.experiments.training import Run, build_mutation
from mgan_jax.training import loop
from mgan_jax.types import Array, Classifier, Mutation, Variables

LAYER_OPERATORS = ("LD", "LA", "AFR")
BATCH = 50

Pairs = list[tuple[str, str]]
"""(operator, protocol) of each of an attack's mutations."""


class Streams(NamedTuple):
    """Digests of the mutants that are used already, by what for.

    Attributes:
      trained: attacks were trained on them, or made with them.
      validated: thresholds were taken on them.
      tested: images were tested by them.
    """

    trained: frozenset[str] = frozenset()
    validated: frozenset[str] = frozenset()
    tested: frozenset[str] = frozenset()

    @property
    def every(self) -> frozenset[str]:
        """All of them."""
        return self.trained | self.validated | self.tested


NOTHING_USED = Streams()


class Tested(NamedTuple):
    """The evaluation mutants of one operator under one protocol.

    Attributes:
      operator: its abbreviation.
      protocol: how they were drawn.
      found: the population.
      kappa: SPRT's threshold, from validation mutants on validation images; None where there are none.
    """

    operator: str
    protocol: Protocol
    found: population.Population
    kappa: float | None


def arguments_of(settings: Any, method: Any) -> dict[str, Any]:
    """All arguments of an attack's factory, those that its section does not name at their defaults."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(method).parameters.items()}
    return {**defaults, **settings.get("arguments", {})}


def mgan_draws(run: Run, stage: str, settings: Any, num_operators: int) -> tuple[Array, Array]:
    """Of every mutant of a training of MGAN which operator makes it, and with which key, as `attacks.mgan.drawn`."""
    arguments = arguments_of(settings, mgan)
    total = loop.num_steps(settings.epochs, len(run.dataset.train.labels), settings.batch_size, settings.chunk_size)
    draws = np.arange(-(-total // arguments["redraw_every"]))
    of = partial(drawn, stream_key(run.seed, stage, "steps"), num_mutants=arguments["num_mutants"], num_operators=num_operators)
    return jax.vmap(of)(draws)


def pgd_draws(run: Run, settings: Any, num_operators: int) -> tuple[Array, Array]:
    """The same of the attack `pgd_mutants` on all test images, whose mutants are drawn for each batch and step."""
    arguments = arguments_of(settings, pgd_mutants)
    starts = np.arange(0, len(test_images(run.dataset, run.config.testing.num_images).labels), crafting.BATCH)
    keys = jax.vmap(partial(jax.random.fold_in, stream_key(run.seed, "attack", "pgd_mutants")))(starts)
    numbers = {name: arguments[name] for name in ("num_steps", "num_mutants")}
    return jax.vmap(partial(drawn_in_batch, **numbers, num_operators=num_operators))(keys)


def training_draws(run: Run, trained_on: Sequence[str]) -> Iterable[tuple[Pairs, Array, Array]]:
    """Of each attack of the config that learns from mutants its operators, and of each mutant their index and the key.

    `trained_on` as in `config.attacks.mgan`.
    """
    attacks, protocols = run.config.attacks, list(run.config.get("protocols", {}))
    pairs_of = lambda trained_on: [(name, other) for other in protocols for name in crafting.training_operators(trained_on)]  # noqa: E731
    settings = attacks.get("mgan")
    if settings is not None and settings.get("arguments", {}).get("beta", 1.0):
        trainings = [(crafting.stage_name("mgan", of), of) for of in trained_on]
        trainings += [(crafting.undetected_name(weight), "all") for weight in run.config.get("undetected", {}).get("weights", ())]
        for stage, of in trainings:
            yield pairs_of(of), *mgan_draws(run, stage, settings, len(pairs_of(of)))
    if "pgd_mutants" in attacks:
        yield pairs_of("all"), *pgd_draws(run, attacks.pgd_mutants, len(pairs_of("all")))


def can_mutate(mutate: Mutation, variables: Variables) -> bool:
    """Whether an operator finds something to mutate in a network; where it does not, nothing was trained on its mutants."""
    try:
        jax.eval_shape(mutate, jax.random.key(0), variables)
    except ValueError:
        return False
    return True


def training_digests(run: Run, variables: Variables, trained_on: Sequence[str]) -> tuple[str, ...]:
    """Content of all mutants that this seed's attacks learn from, whether or not they are run, drawn once more.

    Args:
      run: the seed.
      variables: the target's.
      trained_on: as in `config.attacks.mgan`.
    """
    keys_of: dict[tuple[str, str], list[Array]] = {}
    for pairs, indices, keys in training_draws(run, trained_on):
        for place, pair in enumerate(pairs):
            keys_of.setdefault(pair, []).append(keys[np.asarray(indices) == place])
    found = []
    for (operator, protocol), parts in keys_of.items():
        mutate, keys = build_mutation(run.config, operator, run.config.protocols[protocol].rate), jnp.concatenate(parts)
        # Of few mutants an operator may make none.
        size = max(1, min(BATCH, len(keys)))
        for start in range(0, len(keys) if can_mutate(mutate, variables) else 0, size):
            found += population.digests(population.made(mutate, keys[np.arange(start, start + size) % len(keys)], variables))
    return tuple(dict.fromkeys(found))


def trained(run: Run, variables: Variables) -> Streams:
    """What is used before anything is tested: the mutants that attacks learn from, `training_digests`; kept."""
    attacks = [name for name in ("mgan", "pgd_mutants") if name in run.config.attacks]
    if not attacks:
        return NOTHING_USED

    def make(run: Run, variables: Variables, trained_on: Sequence[str]) -> tuple[dict, dict]:
        return {"digests": np.array(training_digests(run, variables, trained_on), "U64")}, {}

    sections = ["mutation", "protocols", "testing.num_images", *(f"attacks.{name}" for name in attacks)]
    sections += ["undetected.weights"] if "undetected" in run.config else []
    given = {"variables": variables, "trained_on": list(run.config.attacks.get("mgan", {}).get("trained_on", ("all",)))}
    return Streams(frozenset(stage(run, "mutants_trained", make, given, sections).arrays["digests"].tolist()))


def inputs_of(tested: Tested, variables: Variables) -> dict[str, Any]:
    """What a stage takes in that evaluation mutants of this target vote in."""
    found = tested.found
    return {"variables": variables, "operator": tested.operator, "protocol": tested.protocol._asdict(), "kappa": tested.kappa,
            "mutants": found.key_data, "tried": found.tried, "qualified": found.qualified}  # fmt: skip


def check_apart(output: Path, digests: Iterable[str], used: Collection[str]) -> None:
    """Whether mutants that may have been kept, in a file or folder, are none of those that are used already.

    Raises:
      workdir.WorkdirMismatch: some are.
    """
    if both := len(set(digests) & set(used)):
        raise workdir.WorkdirMismatch(
            f"{both} of the mutants in {output} are mutants of another stream; delete it and what was made from it, or start "
            "anew with --overwrite"
        )


def kept(found: population.Population, **arrays: Any) -> dict[str, np.ndarray]:
    """A population as a stage keeps it, with further digests."""
    return {
        "key_data": found.key_data,
        **{name: np.array(of, "U64") for name, of in {"digests": found.digests, **arrays}.items()},
    }


def restored(mutate: Mutation, variables: Variables, done: workdir.Stage) -> population.Population:
    """The population that a stage keeps."""
    numbers = done.numbers["tried"], done.numbers["qualified"]
    return population.Population(mutate, variables, done.arrays["key_data"], tuple(done.arrays["digests"].tolist()), *numbers)


def given(run: Run, variables: Variables) -> dict[str, Any]:
    """The arrays that populations are drawn by: of the target, and those by which mutants qualify."""
    return {"variables": variables, **validation_images(run)._asdict()}


def sampled(
    run: Run,
    stream: str,
    classifier: Classifier,
    variables: Variables,
    mutate: Mutation,
    how: dict[str, Any],
    num_mutants: int,
    used: Streams,
) -> tuple[population.Population, Streams]:
    """The population of a stream of its own, none of whose mutants is used anywhere else; one that is there is read.

    Args:
      run: the seed.
      stream: its name.
      classifier, variables: the target.
      mutate: the operator.
      how: `rate` and `min_accuracy_ratio`, and what else the operator depends on beside `config.mutation`.
      num_mutants: at most.
      used: mutants that are used already.

    Returns:
      The population; `used` with its mutants among the tested ones.
    """
    name, key = f"mutants_{stream}", stream_key(run.seed, "mutants", stream)

    def make(run: Run, variables: Variables, images: Any, labels: Any, how: dict, num_mutants: int) -> tuple[dict, dict]:
        of = classifier, mutate, key, variables, images, labels, num_mutants, how["min_accuracy_ratio"], used.every
        found = population.qualified(*of, **run.how)
        return kept(found), {"tried": found.tried, "qualified": found.qualified}

    inputs = {**given(run, variables), "how": how, "num_mutants": num_mutants}
    found = restored(mutate, variables, stage(run, name, make, inputs, ("mutation",)))
    check_apart(workdir.stage_path(run.path, name), found.digests, used.every)
    return found, used._replace(tested=used.tested | set(found.digests))


def draw(
    run: Run, classifier: Classifier, variables: Variables, operator: str, protocol: Protocol, used: Streams
) -> tuple[Tested, Streams]:
    """Validation mutants first, for SPRT's threshold, then evaluation mutants, none of which is among them or was trained on.

    The layer operators have so few distinct mutants that all of them are kept for evaluation; they are left out of
    training, and have no threshold. Protocols are evaluated apart: what one tests with another may.

    Args:
      run: the seed; `config.testing` says how many mutants and images.
      classifier, variables: the target.
      operator: abbreviation.
      protocol: rate and filter.
      used: mutants that are used already.

    Returns:
      The mutants, those that are there read; `used` with them.
    """
    name, mutate = f"mutants_{operator}_{protocol.name}", build_mutation(run.config, operator, protocol.rate)

    def make(run: Run, variables: Variables, images: Any, labels: Any, protocol: dict, **_) -> tuple[dict, dict]:
        testing, kappa, validated = run.config.testing, None, ()

        def found(stream: str, num_mutants: int, exclude: Collection[str]) -> population.Population:
            key = stream_key(run.seed, "mutants", stream, operator, protocol["name"])
            of = classifier, mutate, key, variables, images, labels, num_mutants, protocol["min_accuracy_ratio"], exclude
            return population.qualified(*of, **run.how)

        if operator not in LAYER_OPERATORS:
            validation = found("validation", testing.num_validation_mutants, used.trained | used.tested)
            validated = validation.digests
            if validated:
                decisions = engine.predictions(classifier.apply, variables, images)
                votes = population.votes(classifier, validation, images, **run.how)
                kappa = kappa_of(votes, decisions, decisions == np.asarray(labels))
        test = found("test", testing.num_mutants, used.trained | used.validated | set(validated))
        return kept(test, validated=validated), {"tried": test.tried, "qualified": test.qualified, "kappa": kappa}

    inputs = {**given(run, variables), "protocol": protocol._asdict(), "operator": operator}
    done = stage(run, name, make, inputs, ("mutation", "testing.num_mutants", "testing.num_validation_mutants"))
    test, validated = restored(mutate, variables, done), frozenset(done.arrays["validated"].tolist())
    check_apart(workdir.stage_path(run.path, name), test.digests, used.trained | used.validated | validated)
    check_apart(workdir.stage_path(run.path, name), validated, used.trained | used.tested)
    used = used._replace(validated=used.validated | validated, tested=used.tested | set(test.digests))
    return Tested(operator, protocol, test, done.numbers["kappa"]), used
