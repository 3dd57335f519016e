"""The data of an experiment: what the config names, read from where the command line says."""

from pathlib import Path
from typing import Any

import numpy as np

from mgan_jax import checkpoint, devices
from mgan_jax.build import build, factory
from mgan_jax.datasets.idx import holds_idx
from mgan_jax.datasets.split import class_balanced, classes_of
from mgan_jax.experiments.stages import Run
from mgan_jax.types import Dataset, Split


def load_data(config: Any, data_dir: str | None, seed: int) -> Dataset:
    """The data set of `config`: `name` and the factory's arguments; an IDX folder replaces TFDS, what lies there decides.

    Raises:
      FileNotFoundError: the folder is missing, or holds no such data.
      ValueError: unknown name, a name that other arguments of the section do not fit, or damaged data.
    """
    arguments = {key: value for key, value in config.items() if key != "name" and value is not None}
    name = config.name
    if data_dir is not None and not Path(data_dir).is_dir():
        raise FileNotFoundError(f"there is no folder {data_dir}; pass that of the data as --data_dir")
    if name == "tfds_image" and data_dir is not None and "builder" in arguments and holds_idx(data_dir, arguments["builder"]):
        name = "idx"
        arguments["set_name"] = arguments.pop("builder")
    elif name != "tfds_image" and "builder" in arguments:
        factory("datasets", name)
        instead = (
            "leave --config.dataset.name out and pass the folder of the IDX files as --data_dir: what lies there decides"
            if name == "idx"
            else "choose a variant made for it, such as --config=configs/mgan.py:digits"
        )
        raise ValueError(f"the data set {name} has no builder, and the variant names {arguments['builder']!r}; {instead}")
    elif name == "tfds_image" and "builder" not in arguments:
        raise ValueError(
            "the data set tfds_image needs the name of its builder, which this variant has no place for; choose one that has, "
            "such as --config=configs/mgan.py:mnist --config.dataset.builder=NAME"
        )
    if name == "idx" and data_dir is None:
        raise FileNotFoundError("the data set idx is read from a folder; pass it as --data_dir")
    if name in ("idx", "tfds_image"):
        arguments["data_dir"] = data_dir
    return build("datasets", name, seed=seed, **arguments)


def tested_on(dataset: Dataset, split: str) -> Dataset:
    """The data whose images of this split are tested: "test", or "validation", by which choices are made.

    With "validation" the second half of the validation images stands for the test images, which nobody sees then; the first half
    goes on to judge mutants.

    Raises:
      ValueError: another split, or fewer than two validation images.
    """
    if split == "test":
        return dataset
    number = len(dataset.validation.labels)
    if split != "validation" or number < 2:
        raise ValueError(f"config.testing.split is {split!r}, of {number} validation images; choose test or validation")
    judging, tested = (
        Split(*(array[part] for array in dataset.validation)) for part in (slice(number // 2), slice(number // 2, None))
    )
    return dataset._replace(validation=judging, test=tested)


def data_digest(dataset: Dataset) -> str:
    """First digits of the SHA-256 over all images and labels, by which a run knows its data wherever they lie.

    Raises:
      ValueError: another process has other data.
    """
    digest = checkpoint.digest([dataset.train, dataset.validation, dataset.test])[:16]
    devices.same(digest.encode(), "the data")
    return digest


def test_images(dataset: Dataset, num_images: int | None) -> Split:
    """All test images, or so many class-balanced ones, the same for every seed of a run."""
    if num_images is None or num_images >= len(dataset.test.labels):
        return dataset.test
    rows = class_balanced(dataset.test.labels, num_images, 0, classes_of(dataset))
    return Split(np.asarray(dataset.test.images[rows]), np.asarray(dataset.test.labels[rows]))


def validation_images(run: Run) -> Split:
    """The first `config.testing.num_validation_images` validation images, on which mutants are judged."""
    return Split(*(array[: run.config.testing.num_validation_images] for array in run.dataset.validation))


def correct_images(split: Split, decisions: np.ndarray, num_images: int, classes: np.ndarray) -> Split:
    """So many class-balanced images that the target classifies correctly: the one set on which attacks are compared.

    Args:
      split: test images.
      decisions: [N] the target's labels on them.
      num_images: in all; the same ones for the same target.
      classes: [K] those of the data set, of each of which there are as many.

    Raises:
      ValueError: a class has too few.
    """
    correct = np.flatnonzero(decisions == split.labels)
    try:
        rows = correct[class_balanced(split.labels[correct], num_images, 0, classes)]
    except ValueError as error:
        raise ValueError(
            f"of {len(correct)} test images that the target classifies correctly: {error}, or another target"
        ) from None
    return Split(np.asarray(split.images[rows]), np.asarray(split.labels[rows]))
