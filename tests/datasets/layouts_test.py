"""Where sets lie and what they are called: common layouts are found, of others the names expected and found are said."""

import gzip

import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax.datasets.idx import PARTS, holds_idx, idx
from mgan_jax.datasets.split import classes_of, white_of
from mgan_jax.datasets.tfds_image import tfds_image
from mgan_jax.experiments import data
from mgan_jax.experiments.data import correct_images, load_data
from mgan_jax.experiments.defenses import subset

TFDS = {"name": "tfds_image", "builder": "toy", "num_validation": 5, "white": None}


def load(folder, **section):
    """The data set that a configuration with these fields reads from a folder."""
    return load_data(ConfigDict({**TFDS, **section}), None if folder is None else str(folder), 0)


LAYOUTS = {
    "plain": ("", {}),
    "raw": ("raw", {}),
    "torchvision": ("Toy/raw", {}),
    "torchvision, folder of the set": ("Toy/../raw", {}),
    "emnist": ("gzip", {"prefix": "emnist-letters-", "test": "test"}),
    "kuzushiji": ("", {"prefix": "kmnist-"}),
    "upper case": ("", {"change": str.upper}),
    "dots": ("", {"change": lambda name: name.replace("-idx", ".idx")}),
}  # fmt: skip


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("name", LAYOUTS)
def test_common_layouts_are_found(name, zipped, tmp_path, write_idx):
    below, how = LAYOUTS[name]
    (tmp_path / "Toy").mkdir()
    place = write_idx(tmp_path / below, **how)
    if zipped:
        for path in list(place.iterdir()):
            if path.is_file():
                (place / f"{path.name}{'.GZ' if 'upper' in name else '.gz'}").write_bytes(gzip.compress(path.read_bytes()))
                path.unlink()
    expected = idx(str(write_idx(tmp_path / "expected" / "plain")), num_validation=5)
    for found in (load(tmp_path), idx(str(tmp_path), num_validation=5)):
        np.testing.assert_array_equal(found.train.images, expected.train.images)
        np.testing.assert_array_equal(found.test.labels, expected.test.labels)


@pytest.mark.parametrize("missing", PARTS.values())
@pytest.mark.parametrize("prefix", ["", "emnist-digits-"])
def test_three_of_four_files_are_named_with_those_expected(missing, prefix, tmp_path, write_idx):
    (write_idx(tmp_path, prefix) / f"{prefix}{missing}").unlink()
    for read in (load, lambda folder: idx(str(folder), num_validation=5)):
        with pytest.raises(FileNotFoundError, match="expected train-images-idx3-ubyte, ") as caught:
            read(tmp_path)
        expected, found = str(caught.value).split("; found ")
        assert missing in expected and "\n" not in expected
        assert found.split(", ") == sorted(f"{prefix}{name}" for name in PARTS.values() if name != missing)


def test_names_that_nobody_knows_are_shown(tmp_path):
    for i in range(12):
        (tmp_path / f"images{i:02}.idx3").write_text("")
    with pytest.raises(FileNotFoundError, match=r"found images00.idx3, .*images07.idx3 and 4 more"):
        load(tmp_path)


def test_several_sets_are_told_apart_by_name_or_refused(tmp_path, write_idx):
    write_idx(tmp_path / "one", "emnist-letters-")
    write_idx(tmp_path / "one", "emnist-digits-")
    with pytest.raises(ValueError, match="holds several sets, emnist-digits, emnist-letters"):
        load(tmp_path / "one")
    for folder in ("MNIST", "FashionMNIST"):
        write_idx(tmp_path / "two" / folder / "raw", train_labels=np.arange(30) % (3 if folder == "MNIST" else 5))
    with pytest.raises(ValueError, match=r"FashionMNIST/raw, .*MNIST/raw hold IDX files"):
        idx(str(tmp_path / "two"), num_validation=5)
    assert load(tmp_path / "two", builder="fashion_mnist").num_classes == 5
    assert load(tmp_path / "two", builder="mnist").num_classes == 3
    assert not holds_idx(tmp_path / "two", "kmnist")


def test_idx_files_go_before_a_tfds_set_and_a_tfds_set_before_folders_of_another_name(tmp_path, write_idx, write_tfds):
    write_tfds(tmp_path)
    write_idx(tmp_path / "MNIST" / "raw")
    assert len(load(tmp_path).test.labels) == 20
    write_idx(tmp_path)
    assert len(load(tmp_path).test.labels) == 12


def test_a_name_that_does_not_fit_the_variant_says_what_to_write(tmp_path, write_idx):
    write_idx(tmp_path)
    for folder in (tmp_path, None):
        with pytest.raises(ValueError, match=r"leave --config.dataset.name out and pass .* as --data_dir"):
            load(folder, name="idx")
    with pytest.raises(ValueError, match=r"choose a variant made for it, such as .*mgan.py:digits"):
        load(None, name="digits")
    with pytest.raises(ValueError, match="did you mean 'digits'"):
        load(None, name="digitz")
    section = ConfigDict({"name": "tfds_image", "num_validation": 5})
    with pytest.raises(ValueError, match=r"such as .*mgan.py:mnist --config.dataset.builder=NAME"):
        load_data(section, None, 0)
    section.name = "idx"
    assert load_data(section, str(tmp_path), 0).num_classes == 3
    with pytest.raises(FileNotFoundError, match="pass it as --data_dir"):
        load_data(section, None, 0)


