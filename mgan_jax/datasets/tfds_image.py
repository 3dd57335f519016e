"""Any image classification set of TensorFlow Datasets, read without TensorFlow."""

from typing import Any

import numpy as np

from mgan_jax.datasets.split import checked, split_dataset, white_of
from mgan_jax.types import Dataset

CHUNK = 4096


def _builder(tfds: Any, name: str, data_dir: str | None) -> Any:
    """The builder of a prepared set; raises as `tfds_image`."""
    try:
        source = tfds.builder(name, data_dir=data_dir, file_format="array_record")
        prepared = source.data_path.exists() and bool(source.info.splits)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise ValueError(f"TFDS knows no data set {name!r}: {str(error).splitlines()[0]}") from None
    except (ImportError, PermissionError):
        raise
    # What TFDS reads it parses as it likes: protobuf, json and its own code each raise errors of their own.
    except Exception as error:
        raise ValueError(_damaged(name, data_dir, error)) from None
    if not prepared:
        try:
            source.download_and_prepare(file_format="array_record")
        except ImportError:
            raise FileNotFoundError(
                f"{name} is not prepared in {source.data_path}, and preparing it needs TensorFlow: "
                "pip install 'mgan_jax[prepare]', or pass the folder of the prepared sets, or of IDX files, as --data_dir"
            ) from None
    return source


def _damaged(name: str, place: Any, error: Exception) -> str:
    text = f"{type(error).__name__}: {' '.join(str(error).split()):.300}"
    return f"the data set {name} in {place or 'the folder of TFDS'} is damaged ({text}); prepare it anew"


def _records(source: Any, builder: str, split: str) -> tuple[np.ndarray, np.ndarray]:
    """All images and labels of a split; raises as `tfds_image`."""
    images, labels = [], []
    try:
        records = source.as_data_source(split=split)
        for start in range(0, len(records), CHUNK):
            for record in records.__getitems__(range(start, min(start + CHUNK, len(records)))):
                images.append(record["image"])
                labels.append(record["label"])
    except (ImportError, PermissionError):
        raise
    # Shards, records and pictures are read by three libraries, with errors of their own for what is missing or damaged.
    except Exception as error:
        raise ValueError(_damaged(builder, source.data_path, error)) from None
    if len(images) == 0:
        raise ValueError(f"{builder}/{split} is empty; expected at least one image")
    if len({image.shape for image in images}) != 1:
        raise ValueError(f"{builder}: its images differ in size; networks here take one size")
    return np.stack(images), np.asarray(labels)


def tfds_image(
    builder: str, data_dir: str | None = None, seed: int = 0, num_validation: int = 10000, white: int | None = None
) -> Dataset:
    """A prepared set through `tfds.data_source`, which needs no TensorFlow; preparing a new one does.

    Args:
      builder: its name, such as "mnist" or "cifar10".
      data_dir: the folder of the prepared sets; None: TFDS's own.
      seed: divides the train split into train and validation.
      num_validation: validation images; the set's own test (or else validation) split is the test set.
      white: as in `datasets.split.white_of`.

    Raises:
      ValueError: unknown name, damaged, no images with classes, no split to test on, or nothing tells what white is.
      FileNotFoundError: the set is not prepared and TensorFlow, which prepares it, is missing.
    """
    import tensorflow_datasets as tfds

    source = _builder(tfds, builder, data_dir)
    features = source.info.features if isinstance(source.info.features, tfds.features.FeaturesDict) else {}
    if "image" not in features or "label" not in features:
        raise ValueError(
            f"{builder} has the features {', '.join(sorted(features)) or 'of no names'}; a classification set has image and label"
        )
    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    for name, kind in kinds.items():
        if not isinstance(features[name], kind):
            wanted = f"a classification set has {name}s of type {kind.__name__}"
            raise ValueError(f"{builder} has {name}s of type {type(features[name]).__name__}; {wanted}")
    num_classes, names = features["label"].num_classes, features["label"].names
    if not num_classes:
        raise ValueError(f"{builder} does not say how many classes there are; prepare it with a ClassLabel of num_classes")
    test_name = next((name for name in ("test", "validation") if name in source.info.splits), None)
    if "train" not in source.info.splits or test_name is None:
        raise ValueError(f"{builder} has the splits {', '.join(source.info.splits)}; needed are train, and test or validation")
    parts = {name: _records(source, builder, name) for name in ("train", test_name)}
    white = white_of([images for images, _ in parts.values()], builder, white)
    train, test = (checked(*part, num_classes, f"{builder}/{name}", white) for name, part in parts.items())
    return split_dataset(train, test, num_classes, names, num_validation, seed)
