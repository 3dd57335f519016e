"""IDX files, as MNIST, Fashion-MNIST and KMNIST are published."""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np

from mgan_jax.datasets.split import checked, split_dataset
from mgan_jax.types import Dataset, Split

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PREFIXES = {"train": "train", "test": "t10k"}


def find(data_dir: str | Path, split: str, kind: str) -> Path:
    """The file of a split ("train" or "test") and kind ("images" or "labels"), gzipped or not.

    Raises:
      FileNotFoundError: there is none.
    """
    stem = f"{PREFIXES[split]}-{kind}"
    dimensions = {"images": "idx3", "labels": "idx1"}[kind]
    names = [f"{stem}{dot}{dimensions}-ubyte{ending}" for dot in "-." for ending in ("", ".gz")]
    for name in names:
        if (Path(data_dir) / name).is_file():
            return Path(data_dir) / name
    raise FileNotFoundError(f"{data_dir} holds neither {names[0]} nor {names[1]}; pass the folder of the IDX files as --data_dir")


def holds_idx(data_dir: str | Path) -> bool:
    """Whether a folder holds training images as an IDX file."""
    try:
        return find(data_dir, "train", "images").is_file()
    except FileNotFoundError:
        return False


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, whose header gives type and shape; gzipped where the name ends in .gz.

    Raises:
      ValueError: not an IDX file, truncated, or longer than its header says.
    """
    path = Path(path)
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is truncated or no gzip file ({error}); fetch it again") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in DTYPES:
        raise ValueError(f"{path} is no IDX file: it begins with {data[:4].hex() or 'nothing'}; fetch it again")
    dtype, offset = np.dtype(DTYPES[data[2]]), 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:offset]) if len(data) >= offset else (0,)
    expected = offset + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    if len(data) != expected:
        raise ValueError(f"{path} has {len(data)} bytes where its header asks for {expected}; fetch it again")
    return np.frombuffer(data, dtype, offset=offset).reshape(shape).astype(dtype.newbyteorder("="))


def idx(data_dir: str, seed: int = 0, num_validation: int = 10000) -> Dataset:
    """A folder with the four files of a set: train and t10k, images and labels.

    Args:
      data_dir: the folder.
      seed: divides the training files into train and validation; the t10k files are the test set.
      num_validation: validation images.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged, or images and labels do not fit each other.
    """
    arrays = {(s, k): read_idx(find(data_dir, s, k)) for s in PREFIXES for k in ("images", "labels")}
    num_classes = int(arrays["train", "labels"].max()) + 1 if arrays["train", "labels"].size else 0

    def part(split: str) -> Split:
        labels = arrays[split, "labels"].astype(np.int32)
        return checked(arrays[split, "images"], labels, num_classes, str(find(data_dir, split, "images")))

    names = [str(i) for i in range(num_classes)]
    return split_dataset(part("train"), part("test"), num_classes, names, num_validation, seed)
