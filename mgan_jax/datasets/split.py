"""Checking of examples, and their seeded split into train, validation and test."""

from collections.abc import Sequence

import numpy as np

from mgan_jax import inputs
from mgan_jax.types import Dataset, Split


def white_of(arrays: Sequence[np.ndarray], source: str, white: int | None = None) -> int | None:
    """By what the images of a whole set are divided: the value of white; None where they are floats, in [0, 1] already.

    Args:
      arrays: all images there are, of all splits.
      source: what an error calls them.
      white: what somebody says it is; None: 255 for uint8, if any value exceeds 127.

    Raises:
      ValueError: uint8 of so few levels, or other integers, and nobody says what white is; a white below 1; integers of several
        types, or beside floats.
    """
    remedy = "divide them by it, or say it as the white of an IDX or TFDS set (--config.dataset.white=16)"
    if white is not None and not white >= 1:
        raise ValueError(f"{source}: white is {white}; choose the value that white has in these images, at least 1")
    kinds = sorted({array.dtype.newbyteorder("=").name for array in arrays})
    if len(kinds) > 1 and not all(np.issubdtype(array.dtype, np.floating) for array in arrays):
        raise ValueError(f"{source}: images are of the types {', '.join(kinds)}; choose one, so that white is the same in all")
    if white is None and arrays and arrays[0].dtype == np.uint8:
        inputs.check_levels(max(int(array.max(initial=0)) for array in arrays), f"{source}: images", remedy)
        return 255
    if white is None and arrays and np.issubdtype(arrays[0].dtype, np.integer):
        raise ValueError(f"{source}: images are {arrays[0].dtype}, which does not tell what white is; {remedy}")
    return white


def checked(images: np.ndarray, labels: np.ndarray, num_classes: int, source: str, white: int | None = None) -> Split:
    """Images as float32 in [0, 1], labels as int32 in [0, num_classes).

    Args:
      images: [N, H, W] or [N, H, W, C], floats in [0, 1] or integers.
      labels: [N].
      num_classes: the classes there are.
      source: what an error calls these examples.
      white: as `white_of` gives it for the whole set; None: these images are the whole set.

    Raises:
      ValueError: none, unequal numbers, wrong shapes, values that are not finite or outside their bounds; as `white_of`.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or labels.ndim != 1:
        raise ValueError(f"{source}: images {images.shape} and labels {labels.shape}; expected [N, H, W, C] and [N]")
    if len(images) != len(labels) or len(images) == 0:
        raise ValueError(f"{source}: {len(images)} images and {len(labels)} labels; expected equal numbers, at least one")
    if images.size == 0:
        raise ValueError(f"{source}: images are {images.shape}, without a pixel; expected [N, H, W, C]")
    if not (np.issubdtype(images.dtype, np.floating) or np.issubdtype(images.dtype, np.integer)):
        raise ValueError(f"{source}: images are {images.dtype}; expected uint8, or floats in [0, 1]")
    white = white_of([images], source) if white is None else white
    if white is not None:
        images = images / np.float32(white)
    if not (np.isfinite(images).all() and images.min() >= 0 and images.max() <= 1):
        raise ValueError(f"{source}: images reach from {images.min():.9g} to {images.max():.9g}; scale them to [0, 1]")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"{source}: labels are of type {labels.dtype}; expected integers from 0 to {num_classes - 1}")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise ValueError(
            f"{source}: labels reach from {labels.min()} to {labels.max()}; expected integers from 0 to {num_classes - 1}"
        )
    return Split(images.astype(np.float32), labels.astype(np.int32))


def split_dataset(
    examples: Split, test: Split, num_classes: int, class_names: Sequence[str], num_validation: int, seed: int
) -> Dataset:
    """A `Dataset` whose validation examples are drawn from `examples` by a seed; the test set is what is given.

    Raises:
      ValueError: as many validation examples as there are, or fewer than one; test images of another shape.
    """
    if examples.images.shape[1:] != test.images.shape[1:]:
        raise ValueError(
            f"training images are {examples.images.shape[1:]} and test images {test.images.shape[1:]}; "
            "networks here take one size"
        )
    total = len(examples.labels)
    if not 1 <= num_validation < total:
        raise ValueError(f"num_validation is {num_validation}; choose it between 1 and {total - 1}")
    order = np.random.default_rng(seed).permutation(total)
    take = lambda rows: Split(examples.images[rows], examples.labels[rows])  # noqa: E731
    return Dataset(
        train=take(order[num_validation:]),
        validation=take(order[:num_validation]),
        test=test,
        num_classes=num_classes,
        image_shape=examples.images.shape[1:],
        class_names=tuple(class_names),
    )


def classes_of(dataset: Dataset) -> np.ndarray:
    """The classes of a data set, [K] and sorted: those of its training labels. EMNIST's letters are 1 to 26 of 27."""
    return np.unique(dataset.train.labels)


def class_balanced(labels: np.ndarray, num_images: int, seed: int, classes: np.ndarray) -> np.ndarray:
    """Sorted indices [num_images] with as many examples of each class, give or take one.

    Args:
      labels: [N].
      num_images: in all.
      seed: of the choice.
      classes: [K], those there are, as of `classes_of`, whether or not an example of each is left.

    Raises:
      ValueError: a class has too few examples, or num_images < 1.
    """
    if num_images < 1:
        raise ValueError(f"num_images is {num_images}; choose at least 1")
    rng = np.random.default_rng(seed)
    chosen = []
    for place, label in enumerate(classes):
        wanted = num_images // len(classes) + (place < num_images % len(classes))
        rows = np.flatnonzero(labels == label)
        if wanted > len(rows):
            raise ValueError(
                f"{num_images} class-balanced images need {wanted} of class {label}, and there are {len(rows)}; choose fewer"
            )
        chosen.append(rng.permutation(rows)[:wanted])
    return np.sort(np.concatenate(chosen))
