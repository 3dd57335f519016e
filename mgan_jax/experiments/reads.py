"""What each stage of an experiment reads of the configuration: what has to be the same for its results to be kept."""

from collections.abc import Iterable
from typing import Any

from mgan_jax.experiments.training import Run

WITH_MUTANTS = ("mgan", "advgan_margin", "pgd_mutants")
NOT_READ = ("trained_on", "defenses", "unaware")
"""Of an attack's section: what says where it is used, not what it makes."""
GENERATORS = ("advgan", "mgan", "advgan_margin")


def of_attack(run: Run, name: str) -> dict[str, Any]:
    """Of a trained or crafted attack: the target's, and the sections of the config that describe it.

    Args:
      run: the seed.
      name: as in `config.attacks`.
    """
    config = run.config.to_dict()
    sections = {"advgan_margin": ("advgan", "mgan", "advgan_margin")}.get(name, (name,))
    attacks = {section: {k: v for k, v in config["attacks"][section].items() if k not in NOT_READ} for section in sections}
    if name == "advgan_margin":
        attacks["mgan"]["trained_on"] = config["attacks"]["mgan"]["trained_on"][0]
    shared = ("epsilon", *(("generator", "discriminator") if name in GENERATORS else ()))
    shared += ("mutation", "protocols") if name in WITH_MUTANTS else ()
    return {**run.reads(), **{field: config[field] for field in shared}, "attacks": attacks}


def of_images(run: Run, name: str) -> dict[str, Any]:
    """Of an attack's adversarial images: the attack's, and which images are attacked."""
    return {**of_attack(run, name), "testing": {"num_images": run.config.testing.num_images}}


def of_rows(run: Run, made: Iterable[tuple[str, str | None]], protocols: Iterable[str], *fields: str) -> dict[str, Any]:
    """Of rows about attacks under mutants: all attacks', the protocols and the numbers of images and mutants.

    Args:
      run: the seed.
      made: (attack, trained_on) of each.
      protocols: names of those that the rows are about.
      *fields: further names in `config.testing` that are read.
    """
    config, made = run.config.to_dict(), sorted((name, trained_on or "") for name, trained_on in made)
    read, attacks = {}, {}
    for name in sorted({name for name, _ in made}):
        read |= of_attack(run, name)
        attacks |= read["attacks"]
    fields = ("num_images", "num_mutants", "num_validation_mutants", "num_validation_images", *fields)
    return {
        **run.reads(), **read, "attacks": attacks, "made": [list(key) for key in made], "mutation": config["mutation"],
        "protocols": config["protocols"] if "protocols" in read else {name: config["protocols"][name] for name in protocols},
        "testing": {field: config["testing"][field] for field in fields},
    }  # fmt: skip
