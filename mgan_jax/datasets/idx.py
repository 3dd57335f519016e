"""IDX files, as MNIST, Fashion-MNIST, KMNIST and EMNIST are published."""

import gzip
import math
import re
import struct
import zlib
from pathlib import Path

import numpy as np

from mgan_jax.datasets.split import checked, split_dataset, white_of
from mgan_jax.types import Dataset

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
PARTS = {
    ("train", "images"): "train-images-idx3-ubyte",
    ("train", "labels"): "train-labels-idx1-ubyte",
    ("test", "images"): "t10k-images-idx3-ubyte",
    ("test", "labels"): "t10k-labels-idx1-ubyte",
}
NAME = re.compile(r"(?:(.+)-)?(train|t10k|test)-(images|labels)[-.]idx\d-ubyte(\.gz)?", re.IGNORECASE)
ALIKE = re.compile(r"idx\d|ubyte", re.IGNORECASE)
SHOWN = 8
LAYOUTS = ("raw", "gzip", "*/raw", "*/gzip")
"""Where in a folder sets are looked for: torchvision keeps them in MNIST/raw, EMNIST's archive in gzip."""


def _alike(folder: Path) -> list[str]:
    """Names of the files in a folder that look like IDX files."""
    return sorted(path.name for path in folder.iterdir() if ALIKE.search(path.name)) if folder.is_dir() else []


def folder_of(data_dir: str | Path, name: str | None = None) -> Path | None:
    """The folder of IDX files: `data_dir`, or one that common layouts have in it; None where there is none.

    Args:
      data_dir: the folder to look in.
      name: of the set, such as "fashion_mnist", which chooses among several (FashionMNIST/raw), and without which a folder in
        `data_dir` named after another set is not taken; None: any.

    Raises:
      ValueError: several, and nothing tells which.
    """
    top, plain = Path(data_dir).expanduser(), lambda text: re.sub(r"[^a-z0-9]", "", text.lower())
    if _alike(top):
        return top
    found = [folder for layout in LAYOUTS for folder in sorted(top.glob(layout)) if _alike(folder)]
    if name is not None:
        found = [folder for folder in found if folder.parent == top or plain(folder.parent.name) == plain(name)]
    if len(found) > 1:
        raise ValueError(f"{', '.join(map(str, found))} hold IDX files; pass one of these folders as --data_dir")
    return found[0] if found else None


def find(data_dir: str | Path, name: str | None = None) -> dict[tuple[str, str], Path]:
    """{(split, kind): the file} of a set, gzipped or not, for the splits train and test, the kinds images and labels.

    Args:
      data_dir, name: as in `folder_of`.

    Raises:
      FileNotFoundError: one is missing; the message names what is expected and what is there.
      ValueError: the files of several sets, such as emnist-letters and emnist-digits.
    """
    folder = folder_of(data_dir, name) or Path(data_dir).expanduser()
    there = _alike(folder)
    sets: dict[str, dict[tuple[str, str], Path]] = {}
    # A file that is there gzipped too is read as it is.
    for match in sorted(filter(None, map(NAME.fullmatch, there)), key=lambda match: bool(match[4])):
        split = "train" if match[2].lower() == "train" else "test"
        sets.setdefault((match[1] or "").lower(), {}).setdefault((split, match[3].lower()), folder / match[0])
    whole = [files for files in sets.values() if len(files) == len(PARTS)]
    if len(whole) > 1:
        raise ValueError(
            f"{folder} holds several sets, {', '.join(sorted(prefix or 'one without a name' for prefix in sets))}; pass a folder "
            "with the files of one as --data_dir"
        )
    if not whole:
        shown = ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN} more" if len(there) > SHOWN else "")
        raise FileNotFoundError(
            f"{folder} holds no whole set of IDX files: expected {', '.join(PARTS.values())}, each perhaps gzipped (.gz) and "
            f"behind the name of the set (emnist-letters-train-...); found {shown or 'none of them'}"
        )
    return whole[0]


def holds_idx(data_dir: str | Path, name: str | None = None) -> bool:
    """Whether a folder holds IDX files, a whole set or not; arguments and errors as of `folder_of`."""
    return folder_of(data_dir, name) is not None


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file, whose header gives type and shape; gzipped where the name ends in .gz.

    Raises:
      ValueError: not an IDX file, truncated, or longer than its header says.
    """
    path = Path(path)
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix.lower() == ".gz" else path.read_bytes()
    except (EOFError, zlib.error, gzip.BadGzipFile, struct.error) as error:
        raise ValueError(f"{path} is truncated or no gzip file ({error}); fetch it again") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in DTYPES:
        raise ValueError(f"{path} is no IDX file: it begins with {data[:4].hex() or 'nothing'}; fetch it again")
    dtype, offset = np.dtype(DTYPES[data[2]]), 4 + 4 * data[3]
    shape = struct.unpack(f">{data[3]}I", data[4:offset]) if len(data) >= offset else (0,)
    expected = offset + math.prod(shape) * dtype.itemsize
    if len(data) != expected or data[3] not in (1, 2, 3, 4):
        raise ValueError(
            f"{path} has {len(data)} bytes where its header, of {data[3]} dimensions, asks for {expected}; fetch it again"
        )
    return np.frombuffer(data, dtype, math.prod(shape), offset).reshape(shape).astype(dtype.newbyteorder("="))


def idx(
    data_dir: str, seed: int = 0, num_validation: int = 10000, white: int | None = None, set_name: str | None = None
) -> Dataset:
    """A folder with the four files of a set, train and t10k (or test), images and labels, as they lie there.

    Args:
      data_dir: the folder, or one that has it as `MNIST/raw`, `raw` or `gzip`.
      seed: divides the training files into train and validation; the t10k files are the test set.
      num_validation: validation images.
      white: as in `datasets.split.white_of`, of both files of images.
      set_name: of the set, where the folder holds several, such as torchvision's.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged, files do not fit each other, labels are no integers, or nothing tells what white is.
    """
    files = find(data_dir, set_name)
    arrays = {part: read_idx(path) for part, path in files.items()}
    for split in ("train", "test"):
        labels = arrays[split, "labels"]
        if not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"{files[split, 'labels']} holds labels of type {labels.dtype}; choose a file of integers")
    num_classes = int(arrays["train", "labels"].max()) + 1 if arrays["train", "labels"].size else 0
    white = white_of([arrays[split, "images"] for split in ("train", "test")], str(files["train", "images"].parent), white)
    train, test = (
        checked(arrays[split, "images"], arrays[split, "labels"], num_classes, str(files[split, "images"]), white)
        for split in ("train", "test")
    )
    return split_dataset(train, test, num_classes, [str(i) for i in range(num_classes)], num_validation, seed)
