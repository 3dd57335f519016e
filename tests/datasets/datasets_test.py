"""Data sets: splits, balance, and every error a file can cause."""

import gzip
import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mgan_jax.datasets.digits import digits
from mgan_jax.datasets.idx import holds_idx, idx, read_idx
from mgan_jax.datasets.split import checked, class_balanced

DATA = Path(os.environ.get("MGAN_JAX_DATA_DIR", "/nonexistent"))


def idx_bytes(array):
    array = np.asarray(array, np.uint8)
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for prefix, count in (("train", 30), ("t10k", 12)):
        images, labels = rng.integers(0, 256, (count, 6, 5)), np.arange(count) % 3
        with gzip.open(tmp_path / f"{prefix}-images-idx3-ubyte.gz", "wb") as file:
            file.write(idx_bytes(images))
        (tmp_path / f"{prefix}-labels.idx1-ubyte").write_bytes(idx_bytes(labels))
    return tmp_path


def rows(split):
    return {image.tobytes() for image in split.images}


def test_digits_splits_are_disjoint_seeded_and_share_the_test_set():
    a, again, b = digits(0), digits(0), digits(1)
    assert [len(split.labels) for split in a[:3]] == [1000, 350, 447]
    np.testing.assert_array_equal(a.train.images, again.train.images)
    np.testing.assert_array_equal(a.test.images, b.test.images)
    assert (a.train.images != b.train.images).any()
    assert a.image_shape == (8, 8, 1) and a.train.images.dtype == np.float32 and a.train.labels.dtype == np.int32
    assert not rows(a.train) & rows(a.test) and not rows(a.train) & rows(a.validation)


def test_idx_reads_gzipped_and_plain_files(folder):
    data = idx(folder, seed=0, num_validation=10)
    assert holds_idx(folder) and not holds_idx(folder / "none")
    assert data.train.images.shape == (20, 6, 5, 1) and data.test.images.shape == (12, 6, 5, 1)
    assert data.num_classes == 3
    assert 0 <= data.train.images.min() and data.train.images.max() <= 1
    assert not rows(data.train) & rows(data.validation)


def test_a_missing_file_is_named(folder):
    (folder / "t10k-labels.idx1-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-labels"):
        idx(folder, num_validation=10)


@pytest.mark.parametrize("cut", [0, 3, 10, 40])
def test_a_truncated_file_is_named(folder, cut):
    path = folder / "train-labels.idx1-ubyte"
    path.write_bytes(path.read_bytes()[:cut] if cut < 40 else path.read_bytes() + b"x")
    with pytest.raises(ValueError, match="train-labels"):
        idx(folder, num_validation=10)


def test_a_truncated_gzip_file_and_another_format_are_named(folder):
    path = folder / "train-images-idx3-ubyte.gz"
    data = path.read_bytes()
    for damaged in (data[: len(data) // 2], b"PK\x03\x04 something else", data[:40] + b"\xff\xff" + data[42:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="train-images"):
            read_idx(path)


def test_unequal_numbers_are_refused(folder):
    (folder / "train-labels.idx1-ubyte").write_bytes(idx_bytes(np.arange(29) % 3))
    with pytest.raises(ValueError, match="30 images and 29 labels"):
        idx(folder, num_validation=10)


def test_images_of_two_types_are_refused(folder):
    """Or white would be 255 for floats too."""
    floats = np.random.default_rng(1).random((12, 6, 5)).astype(">f4")
    (folder / "t10k-images-idx3-ubyte.gz").unlink()
    (folder / "t10k-images-idx3-ubyte").write_bytes(bytes([0, 0, 13, 3]) + struct.pack(">3I", 12, 6, 5) + floats.tobytes())
    with pytest.raises(ValueError, match="of the types float32, uint8; choose one"):
        idx(str(folder), num_validation=5)


@pytest.mark.parametrize("num_validation", [0, 30])
def test_validation_must_leave_something_to_train_on(folder, num_validation):
    with pytest.raises(ValueError, match=str(num_validation)):
        idx(folder, num_validation=num_validation)


@pytest.mark.parametrize("bad", [-0.01, 1.5, float("nan"), float("inf")])
def test_pixels_outside_their_bounds_are_refused(bad):
    images = np.zeros((2, 4, 4, 1), np.float32)
    images[0, 0, 0, 0] = bad
    with pytest.raises(ValueError, match=r"scale them to \[0, 1\]"):
        checked(images, np.array([0, 1]), 2, "these")


@pytest.mark.parametrize("labels", [[0, 2], [-1, 0], [0.5, 1.0]])
def test_labels_outside_the_classes_are_refused(labels):
    with pytest.raises(ValueError, match="from 0 to 1"):
        checked(np.zeros((2, 4, 4, 1), np.float32), np.array(labels), 2, "these")


def test_class_balanced_indices():
    labels = np.array([0] * 50 + [1] * 30 + [2] * 20)
    chosen = class_balanced(labels, 32, 0, np.arange(3))
    assert len(set(chosen)) == 32 and sorted(np.bincount(labels[chosen])) == [10, 11, 11]
    with pytest.raises(ValueError, match="choose fewer"):
        class_balanced(labels, 90, 0, np.arange(3))


@pytest.mark.skipif(not (DATA / "mnist").is_dir(), reason="MGAN_JAX_DATA_DIR names no folder with mnist/")
def test_mnist_from_idx_files():
    data = idx(DATA / "mnist")
    assert [len(split.labels) for split in data[:3]] == [50000, 10000, 10000]
    assert data.image_shape == (28, 28, 1) and data.num_classes == 10


@pytest.mark.skipif(not (DATA / "tfds").is_dir(), reason="MGAN_JAX_DATA_DIR names no folder with tfds/")
def test_mnist_from_tfds_needs_no_tensorflow_and_holds_the_same_images():
    code = (
        "import sys\n"
        "from mgan_jax.datasets.idx import idx\n"
        "from mgan_jax.datasets.tfds_image import tfds_image\n"
        "a, b = tfds_image('mnist', sys.argv[1] + '/tfds'), idx(sys.argv[1] + '/mnist')\n"
        "assert 'tensorflow' not in sys.modules\n"
        "assert sorted(x.tobytes() for x in a.test.images) == sorted(x.tobytes() for x in b.test.images)\n"
        "assert len(a.train.labels) == 50000 and a.class_names == b.class_names\n"
    )
    subprocess.run([sys.executable, "-c", code, str(DATA)], check=True, capture_output=True)


def test_tfds_says_what_is_missing(tmp_path):
    from mgan_jax.datasets.tfds_image import tfds_image

    with pytest.raises(ValueError, match="no data set 'mnsit'"):
        tfds_image("mnsit", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"mgan_jax\[prepare\]"):
        tfds_image("mnist", str(tmp_path))
