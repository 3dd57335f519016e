"""A run's folder belongs to one configuration, and what lies there is whole or refused."""

import json
import os

import numpy as np
import pytest

from mgan_jax import workdir
from mgan_jax.checkpoint import CorruptCheckpoint
from mgan_jax.workdir import WorkdirMismatch

CONFIG = {"seed": 0, "target": {"name": "cnn", "epochs": 3}, "epsilons": (0.1, 0.2), "seeds": [0]}


def contents(path):
    return {str(p.relative_to(path)): p.read_bytes() if p.is_file() else None for p in sorted(path.rglob("*"))}


def refused(path, *words, **arguments):
    """The call is refused in one line with these words, and the folder is as it was."""
    before = contents(path)
    with pytest.raises(WorkdirMismatch) as caught:
        workdir.open_workdir(path, CONFIG, **arguments)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    for word in words:
        assert word in message
    assert contents(path) == before


def test_the_first_start_makes_the_folder_and_the_same_command_continues(tmp_path):
    path = tmp_path / "runs" / "mgan"
    workdir.open_workdir(path, CONFIG)
    first = contents(path)
    assert json.loads(first["config.json"])["target"] == CONFIG["target"]
    workdir.finish_stage(path, "one", {"a": np.ones(2)}, {})
    workdir.open_workdir(path, json.loads(json.dumps(CONFIG)))
    assert workdir.load_stage(path, "one") is not None
    assert contents(path)["config.json"] == first["config.json"]


def claimed(path, reads, output):
    """What is wrong with a stage's claim; None where nothing is, and it may go on."""
    before = contents(path)
    try:
        workdir.claim(path, "one", reads, output)
    except WorkdirMismatch as error:
        assert "\n" not in str(error) and str(output) in str(error) and contents(path) == before
        return str(error)
    return None


def test_a_stage_that_read_something_else_is_refused_with_the_difference(tmp_path):
    output = workdir.stage_path(tmp_path, "one")
    assert claimed(tmp_path, CONFIG, output) is None
    workdir.finish_stage(tmp_path, "one", {}, {})
    assert claimed(tmp_path, json.loads(json.dumps(CONFIG)), output) is None
    for changed, words in (
        ({"seed": 1}, ["config.seed: 0 there, 1 here", "--overwrite"]),
        ({"target": {"name": "mlp"}}, ["config.target.name: cnn there, mlp here", "config.target.epochs: 3 there, absent here"]),
        ({"epsilons": (0.1, 0.3)}, ["config.epsilons: [0.1, 0.2] there, [0.1, 0.3] here"]),
        ({"more": 5}, ["config.more: absent there"]),
    ):
        message = claimed(tmp_path, {**CONFIG, **changed}, output)
        assert all(word in message for word in words)


def test_words_come_before_digests(tmp_path):
    output = workdir.stage_path(tmp_path, "one")
    assert claimed(tmp_path, {"inputs": {"images": "0a"}, "seed": 0}, output) is None
    workdir.finish_stage(tmp_path, "one", {}, {})
    message = claimed(tmp_path, {"inputs": {"images": "1b"}, "seed": 1}, output)
    assert "(config.seed: 0 there, 1 here; config.inputs.images: 0a there, 1b here)" in message


@pytest.mark.parametrize("written", ["", '"format": 1, '])
def test_a_folder_of_an_earlier_version_is_refused_and_overwrite_starts_anew(tmp_path, written):
    (tmp_path / "config.json").write_text(f'{{"written_by": "mgan_jax", {written}"seed": 0}}')
    (tmp_path / "reads").mkdir()
    refused(tmp_path, "of another version of this program", "choose another --workdir", "--overwrite")
    workdir.open_workdir(tmp_path, CONFIG, overwrite=True)
    assert list(contents(tmp_path)) == ["config.json"]
    workdir.open_workdir(tmp_path, CONFIG)


def test_what_no_output_was_made_from_may_change(tmp_path):
    output = workdir.stage_path(tmp_path, "one")
    assert claimed(tmp_path, CONFIG, output) is None
    assert claimed(tmp_path, {**CONFIG, "seed": 1}, output) is None
    workdir.finish_stage(tmp_path, "one", {}, {})
    assert "config.seed: 1 there" in claimed(tmp_path, CONFIG, output)


@pytest.mark.parametrize("text", [None, "", "not json", "[1]"])
def test_an_output_whose_origin_is_unknown_is_refused(tmp_path, text):
    workdir.finish_stage(tmp_path, "one", {}, {})
    if text is not None:
        (tmp_path / "made_from").mkdir()
        (tmp_path / "made_from" / "one.json").write_text(text)
    assert "one.json is missing or damaged" in claimed(tmp_path, CONFIG, workdir.stage_path(tmp_path, "one"))


def test_many_differences_stay_one_short_line():
    line = workdir.difference({}, {f"k{i}": i for i in range(9)})
    assert line.count("there,") == 5 and line.endswith("and 4 more")


def test_overwrite_starts_anew(tmp_path):
    path = tmp_path / "run"
    workdir.open_workdir(path, CONFIG)
    workdir.finish_stage(path, "one", {}, {})
    (path / "seed_1").mkdir()
    (path / "report.html").write_text("old")
    workdir.open_workdir(path, {**CONFIG, "seed": 5}, overwrite=True)
    assert list(contents(path)) == ["config.json"]
    workdir.open_workdir(path, {**CONFIG, "seed": 5})


