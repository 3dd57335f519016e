"""Every loader, every kind of damage: one line that names what it is about, or the values that were written."""

import gzip
import io
import re
import zipfile

import numpy as np
import pytest

from mgan_jax.datasets.idx import idx, read_idx
from mgan_jax.datasets.tfds_image import tfds_image
from mgan_jax.experiments.mutation_testing import read_images

ERRORS = (ValueError, FileNotFoundError)


def flips(data):
    """The bytes with one bit of one byte changed, for every byte."""
    for i in range(len(data)):
        yield bytes([*data[:i], data[i] ^ (1 << i % 8), *data[i + 1 :]])


def cuts(data):
    return (data[:length] for length in range(len(data)))


def refused(read, *words):
    """The error of a call is one of those that end in one line, and its text has these words."""
    with pytest.raises(ERRORS) as caught:
        read()
    assert "\n" not in str(caught.value) or len(str(caught.value).splitlines()) == 1
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def same_or_refused(read, expected, file, damaged):
    """How many of these damages are noticed; all others give what was written."""
    noticed = total = 0
    for data in damaged:
        file.write_bytes(data)
        total += 1
        try:
            found = read()
        except ERRORS as error:
            noticed += 1
            assert len(str(error).splitlines()) == 1 and str(file) in str(error), error
        else:
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_array_equal(one, other)
    return noticed, total


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


IMAGES = np.random.default_rng(0).random((3, 4, 4, 1), np.float32)
LABELS = np.array([0, 2, 1])


@pytest.mark.parametrize("damage", [flips, cuts])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_damaged_npz_file(damage, compressed, tmp_path):
    file, data = tmp_path / "images.npz", npz(images=IMAGES, labels=LABELS)
    if compressed:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, images=IMAGES, labels=LABELS)
        data = buffer.getvalue()
    read = lambda: read_images(str(file), "images", (4, 4, 1), 3)  # noqa: E731
    noticed, total = same_or_refused(read, (IMAGES, LABELS), file, damage(data))
    # Dates and the like in a zip archive carry nothing.
    assert noticed == total if damage is cuts else noticed > total / 2


@pytest.mark.parametrize("damage", [flips, cuts])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_a_damaged_idx_file(damage, ending, tmp_path, write_idx):
    (plain,) = write_idx(tmp_path / "set").glob("train-labels*")
    data, file = plain.read_bytes(), tmp_path / f"labels{ending}"
    data = data if ending == "" else gzip.compress(data, mtime=0)
    expected = read_idx(plain)
    if ending == "" and damage is flips:
        # Without a checksum what changes in the values themselves is another set.
        data = data[:8]
    noticed, total = same_or_refused(lambda: [read_idx(file)], [expected], file, damage(data))
    assert noticed == total if damage is cuts or ending == "" else noticed > total / 2


