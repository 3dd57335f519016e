"""Checkpoints through orbax: atomic, and with a digest of their leaves, so that a flipped bit is an error, not a number."""

import contextlib
import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

DIGEST = "digest.txt"
UNFINISHED = ".unfinished"


class CorruptCheckpoint(ValueError):
    """A finished checkpoint does not hold what was saved; the message names it and what to do."""


def digest(tree: Any) -> str:
    """SHA-256 over paths, dtypes, shapes and bytes of all leaves."""
    result = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]:
        array = np.ascontiguousarray(leaf)
        result.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        result.update(array.tobytes())
    return result.hexdigest()


@contextlib.contextmanager
def _orbax():
    """A synchronous checkpointer whose notices stay out of the terminal."""
    logging.getLogger("absl").setLevel(logging.ERROR)
    import orbax.checkpoint as ocp

    with ocp.PyTreeCheckpointer() as checkpointer:
        yield checkpointer


def steps(folder: Path) -> list[int]:
    """Steps of the finished checkpoints in a folder, oldest first."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()) if folder.is_dir() else []


def latest_step(folder: Path) -> int | None:
    """Step of the newest finished checkpoint; None where there is none."""
    return max(steps(folder), default=None)


def save(folder: Path, step: int, tree: Any) -> None:
    """Writes a checkpoint beside the others, gives it its name when it is whole, and then removes the older ones.

    Args:
      folder: of this training; made where missing.
      step: names the checkpoint.
      tree: nested dicts and lists of arrays and numbers.
    """
    tree = jax.tree.map(np.asarray, tree)
    unfinished = folder / f"{step}{UNFINISHED}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    with _orbax() as checkpointer:
        checkpointer.save(unfinished.absolute() / "tree", tree)
    (unfinished / DIGEST).write_text(digest(tree))
    shutil.rmtree(folder / str(step), ignore_errors=True)
    os.replace(unfinished, folder / str(step))
    for path in folder.iterdir():
        if path.name != str(step):
            shutil.rmtree(path, ignore_errors=True)


def restore(folder: Path) -> Any | None:
    """The newest finished checkpoint as nested dicts and lists of NumPy arrays; None where there is none.

    Raises:
      CorruptCheckpoint: it cannot be read, or its digest differs.
    """
    step = latest_step(folder)
    if step is None:
        return None
    path = folder / str(step)
    problem = f"the checkpoint {path} is damaged; delete that folder to train this stage again, or pass --overwrite"
    try:
        with _orbax() as checkpointer:
            tree = jax.tree.map(np.asarray, checkpointer.restore(path.absolute() / "tree"))
        expected = (path / DIGEST).read_text()
    # A truncated file raises one of at least four unrelated types, of orbax, tensorstore, zstandard and json.
    except Exception as error:
        raise CorruptCheckpoint(problem) from error
    if digest(tree) != expected:
        raise CorruptCheckpoint(problem)
    return tree