def test_overwrite_of_a_new_folder_just_makes_it(tmp_path):
    workdir.open_workdir(tmp_path / "run", CONFIG, overwrite=True)
    (tmp_path / "empty").mkdir()
    workdir.open_workdir(tmp_path / "empty", CONFIG, overwrite=True)


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_is_no_run_is_left_alone(tmp_path, overwrite):
    (tmp_path / "thesis.tex").write_text("years of work")
    refused(tmp_path, "no run of this program", overwrite=overwrite)


@pytest.mark.parametrize("text", ['{"model_type": "bert"}', "", "not json", "[1]"])
def test_overwrite_leaves_another_programs_config_json_and_its_folder_alone(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "weights.bin").write_text("weights")
    refused(tmp_path, "was not written by this program", overwrite=True)
    refused(tmp_path, "was not written by this program")


def test_overwrite_does_not_follow_links(tmp_path):
    path, outside = tmp_path / "run", tmp_path / "outside"
    outside.mkdir()
    (outside / "data").write_text("mine")
    workdir.open_workdir(path, CONFIG)
    (path / "link").symlink_to(outside)
    workdir.open_workdir(path, CONFIG, overwrite=True)
    assert list(contents(path)) == ["config.json"]
    assert (outside / "data").read_text() == "mine"


def test_a_kill_in_the_first_start_or_in_an_overwrite_is_no_obstacle(tmp_path, monkeypatch):
    path = tmp_path / "run"
    path.mkdir()
    (path / "config.json.unfinished").write_text('{"se')
    workdir.open_workdir(path, CONFIG)
    workdir.finish_stage(path, "one", {"a": np.ones(3)}, {})
    moved, replace = [], os.replace

    def killed(source, to):
        if moved:
            raise KeyboardInterrupt
        moved.append(replace(source, to))

    (path / "report.html").write_text("old")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        workdir.open_workdir(path, {**CONFIG, "seed": 1}, overwrite=True)
    workdir.open_workdir(path, {**CONFIG, "seed": 1}, overwrite=True)
    assert list(contents(path)) == ["config.json"]
    assert json.loads((path / "config.json").read_text())["seed"] == 1


def test_a_config_that_was_cut_short_is_written_again(tmp_path):
    path = tmp_path / "run"
    workdir.open_workdir(path, CONFIG)
    whole = (path / "config.json").read_text()
    (path / "config.json").write_text(whole[: len(whole) // 2])
    workdir.open_workdir(path, CONFIG)
    assert (path / "config.json").read_text() == whole


def test_a_place_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    under = tmp_path / "file" / "run"
    with pytest.raises(OSError, match="choose another --workdir") as caught:
        workdir.open_workdir(under, CONFIG)
    assert str(under) in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(WorkdirMismatch, match="is a file"):
        workdir.open_workdir(tmp_path / "file", CONFIG)
    # A superuser may write anywhere, so the answer of the system is replaced.
    workdir.open_workdir(tmp_path / "run", CONFIG)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="no write permission"):
        workdir.open_workdir(tmp_path / "run", CONFIG)


ARRAYS = {"votes": np.arange(60, dtype=np.int32).reshape(3, 20), "scalar": np.float64(0.1), "empty": np.zeros((0, 4), np.float32)}
NUMBERS = {"accuracy": 0.1 + 0.2, "rows": [{"a": None, "b": "GF"}], "n": 3}


def test_a_finished_stage_comes_back_exactly(tmp_path):
    assert workdir.load_stage(tmp_path, "one") is None
    workdir.finish_stage(tmp_path, "one", ARRAYS, NUMBERS)
    stage = workdir.load_stage(tmp_path, "one")
    assert stage.numbers == NUMBERS
    assert set(stage.arrays) == set(ARRAYS)
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(stage.arrays[name], array)
        assert (stage.arrays[name].dtype, stage.arrays[name].shape) == (array.dtype, array.shape)


def test_an_unfinished_stage_does_not_count(tmp_path):
    workdir.finish_stage(tmp_path, "one", ARRAYS, NUMBERS)
    file = workdir.stage_path(tmp_path, "one")
    file.rename(file.with_name(f"{file.name}.unfinished"))
    assert workdir.load_stage(tmp_path, "one") is None
    workdir.finish_stage(tmp_path, "one", ARRAYS, NUMBERS)
    assert [path.name for path in file.parent.iterdir()] == ["one.npz"]


def test_a_damaged_stage_never_gives_other_values(tmp_path):
    workdir.finish_stage(tmp_path, "one", ARRAYS, NUMBERS)
    file = workdir.stage_path(tmp_path, "one")
    data = file.read_bytes()
    flipped = [bytes([*data[:i], data[i] ^ (1 << i % 8), *data[i + 1 :]]) for i in range(len(data))]
    count = 0
    for damaged in [b"", data[:10], data[: len(data) // 2], data[:-1], *flipped]:
        file.write_bytes(damaged)
        try:
            stage = workdir.load_stage(tmp_path, "one")
        except CorruptCheckpoint as error:
            count += 1
            assert str(file) in str(error) and "--overwrite" in str(error) and "\n" not in str(error)
        else:
            assert stage.numbers == NUMBERS
            for name, array in ARRAYS.items():
                np.testing.assert_array_equal(stage.arrays[name], array)
    # Some bytes of a zip archive, such as its dates, carry nothing.
    assert count > len(data) / 2


def test_what_a_stage_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    for arrays in ({"a": np.array([{}, []], dtype=object)}, {"file": np.ones(1)}, {"__stage__": np.ones(1)}):
        with pytest.raises(ValueError, match="cannot be kept"):
            workdir.finish_stage(tmp_path, "one", arrays, {})
    assert not contents(tmp_path)
