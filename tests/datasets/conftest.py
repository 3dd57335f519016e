"""Small sets in every format that is read: what a test damages."""

import io
import json
import struct

import numpy as np
import pytest

# Codes of the element types of IDX files.
CODES = {"uint8": 0x08, "int8": 0x09, "int16": 0x0B, "int32": 0x0C, "float32": 0x0D, "float64": 0x0E}


def idx_bytes(array, dtype="uint8"):
    array = np.asarray(array).astype(np.dtype(dtype).newbyteorder(">"))
    return bytes([0, 0, CODES[dtype], array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def varint(number):
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


def field(tag, data):
    """A field of protobuf's wire format that holds bytes."""
    return varint(tag << 3 | 2) + varint(len(data)) + data


def example(image, label):
    """A `tf.train.Example` of a picture and a label, an integer or text, as TFDS keeps it; without TensorFlow to write it."""
    from PIL import Image

    picture = io.BytesIO()
    Image.fromarray(image[..., 0]).save(picture, "PNG")
    kept = field(1, field(1, label.encode())) if isinstance(label, str) else field(3, field(1, varint(label)))
    features = {"image": field(1, field(1, picture.getvalue())), "label": kept}
    entries = [field(1, field(1, name.encode()) + field(2, value)) for name, value in features.items()]
    return field(1, b"".join(entries))


@pytest.fixture
def write_idx():
    """`write(folder, names=..., **arrays)` of train_images, train_labels, test_images, test_labels; returns the folder."""

    def write(folder, prefix="", test="t10k", change=str, label_dtype="uint8", image_dtype="uint8", **arrays):
        rng = np.random.default_rng(0)
        folder.mkdir(parents=True, exist_ok=True)
        for split, word, count in (("train", "train", 30), ("test", test, 12)):
            images = arrays.get(f"{split}_images", rng.integers(0, 256, (count, 6, 5)))
            labels = arrays.get(f"{split}_labels", np.arange(count) % 3)
            (folder / change(f"{prefix}{word}-images-idx3-ubyte")).write_bytes(idx_bytes(images, image_dtype))
            (folder / change(f"{prefix}{word}-labels-idx1-ubyte")).write_bytes(idx_bytes(labels, label_dtype))
        return folder

    return write


@pytest.fixture
def write_tfds():
    """`write(folder, features=..., labels=..., images=...)` of a set named toy, that no code of TFDS knows."""

    def write(folder, features=None, labels=None, images=None, splits=("train", "test")):
        import tensorflow_datasets as tfds
        from array_record.python.array_record_module import ArrayRecordWriter

        place = folder / "toy" / "1.0.0"
        place.mkdir(parents=True)
        known = tfds.features
        features = features or (lambda f: {"image": f.Image(shape=(6, 5, 1)), "label": f.ClassLabel(num_classes=3)})
        known.FeaturesDict(features(known)).save_config(str(place))
        rng = np.random.default_rng(0)
        described = []
        for name in splits:
            pictures = rng.integers(0, 256, (20, 6, 5, 1), np.uint8) if images is None else images
            writer = ArrayRecordWriter(str(place / f"toy-{name}.array_record-00000-of-00001"), "group_size:1")
            for i, picture in enumerate(pictures):
                writer.write(example(picture, i % 3 if labels is None else labels[i]))
            writer.close()
            described.append({"name": name, "numBytes": "1", "shardLengths": [str(len(pictures))],
                              "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"})  # fmt: skip
        info = {"fileFormat": "array_record", "name": "toy", "version": "1.0.0", "splits": described}
        (place / "dataset_info.json").write_text(json.dumps(info))
        return place

    return write
