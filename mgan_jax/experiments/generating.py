"""Generators of the data, which several defenses of an experiment share: trained once, resumed as every training is."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from mgan_jax.attacks.overpowered import overpowered_pairs
from mgan_jax.build import build
from mgan_jax.experiments.attacking import build_model
from mgan_jax.experiments.stages import made_from
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.training import Run, train
from mgan_jax.training import loop
from mgan_jax.training.generative import GenerativeTraining
from mgan_jax.types import Array, Classifier, Dataset, Network, Variables


def networks_of(section: Any, dataset: Dataset) -> dict[str, Network]:
    """The networks of a generator's section, all of the same code size."""
    coded = {"decoder", "encoder"} & set(section.networks)
    return {
        name: build_model({**settings, **({"code_size": section.code_size} if name in coded else {})}, dataset)
        for name, settings in section.networks.items()
    }


def generative_training(section: Any, dataset: Dataset, total_steps: int) -> GenerativeTraining:
    """How the generator of a section of `config.generators` is trained.

    Args:
      section: `method`, a module of `mgan_jax.training`; `networks` and `arguments` of its factory; `code_size`; `epochs`,
        `batch_size`, `chunk_size`.
      dataset: whose shapes models take.
      total_steps: of the training.

    Raises:
      ValueError: as factories do.
    """
    arguments = dict(section.get("arguments", {}))
    if section.method != "vae":
        arguments["code_size"] = section.code_size
    return build("training", section.method, total_steps=total_steps, **networks_of(section, dataset), **arguments)


def facts(config: Any, settings: Any, classifier: Classifier, dataset: Dataset, run: Run | None = None) -> dict[str, Any]:
    """What factories of defenses ask for that look for an image's code; nothing where the section names no generator.

    Args:
      config: the whole configuration.
      settings: of the defense: `generator`, a name in `config.generators`; `search`, arguments of the overpowered attack.
      classifier: the target.
      dataset: whose shapes models take.
      run: the seed, in whose folder generators lie; None: only to see whether all can be built.

    Raises:
      ValueError: there is no such generator, its batch cannot be shared among the critic's steps, the search and the defense
        compare different outputs, or as factories do.
    """
    if "generator" not in settings:
        return {}
    if settings.generator not in config.generators:
        raise ValueError(f"there is no generator {settings.generator!r}; choose from {', '.join(config.generators)}")
    section = config.generators[settings.generator]
    decode = networks_of(section, dataset)["decoder"].apply
    training = generative_training(section, dataset, 1)
    state = jax.eval_shape(lambda: training.init(jax.random.key(0), dataset.image_shape))
    batch = jax.ShapeDtypeStruct((section.batch_size, *dataset.image_shape), np.float32)
    jax.eval_shape(training.train_step, state, jax.random.key(0), 0, batch)
    found = {"decode": decode, "code_size": section.code_size, "train_generator": trained(settings.generator, section, run)}
    compared = {place: settings.get(place, {}).get("outputs", "softmax") for place in ("search", "arguments")}
    if "search" in settings and len(set(compared.values())) > 1:
        raise ValueError(
            f"outputs of search and arguments are {compared['search']} and {compared['arguments']}; choose one for both"
        )
    if "search" in settings:
        found["search"] = overpowered_pairs(classifier.apply, decode, **settings.search)
    return found


def check_shared(config: Any, names: Sequence[str]) -> None:
    """Whether these defenses of `config.defenses` that share a generator would train it on the same images.

    Raises:
      ValueError: two would not.
    """
    first: dict[str, str] = {}
    for name in names:
        settings = config.defenses[name]
        if "generator" in settings:
            other = first.setdefault(settings.generator, name)
            if settings.get("fit_images") != config.defenses[other].get("fit_images"):
                raise ValueError(f"{other} and {name} share the generator {settings.generator}; give both the same fit_images")


def trained(name: str, section: Any, run: Run | None) -> Callable[[Array, Any], Variables]:
    """`train_generator(key, images) -> variables` that is resumed; its keys are the stage's own, the same for every defense."""

    def train_generator(key: Array, images: Any) -> Variables:
        del key
        steps = loop.num_steps(section.epochs, len(images), section.batch_size, section.chunk_size)
        training = generative_training(section, run.dataset, steps)
        fresh = lambda: training.init(stream_key(run.seed, "generator", name), run.dataset.image_shape)  # noqa: E731
        origin = made_from(run, (f"generators.{name}",), {"images": images})
        done = train(run, f"generator_{name}", fresh, training.train_step, section, steps, origin, (images,))
        return training.generator(done.state)

    return train_generator
