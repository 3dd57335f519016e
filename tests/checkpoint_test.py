"""Checkpoints: whole or not at all, and damage is an error."""

import os
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mgan_jax import checkpoint
from mgan_jax.types import TrainState

TREE = {"state": [np.arange(5, dtype=np.int32), np.float32(3), np.array(True)], "step": 7, "history": {"loss": np.ones(3)}}


def test_round_trip_keeps_the_newest_alone(tmp_path):
    for step in (1, 2):
        checkpoint.save(tmp_path, step, TREE)
    assert checkpoint.steps(tmp_path) == [2]
    found = checkpoint.restore(tmp_path)
    assert checkpoint.digest(found) == checkpoint.digest(TREE)
    assert found["state"][2].dtype == bool
    assert checkpoint.restore(tmp_path / "none") is None


def test_an_unfinished_save_is_passed_over(tmp_path):
    checkpoint.save(tmp_path, 1, TREE)
    (tmp_path / f"2{checkpoint.UNFINISHED}").mkdir()
    assert checkpoint.latest_step(tmp_path) == 1
    checkpoint.save(tmp_path, 3, TREE)
    assert [path.name for path in tmp_path.iterdir()] == ["3"]


class Reversed(NamedTuple):
    """Fields in another order than their names have."""

    z: jax.Array
    a: jax.Array


def training_state(value=1.0):
    params = {"dense": {"kernel": jnp.full((4, 3), value), "bias": jnp.arange(3.0)}, "half": jnp.ones(2, jnp.bfloat16)}
    transform = optax.adamw(optax.cosine_decay_schedule(0.1, 10), weight_decay=0.1)
    return {
        "train": TrainState(jnp.int32(7), params, transform.init(params)),
        "key": jax.random.key(3),
        "pair": Reversed(jnp.zeros(2), jnp.ones(3)),
        "history": {"loss": np.linspace(0, 1, 12, dtype=np.float32)},
        "layers": [jnp.full(1, i) for i in range(12)],
        "step": 7,
    }


def plain(value=0.0):
    return {"state": [np.full((30, 20), value, np.float32), np.arange(5, dtype=np.int32)], "step": np.asarray(3)}


def identical(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    assert checkpoint.digest(a) == checkpoint.digest(b)


def test_any_tree_comes_back_exactly(tmp_path):
    state = training_state()
    checkpoint.save(tmp_path, 1, state)
    restored = checkpoint.restore(tmp_path, like=training_state(0.0))
    identical(restored, state)
    assert jnp.issubdtype(restored["key"].dtype, jax.dtypes.prng_key)
    np.testing.assert_array_equal(jax.random.bits(restored["key"], (3,)), jax.random.bits(state["key"], (3,)))
    np.testing.assert_array_equal(restored["pair"].z, state["pair"].z)
    for i, leaf in enumerate(restored["layers"]):
        assert leaf == i
    assert restored["train"].params["half"].dtype == jnp.bfloat16


def test_without_like_nested_dicts_come_back(tmp_path):
    checkpoint.save(tmp_path, 1, training_state())
    restored = checkpoint.restore(tmp_path)
    assert set(restored["train"]) == {"step", "params", "opt_state"}
    assert int(restored["step"]) == 7
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(restored))


def test_restored_leaves_go_onto_any_mesh(tmp_path):
    mesh = jax.make_mesh((1,), ("x",))
    sharding = jax.NamedSharding(mesh, jax.P("x"))
    checkpoint.save(tmp_path, 1, {"w": jax.device_put(jnp.arange(8.0), sharding)})
    restored = checkpoint.restore(tmp_path, like={"w": jnp.zeros(8)})
    np.testing.assert_array_equal(jax.device_put(restored["w"], sharding), np.arange(8.0))


def test_a_step_that_is_not_newer_is_refused_and_nothing_is_lost(tmp_path):
    checkpoint.save(tmp_path, 5, plain(5))
    for step in (5, 4):
        with pytest.raises(ValueError, match=f"step is {step}"):
            checkpoint.save(tmp_path, step, plain(step))
    identical(checkpoint.restore(tmp_path), plain(5))