def test_a_cut_description_of_a_tfds_set(tmp_path, write_tfds):
    place = write_tfds(tmp_path)
    for name in ("dataset_info.json", "features.json"):
        data = (place / name).read_bytes()
        for damaged in [*cuts(data.rstrip())][:: max(1, len(data) // 25)]:
            (place / name).write_bytes(damaged)
            refused(lambda: tfds_image("toy", str(tmp_path), num_validation=5), "toy")
        (place / name).unlink()
        refused(lambda: tfds_image("toy", str(tmp_path), num_validation=5), "toy")
        (place / name).write_bytes(data)
    assert tfds_image("toy", str(tmp_path), num_validation=5).train.images.shape == (15, 6, 5, 1)


def test_a_damaged_or_missing_shard_of_a_tfds_set(tmp_path, write_tfds):
    place = write_tfds(tmp_path)
    for split in ("train", "test"):
        (file,) = place.glob(f"toy-{split}*")
        data = file.read_bytes()
        for damaged in (None, b"", data[: len(data) // 2], data[:-1], data[:1] + b"\xff" * (len(data) - 1)):
            file.unlink()
            if damaged is not None:
                file.write_bytes(damaged)
            refused(lambda: tfds_image("toy", str(tmp_path), num_validation=5), "toy", "is damaged")
            file.write_bytes(data)
    assert tfds_image("toy", str(tmp_path), num_validation=5).test.images.shape == (20, 6, 5, 1)


def image(f):
    return f.Image(shape=(6, 5, 1))


FEATURES = {
    "text": (lambda f: {"image": image(f), "label": f.Text()}, "labels of type Text"),
    "scalar": (lambda f: {"image": image(f), "label": f.Scalar(np.int64)}, "labels of type Scalar"),
    "absent": (lambda f: {"image": image(f), "kind": f.ClassLabel(num_classes=3)}, "the features image, kind;"),
    "image absent": (lambda f: {"picture": image(f), "label": f.ClassLabel(num_classes=3)}, "the features label, picture;"),
    "image tensor": (lambda f: {"image": f.Tensor(shape=(6,), dtype=np.uint8), "label": f.ClassLabel(num_classes=3)}, "Tensor"),
}  # fmt: skip


@pytest.mark.parametrize("name", FEATURES)
def test_a_tfds_set_of_other_features(name, tmp_path, write_tfds):
    features, words = FEATURES[name]
    write_tfds(tmp_path, features)
    refused(lambda: tfds_image("toy", str(tmp_path), num_validation=5), "toy", words)


def test_a_tfds_set_without_a_test_split_or_an_image(tmp_path, write_tfds):
    write_tfds(tmp_path / "one", splits=("train",))
    refused(lambda: tfds_image("toy", str(tmp_path / "one"), num_validation=5), "has the splits train")
    write_tfds(tmp_path / "two", images=np.zeros((0, 6, 5, 1), np.uint8))
    refused(lambda: tfds_image("toy", str(tmp_path / "two"), num_validation=5), "toy")


def encrypted(data):
    """An archive whose flags say that its members are encrypted, in directory and members."""
    data = bytearray(data)
    for mark, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        for found in re.finditer(mark, bytes(data)):
            data[found.start() + place] |= 1
    return bytes(data)


def with_member(data, name, content):
    buffer = io.BytesIO(data)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def header(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


def objects(**more):
    buffer = io.BytesIO()
    np.savez(buffer, **more, notes=np.array([{"a": 1}, None], dtype=object))
    return buffer.getvalue()


NPZ = {
    "encrypted": (lambda: encrypted(npz(images=IMAGES)), "encrypted"),
    "foreign": (lambda: with_member(npz(other=LABELS), "images.txt", b"no array"), "holds other, images.txt"),
    "foreign of the name": (lambda: with_member(npz(other=LABELS), "images", b"no array"), "a member is no array"),
    "huge": (lambda: with_member(npz(other=LABELS), "images.npy", header((10**6, 10**6, 28, 1)) + b"1234"), "no NPZ file"),
    "longest header": (lambda: with_member(npz(other=LABELS), "images.npy", header((1,) * 60) + b"1234"), "images"),
    "objects alone": (objects, "holds notes; name the images"),
    "object images": (lambda: npz(images=np.array([{}, None], dtype=object)), "Object arrays cannot be loaded"),
    "a member cut off": (lambda: with_member(npz(images=IMAGES), "labels.npy", b""), "no NPZ file"),
    "text labels": (lambda: npz(images=IMAGES, labels=np.array(["a", "b", "c"])), "labels are of type <U1"),
    "float labels": (lambda: npz(images=IMAGES, labels=np.array([0.0, 1.0, 2.0])), "labels are of type float64"),
    "text images": (lambda: npz(images=np.full((3, 4, 4, 1), "a")), "images are <U1"),
    "one image": (lambda: npz(images=IMAGES[0]), "target was made for (4, 4, 1)"),
    "no images": (lambda: npz(images=IMAGES[:0]), "0 images"),
    "no pixels": (lambda: npz(images=IMAGES[:, :0]), "without a pixel"),
    "rank 5": (lambda: npz(images=IMAGES[None]), "[N, H, W, C] is expected"),
    "rank 0": (lambda: npz(images=np.float32(1)), "[N, H, W, C] is expected"),
    "few levels": (lambda: npz(images=(IMAGES > 0.5).astype(np.uint8)), "none above 1, so white may be"),
    "0 to 16": (lambda: npz(images=(16 * IMAGES).round().astype(np.uint8)), "none above 16, so white may be"),
    "0 to 255 floats": (lambda: npz(images=255 * IMAGES), "scale them to [0, 1]"),
    "int64": (lambda: npz(images=(255 * IMAGES).astype(int)), "int64"),
    "not a zip": (lambda: b"images", "no NPZ file"),
    "an array": (lambda: header((3, 4, 4, 1)) + IMAGES.tobytes(), "no NPZ file"),
    "channels first": (lambda: npz(images=IMAGES.transpose(0, 3, 1, 2)), "transpose(0, 2, 3, 1)"),
}  # fmt: skip


@pytest.mark.parametrize("name", NPZ)
def test_an_npz_file_of_something_else(name, tmp_path):
    make, words = NPZ[name]
    file = tmp_path / "images.npz"
    file.write_bytes(make())
    refused(lambda: read_images(str(file), "images", (4, 4, 1), 3), str(file), words)


def test_an_npz_file_with_an_array_of_objects_that_nobody_asked_for(tmp_path, monkeypatch):
    (tmp_path / "images.npz").write_bytes(with_member(objects(images=IMAGES, labels=LABELS), "readme.txt", b"notes"))
    monkeypatch.setenv("HOME", str(tmp_path))
    for path in (str(tmp_path / "images.npz"), "~/images.npz"):
        images, labels = read_images(path, "images", (4, 4, 1), 3)
        np.testing.assert_array_equal(images, IMAGES)
        np.testing.assert_array_equal(labels, LABELS)


def test_idx_labels_that_are_no_integers(tmp_path, write_idx):
    for dtype in ("float32", "float64"):
        folder = write_idx(tmp_path / dtype, label_dtype=dtype, train_labels=np.arange(30) % 3 + 0.7)
        refused(lambda folder=folder: idx(str(folder), num_validation=5), "train-labels-idx1-ubyte", dtype)
    for dtype in ("int8", "int16", "int32"):
        folder = write_idx(tmp_path / dtype, label_dtype=dtype)
        np.testing.assert_array_equal(idx(str(folder), num_validation=5).test.labels, np.arange(12) % 3)
