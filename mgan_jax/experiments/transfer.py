"""Transfer: whether images made against one network fool others, of other shapes, seeds and kinds, and survive the way there."""

import time
from typing import Any

import numpy as np

from mgan_jax import engine
from mgan_jax.experiments import sanity
from mgan_jax.experiments.aims import goal_of
from mgan_jax.experiments.attacking import Attacked, attacked
from mgan_jax.experiments.attacks import check_attack
from mgan_jax.experiments.data import test_images
from mgan_jax.experiments.destruction import check_transformations, destruction_rows
from mgan_jax.experiments.learners import check_learners, fitted, flat
from mgan_jax.experiments.networks import Networks, check_networks, train_networks
from mgan_jax.experiments.options import Options, provenance
from mgan_jax.experiments.seeds import each_seed
from mgan_jax.experiments.stages import stage
from mgan_jax.experiments.training import Run
from mgan_jax.metrics import named, share, transfer
from mgan_jax.report.transfer import print_transfer, write_transfer
from mgan_jax.success import fooled, tried
from mgan_jax.types import Dataset, Split

Made = dict[tuple[str, str], Attacked]
CLEAN = "clean"


def check(config: Any, dataset: Dataset) -> None:
    """Builds everything that the config names and runs nothing, but for learners on a handful of images.

    Raises:
      ValueError: a mistake in it.
    """
    networks = check_networks(config, dataset)
    if not config.attacks:
        raise ValueError("config.attacks is empty; name at least one attack, as in fgsm = dict(arguments=dict(epsilon=0.3))")
    for classifier in networks.values():
        for name in config.attacks:
            check_attack(config, name, classifier, dataset)
    check_transformations(config)
    test_images(dataset, config.testing.num_images)
    twice = [name for name in config.learners if name in config.networks]
    if twice:
        raise ValueError(f"config.learners and config.networks both name {twice[0]!r}; choose another name for the network")
    check_learners(config, dataset)


def learner_decisions(run: Run, name: str, images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the learner `name` says of each set of images, {set: [N]}; decisions that are finished are read.

    Args:
      run: the seed.
      name: as in `config.learners`.
      images: {set: [N, H, W, C]}.
    """

    def make(run: Run, images: dict[str, np.ndarray]) -> tuple[dict, dict]:
        learner = fitted(name, run.config.learners[name].to_dict(), run.dataset, run.config.num_train, run.seed)
        return {part: learner.predict(flat(of)).astype(np.int32) for part, of in images.items()}, {}

    return stage(run, f"learner_{name}", make, {"images": images}, (f"learners.{name}", "num_train")).arrays


def all_decisions(run: Run, networks: Networks, test: Split, made: Made) -> dict[str, dict[str, np.ndarray]]:
    """{destination: {"clean" or "attack source": labels [N]}} of all networks and learners."""
    images = {CLEAN: test.images, **{" ".join(key): one.images for key, one in made.items()}}
    found = {}
    for name, (_, classifier, variables) in networks.items():
        found[name] = {part: engine.predictions(classifier.apply, variables, of) for part, of in images.items()}
    update = run.start("learners", len(run.config.learners), "learners")
    for done, name in enumerate(run.config.learners, 1):
        found[name] = learner_decisions(run, name, images)
        update(done)
    return found


def matrix_rows(
    test: Split, made: Made, decisions: dict[str, dict[str, np.ndarray]], goals: dict[str, int | None]
) -> tuple[list[dict], list[dict]]:
    """The cells of the matrices, and what they are to be seen beside.

    Args:
      test: the images and their labels.
      made: {(attack, source): what it made}.
      decisions: as `all_decisions` gives them.
      goals: {attack: the one class that it aims at, or None}.

    Returns:
      (cells with attack, source, destination; `transfer_rate` with `transfer_rate_ci95` and `num_transferable`, of the images
      that both classify correctly and on which the attack succeeds on the source; `fooled_rate`, `fooled_rate_ci95`,
      `num_both_correct`, of all that both classify correctly;
      rows of attack and source with the attack's own `success_rate`, `success_rate_ci95`, `num_clean_correct`, and of the images
      on which it succeeds the share that fools all networks at once, `every_network_rate` with `every_network_rate_ci95` and
      `num_every_network`, and all networks and learners, `every_destination_rate` and so on; of images that these all classify
      correctly when clean).
    """
    everywhere = {"every_network": [name for name in decisions if name in {source for _, source in made}],
                  "every_destination": list(decisions)}  # fmt: skip
    correct = {name: of[CLEAN] == test.labels for name, of in decisions.items()}
    cells, own = [], []
    for (attack, source), one in made.items():
        wrong = {name: fooled(test.labels, correct[name], of[f"{attack} {source}"]) for name, of in decisions.items()}
        whole = tried(test.labels, correct[source], goals.get(attack))
        row = {"attack": attack, "source": source, **named("success_rate", one.success, whole, "num_clean_correct")}
        for group, names in everywhere.items():
            both = share(
                np.all([wrong[name] for name in names], axis=0),
                one.success & np.all([correct[name] for name in names], axis=0),
            )
            row |= {f"{group}_rate": both["rate"], f"{group}_rate_ci95": both["ci95"], f"num_{group}": both["n"]}
        own.append(row)
        for destination in decisions:
            cell = transfer(one.success, correct[source], correct[destination], wrong[destination])
            wide = share(wrong[destination], correct[source] & correct[destination])
            cells.append({
                "attack": attack, "source": source, "destination": destination, "num_images": len(test.labels),
                "transfer_rate": cell["rate"], "transfer_rate_ci95": cell["ci95"], "num_transferable": cell["n"],
                "fooled_rate": wide["rate"], "fooled_rate_ci95": wide["ci95"], "num_both_correct": wide["n"],
            })  # fmt: skip
    return cells, own


def run_seed(run: Run) -> tuple[dict]:
    """One seed, whose results are all that is shown; every part that is finished is read, not run again."""
    began, config, dataset = time.monotonic(), run.config, run.dataset
    networks = train_networks(run)
    test = test_images(dataset, config.testing.num_images)
    update, made = run.start("attacks", len(config.attacks) * len(networks), "attacks"), {}
    for source, (own, classifier, variables) in networks.items():
        for attack in config.attacks:
            made[attack, source] = attacked(own, attack, classifier, variables, test)
            update(len(made))
    decisions = all_decisions(run, networks, test, made)
    update, destroyed = run.start("transformations", len(made), "sets"), []
    for done, ((attack, source), one) in enumerate(made.items(), 1):
        destroyed += destruction_rows(run, networks, test, attack, source, one.images)
        update(done)
    cells, own = matrix_rows(test, made, decisions, {attack: goal_of(settings) for attack, settings in config.attacks.items()})
    results = {
        "destinations": [
            {"name": name, "kind": "network" if name in networks else "learner",
             "seed": networks[name][0].seed if name in networks else run.seed,
             **named("accuracy", of[CLEAN] == test.labels, np.ones(len(test.labels), bool), "num_images")}
            for name, of in decisions.items()
        ],
        "rows": cells,
        "source_rows": own,
        "destruction_rows": destroyed,
        "sanity": sanity.of_images([network for _, *network in networks.values()], test, [one.images for one in made.values()]),
        **provenance(run, time.monotonic() - began),
    }  # fmt: skip
    return (results,)


def run(config: Any, options: Options) -> list[dict]:
    """Runs the experiment for each seed; options as in `experiments.options`.

    Returns:
      The results of each seed, as its results.json holds them.
    """
    return each_seed(config, options, check, run_seed, write_transfer, print_transfer)
