"""Any image classification set of TensorFlow Datasets, read without TensorFlow."""

import numpy as np

from mgan_jax.datasets.split import checked, split_dataset
from mgan_jax.types import Dataset, Split

CHUNK = 4096


def tfds_image(builder: str, data_dir: str | None = None, seed: int = 0, num_validation: int = 10000) -> Dataset:
    """A prepared set through `tfds.data_source`, which needs no TensorFlow; preparing a new one does.

    Args:
      builder: its name, such as "mnist" or "cifar10".
      data_dir: the folder of the prepared sets; None: TFDS's own.
      seed: divides the train split into train and validation.
      num_validation: validation images; the set's own test (or else validation) split is the test set.

    Raises:
      ValueError: unknown name, no images with labels, or no split to test on.
      FileNotFoundError: the set is not prepared and TensorFlow, which prepares it, is missing.
    """
    import tensorflow_datasets as tfds

    try:
        source = tfds.builder(builder, data_dir=data_dir, file_format="array_record")
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise ValueError(f"TFDS knows no data set {builder!r}: {str(error).splitlines()[0]}") from None
    if not source.data_path.exists() or not source.info.splits:
        try:
            source.download_and_prepare(file_format="array_record")
        except ImportError:
            raise FileNotFoundError(
                f"{builder} is not prepared in {source.data_path}, and preparing it needs TensorFlow: "
                "pip install 'mgan_jax[prepare]', or pass the folder of the prepared sets as --data_dir"
            ) from None
    features = source.info.features
    if "image" not in features or "label" not in features:
        raise ValueError(f"{builder} has the features {', '.join(features)}; a classification set has image and label")
    test_name = next((name for name in ("test", "validation") if name in source.info.splits), None)
    if "train" not in source.info.splits or test_name is None:
        raise ValueError(f"{builder} has the splits {', '.join(source.info.splits)}; needed are train, and test or validation")

    def part(split: str) -> Split:
        records = source.as_data_source(split=split)
        images, labels = [], []
        for start in range(0, len(records), CHUNK):
            for record in records.__getitems__(range(start, min(start + CHUNK, len(records)))):
                images.append(record["image"])
                labels.append(record["label"])
        if len({image.shape for image in images}) != 1:
            raise ValueError(f"{builder}: its images differ in size; networks here take one size")
        return checked(np.stack(images), np.asarray(labels), features["label"].num_classes, f"{builder}/{split}")

    return split_dataset(
        part("train"), part(test_name), features["label"].num_classes, features["label"].names, num_validation, seed
    )
