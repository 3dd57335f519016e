"""A run's folder: the configuration it belongs to, and the results of its finished stages."""

import contextlib
import errno
import fcntl
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgan_jax import devices
from mgan_jax.checkpoint import UNFINISHED, CorruptCheckpoint, digest

CONFIG = "config.json"
LOCK = ".lock"
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
REMOVED = ".removed"
MADE_FROM = "made_from"
WRITTEN_BY = {"written_by": "mgan_jax"}
FORMAT = {"format": 2}
"""Counts the ways in which folders say what their stages were made from; those of another way are not read."""
RESERVED = ("__stage__", "file", "allow_pickle")


class WorkdirMismatch(ValueError):
    """The folder belongs to another configuration; the message shows the difference."""


class Stage(NamedTuple):
    """Results of a finished stage: named arrays, and numbers as JSON holds them."""

    arrays: dict[str, np.ndarray]
    numbers: dict[str, Any]


def write(path: Path, data: bytes) -> None:
    """Writes a file in whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}{UNFINISHED}")
    unfinished.write_bytes(data)
    os.replace(unfinished, path)


def flat(config: dict, prefix: str = "config") -> dict[str, Any]:
    """Nested dicts as {'config.a.b': value}."""
    result = {}
    for key, value in config.items():
        name = f"{prefix}.{key}"
        result |= flat(value, name) if isinstance(value, dict) and value else {name: value}
    return result


def difference(there: dict, here: dict) -> str:
    """What differs between two configurations, nested dicts, in a line, digests of inputs last; empty where nothing does."""
    there, here, absent = flat(there), flat(here), object()
    order = sorted({*there, *here}, key=lambda name: (name.startswith("config.inputs."), name))
    names = [name for name in order if there.get(name, absent) != here.get(name, absent)]
    shown = [f"{name}: {there.get(name, 'absent')} there, {here.get(name, 'absent')} here" for name in names]
    return "; ".join(shown[:5]) + (f"; and {len(shown) - 5} more" if len(shown) > 5 else "")


def _says(path: Path, what: dict) -> bool:
    """Whether the config.json of a run's folder, intact or cut short, holds this."""
    return json.dumps(what)[1:-1] in (path / CONFIG).read_text(encoding="utf-8", errors="replace")


def _clear(path: Path) -> None:
    """Empties a run's folder but for its config.json and lock; each entry goes at once, so that a kill leaves none in part."""
    removed = path / REMOVED
    shutil.rmtree(removed, ignore_errors=True)
    removed.mkdir()
    for entry in path.iterdir():
        if entry.name not in (CONFIG, LOCK, REMOVED):
            os.replace(entry, removed / entry.name)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes that ask for it out of a run's folder, which is made where missing.

    The system lets go of the lock when the process ends, in whatever way; the file that bears it stays. Where several processes
    are one program process 0 has it for all.

    Raises:
      BlockingIOError: another process has it.
      WorkdirMismatch: the folder is no run's, and stays as it is.
      OSError: the folder cannot be written.
    """
    file = devices.on_primary(_lock, path)
    try:
        yield
    finally:
        if devices.is_primary():
            os.close(file)


def _lock(path: Path) -> int:
    """The open file that bears the lock."""
    _check(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        file = os.open(path / LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise _unusable(path, error) from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise BlockingIOError(
            f"another process uses this folder, {path}; wait for its end, or choose another --workdir"
        ) from None
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            os.close(file)
            raise _unusable(path, error) from error
        print(f"{path} lies where nothing can be locked ({error.strerror}); start no second process on it", file=sys.stderr)
    return file


def _unusable(path: Path, error: OSError) -> OSError:
    return type(error)(f"the folder {path} cannot be used ({error.strerror or error}); choose another --workdir")


def open_workdir(path: Path, config: dict, overwrite: bool = False) -> None:
    """Makes a folder a run's, or checks that it is one, and notes the configuration in it.

    Whether what lies there belongs to this configuration is each stage's to say, see `claim`.

    Args:
      path: the folder; made where missing.
      config: of this start, nested dicts of JSON values.
      overwrite: remove what an earlier run left there; a folder that is no run's is left alone.

    Raises:
      WorkdirMismatch: files that are no run's, or those of a version that did not note all that its stages were made from.
      ValueError: another process was started with another configuration.
      OSError: the folder cannot be written.
    """
    devices.same(json.dumps([config, overwrite], sort_keys=True).encode(), "the configuration")
    devices.on_primary(_open, path, config, overwrite)


def _open(path: Path, config: dict, overwrite: bool) -> None:
    try:
        _take(path, overwrite)
        write(path / CONFIG, json.dumps({**WRITTEN_BY, **FORMAT, **config}, indent=1).encode())
        shutil.rmtree(path / REMOVED, ignore_errors=True)
    except OSError as error:
        raise _unusable(path, error) from error


def _check(path: Path) -> None:
    """Raises WorkdirMismatch where a folder is there and no run's."""
    written = path / CONFIG
    if path.exists() and not path.is_dir():
        raise WorkdirMismatch(f"{path} is a file; choose another --workdir")
    # A first start that was killed may have left half a configuration behind.
    entries = {entry.name for entry in path.iterdir()} - {f"{CONFIG}{UNFINISHED}", LOCK} if path.is_dir() else set()
    if entries and not written.is_file():
        raise WorkdirMismatch(f"{path} holds files but no run of this program; choose another --workdir")
    if written.is_file() and not _says(path, WRITTEN_BY):
        raise WorkdirMismatch(
            f"{written} was not written by this program, so {path} is left alone; choose another --workdir, or delete that "
            "folder yourself"
        )