def pictures(count, largest):
    images = np.random.default_rng(1).integers(0, largest, (count, 6, 5, 1), np.uint8, endpoint=True)
    images[0, 0, 0] = largest
    return images


LOADERS = ("idx", "tfds")


@pytest.fixture
def read(tmp_path, write_idx, write_tfds):
    """`read(loader, images, **arguments)`: a set of these images, uint8 [20, 6, 5, 1], for training and testing."""

    def read(loader, images, test=None, **arguments):
        folder = tmp_path / f"{loader}{len(list(tmp_path.iterdir()))}"
        if loader == "tfds":
            write_tfds(folder, images=images)
            return tfds_image("toy", str(folder), num_validation=5, **arguments)
        more = {"train_images": images[..., 0], "train_labels": np.arange(len(images)) % 3}
        test = images if test is None else test
        write_idx(folder, **more, test_images=test[..., 0], test_labels=np.arange(len(test)) % 3)
        return idx(str(folder), num_validation=5, **arguments)

    return read


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("largest", [0, 1, 16, 127])
def test_bytes_of_few_levels_are_refused_until_somebody_says_what_white_is(loader, largest, read):
    images = pictures(20, largest)
    with pytest.raises(ValueError, match=rf"none above {largest}, so white may be .*--config.dataset.white"):
        read(loader, images)
    white = max(largest, 1)
    found = read(loader, images, white=white)
    assert found.test.images.dtype == np.float32 and found.test.images.max() == largest / white
    np.testing.assert_allclose(found.test.images, images / white, rtol=1e-6)


@pytest.mark.parametrize("loader", LOADERS)
def test_bytes_of_many_levels_are_divided_by_255(loader, read):
    for largest in (128, 255):
        images = pictures(20, largest)
        np.testing.assert_array_equal(read(loader, images).test.images, images / np.float32(255))
    with pytest.raises(ValueError, match="choose the value that white has"):
        read(loader, images, white=0)
    with pytest.raises(ValueError, match=r"scale them to \[0, 1\]"):
        read(loader, images, white=16)


def test_the_largest_value_is_that_of_the_whole_set(read):
    light, dark = pictures(20, 255), pictures(20, 100)
    np.testing.assert_array_equal(read("idx", light, dark).test.images, dark / np.float32(255))
    np.testing.assert_array_equal(read("idx", dark, light).test.images, light / np.float32(255))


def test_other_numbers_say_nothing_of_white():
    for dtype in (np.int8, np.int32, np.uint16):
        with pytest.raises(ValueError, match="does not tell what white is"):
            white_of([np.full((2, 4, 4), 100, dtype)], "these")
        assert white_of([np.full((2, 4, 4), 100, dtype)], "these", 100) == 100
    assert white_of([np.ones((2, 4, 4), np.float32)], "these") is None


def test_training_and_test_images_of_two_sizes_are_refused_with_both(tmp_path, write_idx, read):
    folder = write_idx(tmp_path / "sizes", test_images=np.full((12, 6, 7), 200))
    with pytest.raises(ValueError, match=r"\(6, 5, 1\) and test images \(6, 7, 1\)"):
        idx(str(folder), num_validation=5)


def test_an_empty_set_is_refused(tmp_path, write_idx):
    none, labels = np.zeros((0, 6, 5)), np.zeros(0)
    for i, arrays in enumerate(({"train_images": none, "train_labels": labels}, {"test_images": none, "test_labels": labels})):
        with pytest.raises(ValueError, match="0 images and 0 labels"):
            idx(str(write_idx(tmp_path / str(i), **arrays)), num_validation=5)


def test_letters_from_1_on_are_balanced_without_a_class_0(tmp_path, write_idx):
    """EMNIST's letters: 26 classes, labels 1 to 26, logits of 27. One that the target never answers is still missed."""
    labels = {"train_labels": np.arange(156) % 26 + 1, "test_labels": np.arange(130) % 26 + 1}
    images = {"train_images": np.full((156, 4, 4), 255), "test_images": np.full((130, 4, 4), 255)}
    letters = idx(write_idx(tmp_path, "emnist-letters-", **images, **labels), num_validation=26)
    assert letters.num_classes == 27 and classes_of(letters).tolist() == list(range(1, 27))
    test, classes = letters.test, classes_of(letters)
    counted = [
        data.test_images(letters, 60).labels,
        correct_images(test, test.labels, 60, classes).labels,
        test.labels[subset(test, 60, classes)],
    ]
    for found in counted:
        assert np.bincount(found, minlength=27).tolist() == [0, *[3] * 8, *[2] * 18]
    with pytest.raises(ValueError, match="need 2 of class 26, and there are 0"):
        correct_images(test, np.where(test.labels == 26, 1, test.labels), 60, classes)