ONES = np.ones(2, np.float32)
READ_AGAIN = {
    "text keys": {"a/b": ONES, "a.b": ONES, "": ONES, "..": ONES, "0": ONES, "ä ]['\"%": ONES},
    "lists": [np.full(1, i) for i in range(12)], "nothing": {"a": None, "b": [None, ONES], "c": {}}, "an array": ONES,
    **{name: {"a": jnp.ones(3, name)} for name in ("bfloat16", "float16", "complex64", "int8", "bool", "float8_e4m3fn", "int4")},
    "numbers": {"a": 1.5, "b": 2**40, "c": True}, "keys": {"a": jax.random.split(jax.random.key(0))},
}  # fmt: skip
REFUSED = {
    "whole numbers": ({0: ONES}, r"the key 0 of \[0\] is no text; .* choose '0'"),
    "deep": ({"a": [{"b": {7: ONES}}]}, r"the key 7 of \['a'\]\[0\]\['b'\]\[7\] is no text"),
    "truth": ({True: ONES}, "the key True"),
    "tuples": ({("a", "b"): ONES}, r"the key \('a', 'b'\)"),
    "several types": ({0: ONES, "a": ONES}, "several types"),
    "empty": ({"a": np.zeros((0, 3))}, r"\['a'\] is an empty array of shape \(0, 3\)"),
    "text": ({"a": "x"}, "is of dtype <U1"),
    "objects": ({"a": np.array([{}], object)}, "is of dtype object"),
    "fields": ({"a": np.zeros(2, [("x", float)])}, "is of dtype"),
}


@pytest.mark.parametrize("name", READ_AGAIN)
def test_what_is_saved_is_read_again(tmp_path, name):
    checkpoint.save(tmp_path, 1, READ_AGAIN[name])
    assert checkpoint.digest(checkpoint.restore(tmp_path)) == checkpoint.digest(READ_AGAIN[name])
    assert checkpoint.digest(checkpoint.restore(tmp_path, like=READ_AGAIN[name])) == checkpoint.digest(READ_AGAIN[name])


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_not_be_read_again_is_refused_at_once(tmp_path, name, capfd):
    tree, said = REFUSED[name]
    checkpoint.save(tmp_path, 1, plain())
    with pytest.raises(ValueError, match=said) as raised:
        checkpoint.save(tmp_path, 2, tree)
    assert "\n" not in str(raised.value) and capfd.readouterr().err == ""
    identical(checkpoint.restore(tmp_path), plain())


def test_a_full_disk_is_one_line_and_the_last_checkpoint_stays(tmp_path, monkeypatch):
    checkpoint.save(tmp_path, 5, plain(5))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100))
    with pytest.raises(OSError, match=r"no space left for a checkpoint in .*; make room"):
        checkpoint.save(tmp_path, 6, plain(6))
    identical(checkpoint.restore(tmp_path), plain(5))


def test_another_state_is_refused_with_its_name(tmp_path):
    checkpoint.save(tmp_path, 1, plain())
    with pytest.raises(ValueError, match=r"1 holds another kind of state, which differs in state\.0"):
        checkpoint.restore(tmp_path, like={**plain(), "state": [np.zeros((2, 2), np.float32), np.arange(5, dtype=np.int32)]})
    with pytest.raises(ValueError, match="differs in more"):
        checkpoint.restore(tmp_path, like={**plain(), "more": np.zeros(1)})


def test_saving_is_quick_and_quiet(tmp_path, capfd):
    state = {"state": [np.zeros((500, 500), np.float32)]}
    checkpoint.save(tmp_path, 0, state)
    seconds = []
    for step in range(1, 6):
        began = time.monotonic()
        checkpoint.save(tmp_path, step, state)
        seconds.append(time.monotonic() - began)
    # The fastest of five: other processes of the machine only ever add time.
    assert min(seconds) < 0.2
    assert capfd.readouterr() == ("", "")