def _take(path: Path, overwrite: bool) -> None:
    _check(path)
    written = path / CONFIG
    if written.is_file() and not overwrite and not _says(path, FORMAT):
        raise WorkdirMismatch(
            f"{path} is of another version of this program, which notes otherwise what its stages are made from; choose another "
            "--workdir, or start anew with --overwrite"
        )
    if written.is_file() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, "no write permission")
    if written.is_file() and overwrite:
        _clear(path)


def claim(path: Path, name: str, made_from: dict, output: Path) -> None:
    """Notes what a stage is made from, or where its output is there already, checks that it was made from the same.

    Args:
      path: the run's folder.
      name: of the stage.
      made_from: all that its results depend on, nested dicts of JSON values; as `inputs` digests of arrays.
      output: file or folder of its results, finished or not.

    Raises:
      WorkdirMismatch: they were made from something else; the message shows the difference.
    """
    devices.on_primary(_claim, path, name, made_from, output)


def _claim(path: Path, name: str, made_from: dict, output: Path) -> None:
    file, made_from = path / MADE_FROM / f"{name}.json", json.loads(json.dumps(made_from))
    if not output.exists():
        write(file, json.dumps(made_from, indent=1).encode())
        return
    try:
        changed = difference(json.loads(file.read_text(encoding="utf-8")), made_from)
    except (OSError, ValueError, AttributeError):
        changed = f"{file} is missing or damaged"
    if changed:
        raise WorkdirMismatch(
            f"{output} was made from something else ({changed}); choose another --workdir, delete it and what was made "
            "from it, or start anew with --overwrite"
        )


def stage_path(path: Path, name: str) -> Path:
    """The file of a finished stage."""
    return path / "stages" / f"{name}.npz"


def finish_stage(path: Path, name: str, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> None:
    """Keeps the results of a stage, in whole or not at all.

    Args:
      path: the run's folder.
      name: of the stage.
      arrays: any number of arrays.
      numbers: JSON values.

    Raises:
      ValueError: an array of Python objects, or one whose name the file format keeps for itself.
    """
    devices.on_primary(_finish_stage, path, name, arrays, numbers)


def _finish_stage(path: Path, name: str, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> None:
    numbers = json.loads(json.dumps(numbers))
    arrays = {key: np.asarray(value) for key, value in arrays.items()}
    for key, value in arrays.items():
        if value.dtype.hasobject or key in RESERVED:
            raise ValueError(f"stage {name}: the array {key!r} of dtype {value.dtype} cannot be kept")
    text = json.dumps({"numbers": numbers, "digest": digest([arrays, json.dumps(numbers)])})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, __stage__=np.frombuffer(text.encode(), np.uint8), **arrays)
    write(stage_path(path, name), buffer.getvalue())


def stage(path: Path, name: str, made_from: dict, make: Callable[[], tuple[dict, dict]]) -> Stage:
    """The results of a stage: those that are there, else what `make` gives, which is then kept.

    Args:
      path, name, made_from: as in `claim`.
      make: gives the arrays and numbers of `finish_stage`.

    Raises:
      WorkdirMismatch: those that are there were made from something else.
      CorruptCheckpoint: the file is damaged.
    """
    claim(path, name, made_from, stage_path(path, name))
    done = load_stage(path, name)
    if done is None:
        finish_stage(path, name, *make())
        done = load_stage(path, name)
    return done


def load_stage(path: Path, name: str) -> Stage | None:
    """The results of a finished stage; None where it is not finished.

    Raises:
      CorruptCheckpoint: the file is damaged.
    """
    return devices.on_primary(_load_stage, path, name)


def _load_stage(path: Path, name: str) -> Stage | None:
    file = stage_path(path, name)
    if not file.is_file():
        return None
    problem = f"{file} is damaged; delete it to run this stage again, or pass --overwrite"
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        record = json.loads(arrays.pop("__stage__").tobytes())
        intact = record["digest"] == digest([arrays, json.dumps(record["numbers"])])
    except PermissionError:
        raise
    # zipfile, zlib, numpy and json each raise errors of their own for damaged bytes.
    except Exception as error:
        raise CorruptCheckpoint(problem) from error
    if not intact:
        raise CorruptCheckpoint(problem)
    return Stage(arrays, record["numbers"])
