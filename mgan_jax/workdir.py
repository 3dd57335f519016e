"""A run's folder: the configuration it belongs to, and the results of its finished stages."""

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mgan_jax.checkpoint import CorruptCheckpoint, digest

CONFIG = "config.json"


class WorkdirMismatch(ValueError):
    """The folder belongs to another configuration; the message shows the difference."""


class Stage(NamedTuple):
    """Results of a finished stage: named arrays, and numbers as JSON holds them."""

    arrays: dict[str, np.ndarray]
    numbers: dict[str, Any]


def write(path: Path, data: bytes) -> None:
    """Writes a file in whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.unfinished")
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
    """What differs between two configurations, in a line; empty where nothing does."""
    there, here = flat(there), flat(here)
    names = [name for name in sorted({*there, *here}) if there.get(name, "absent") != here.get(name, "absent")]
    shown = [f"{name}: {there.get(name, 'absent')} there, {here.get(name, 'absent')} here" for name in names]
    return "; ".join(shown[:5]) + (f"; and {len(shown) - 5} more" if len(shown) > 5 else "")


def open_workdir(path: Path, config: dict, overwrite: bool = False) -> None:
    """Makes a folder this run's own, or checks that it is.

    Args:
      path: the folder; made where missing.
      config: what the stages read, nested dicts of JSON values.
      overwrite: remove what an earlier run left there.

    Raises:
      WorkdirMismatch: an earlier run with another configuration, or files that are no run's.
      OSError: the folder cannot be written.
    """
    config = json.loads(json.dumps(config))
    written = path / CONFIG
    if path.exists() and not path.is_dir():
        raise WorkdirMismatch(f"{path} is a file; choose another --workdir")
    foreign = path.is_dir() and any(path.iterdir()) and not written.is_file()
    if foreign:
        raise WorkdirMismatch(f"{path} holds files but no run of this program; choose another --workdir")
    if overwrite and written.is_file():
        # The marker goes last: after a kill in between the folder is still known as a run's.
        for entry in path.iterdir():
            if entry != written:
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        written.unlink()
    if written.is_file():
        try:
            there = json.loads(written.read_text())
        except ValueError:
            raise WorkdirMismatch(f"{written} is damaged; choose another --workdir, or start anew with --overwrite") from None
        changed = difference(there, config)
        if changed:
            raise WorkdirMismatch(
                f"{path} belongs to another configuration ({changed}); choose another --workdir, or start anew with --overwrite"
            )
        if os.access(path, os.W_OK):
            return
        raise PermissionError(f"{path} cannot be written; choose another --workdir")
    write(written, json.dumps(config, indent=1).encode())


def finish_stage(path: Path, name: str, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> None:
    """Keeps the results of a stage, in whole or not at all.

    Args:
      path: the run's folder.
      name: of the stage.
      arrays: any number of arrays.
      numbers: JSON values.
    """
    numbers = json.loads(json.dumps(numbers))
    arrays = {key: np.asarray(value) for key, value in arrays.items()}
    text = json.dumps({"numbers": numbers, "digest": digest([arrays, json.dumps(numbers)])})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, __stage__=np.frombuffer(text.encode(), np.uint8), **arrays)
    write(path / "stages" / f"{name}.npz", buffer.getvalue())


def load_stage(path: Path, name: str) -> Stage | None:
    """The results of a finished stage; None where it is not finished.

    Raises:
      CorruptCheckpoint: the file is damaged.
    """
    file = path / "stages" / f"{name}.npz"
    if not file.is_file():
        return None
    problem = f"{file} is damaged; delete it to run this stage again, or pass --overwrite"
    try:
        with np.load(file, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        record = json.loads(arrays.pop("__stage__").tobytes())
        intact = record["digest"] == digest([arrays, json.dumps(record["numbers"])])
    # zipfile, zlib, numpy and json each raise errors of their own for damaged bytes.
    except Exception as error:
        raise CorruptCheckpoint(problem) from error
    if not intact:
        raise CorruptCheckpoint(problem)
    return Stage(arrays, record["numbers"])
