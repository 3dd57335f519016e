"""TensorBoard event files hold the finite numbers, read back from the format itself."""

import struct

import numpy as np
from tensorboardX.proto.event_pb2 import Event

from mgan_jax.report.events import write_events


def read(folder):
    """Events of a folder: each record is a length, its check sum, the event, its check sum."""
    (path,) = folder.glob("events.out.tfevents.*")
    data, place, events = path.read_bytes(), 0, []
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        events.append(Event.FromString(data[place + 12 : place + 12 + length]))
        place += 12 + length + 4
    return events


def test_scalars_are_read_again_and_an_earlier_run_is_replaced(tmp_path):
    write_events(tmp_path, {"target": {"loss": np.array([9.0])}})
    write_events(tmp_path, {"target": {"loss": np.array([2.0, np.nan, np.inf, 0.5])}, "mgan": {"margin": np.array([1.0])}})
    found = [(e.step, v.tag, v.simple_value) for e in read(tmp_path / "target") for v in e.summary.value]
    assert found == [(1, "loss", 2.0), (4, "loss", 0.5)]
    assert [v.tag for e in read(tmp_path / "mgan") for v in e.summary.value] == ["margin"]


def test_images_are_written_for_one_and_three_channels(tmp_path):
    write_events(tmp_path, {}, {"clean": np.zeros((2, 8, 8, 1), np.float32), "mgan": np.ones((1, 8, 8, 3), np.float32)})
    values = [v for e in read(tmp_path / "images") for v in e.summary.value]
    assert [v.tag for v in values] == ["clean", "mgan"] and all(v.image.encoded_image_string for v in values)