def files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def changed(data, kind):
    """The ways in which a file is damaged: [(what, bytes or None for a deleted file)]."""
    if kind == "flip":
        places = sorted({round(share * (len(data) - 1)) for share in np.linspace(0, 1, 9)}) if data else []
        return [bytes([*data[:i], data[i] ^ (1 << i % 8), *data[i + 1 :]]) for i in places]
    return [data[: len(data) // 2], b"", None]


@pytest.mark.parametrize("kind", ["flip", "truncate"])
def test_a_damaged_file_never_restores_other_values(tmp_path, kind):
    rng = np.random.default_rng(0)
    tree = {"state": [rng.normal(size=(40, 40)).astype(np.float32)], "history": {"loss": np.arange(9.0)}}
    checkpoint.save(tmp_path, 3, tree)
    for path in files(tmp_path / "3"):
        data = path.read_bytes()
        for damaged in changed(data, kind):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            if damaged is None and path.name == checkpoint.FILES:
                identical(checkpoint.restore(tmp_path), tree)
                continue
            with pytest.raises(checkpoint.CorruptCheckpoint) as caught:
                checkpoint.restore(tmp_path)
            message = str(caught.value)
            assert str(tmp_path / "3") in message and "\n" not in message
            assert "delete that folder" in message and "--overwrite" in message
        path.write_bytes(data)
    identical(checkpoint.restore(tmp_path), tree)
    assert len(files(tmp_path / "3")) > 5


def test_values_are_compared_even_where_all_files_are_as_they_were_written(tmp_path):
    checkpoint.save(tmp_path, 3, plain(1))
    checkpoint.save(tmp_path / "other", 3, plain(2))
    for name in ("tree", checkpoint.FILES):
        (tmp_path / "3" / name).rename(tmp_path / f"old_{name}")
        (tmp_path / "other" / "3" / name).rename(tmp_path / "3" / name)
    with pytest.raises(checkpoint.CorruptCheckpoint):
        checkpoint.restore(tmp_path)


def test_a_damaged_newest_is_an_error_even_beside_an_older_one(tmp_path):
    checkpoint.save(tmp_path, 1, plain(1))
    shutil.copytree(tmp_path / "1", tmp_path / "kept")
    checkpoint.save(tmp_path, 2, plain(2))
    shutil.copytree(tmp_path / "2", tmp_path / "1")
    (tmp_path / "2" / checkpoint.DIGEST).write_text("0" * 64)
    with pytest.raises(checkpoint.CorruptCheckpoint):
        checkpoint.restore(tmp_path)
    assert issubclass(checkpoint.CorruptCheckpoint, ValueError)


SAVER = """
import sys
from pathlib import Path
import numpy as np
from mgan_jax import checkpoint
folder = Path(sys.argv[1])
before = checkpoint.restore(folder)
step = 0 if before is None else int(before["step"])
print("ready", step, flush=True)
while True:
    step += 1
    checkpoint.save(folder, step, {"step": np.asarray(step), "w": np.full((200, 200), step, np.float32)})
    print(step, flush=True)
"""


def test_sigkill_while_saving_loses_at_most_that_save(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", SAVER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        with process:
            assert process.stdout.readline().startswith("ready")
            lines = [process.stdout.readline() for _ in range(3)]
            time.sleep(rng.uniform(0.0, 0.1))
            os.kill(process.pid, signal.SIGKILL)
            lines += process.stdout.read().split()
        restored = checkpoint.restore(tmp_path)
        assert int(restored["step"]) in (int(lines[-1]), int(lines[-1]) + 1)
        assert (restored["w"] == restored["step"]).all()


def test_digest_sees_every_part_of_a_leaf():
    tree = {"a": np.zeros((2, 3), np.float32), "b": [np.ones(2)]}
    same = {"b": (np.ones(2),), "a": tree["a"].copy()}
    assert checkpoint.digest(tree) == checkpoint.digest(same)
    others = [
        {"c": tree["a"], "b": tree["b"]},
        {"a": tree["a"].astype(np.int32), "b": tree["b"]},
        {"a": tree["a"].reshape(3, 2), "b": tree["b"]},
        {"a": np.nextafter(tree["a"], np.float32(1)), "b": tree["b"]},
        {"a": tree["a"]},
        {"a": -tree["a"], "b": tree["b"]},
    ]
    digests = {checkpoint.digest(other) for other in [tree, *others]}
    assert len(digests) == 7
    assert checkpoint.digest({"k": jax.random.key(0)}) != checkpoint.digest({"k": jax.random.key(1)})
    assert checkpoint.digest(Reversed(np.zeros(1), np.ones(1))) == checkpoint.digest({"z": np.zeros(1), "a": np.ones(1)})
