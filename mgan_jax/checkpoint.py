"""Checkpoints through orbax: atomic, and with a digest of their leaves, so that a flipped bit is an error, not a number."""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mgan_jax import devices

DIGEST = "digest.txt"
FILES = "files.txt"
UNFINISHED = ".unfinished"
SPARE_BYTES = 2**20


class CorruptCheckpoint(ValueError):
    """A finished checkpoint does not hold what was saved; the message names it and what to do."""


def _is_key(leaf: Any) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _host(leaf: Any) -> np.ndarray:
    """A leaf as a NumPy array, wherever and however sharded it lies; a typed key as its bits."""
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _paths(tree: Any) -> list[tuple[tuple, Any]]:
    """[(path, leaf)]; those of a NamedTuple are those of the dict of its fields, which is what orbax restores."""
    flat, _ = jax.tree_util.tree_flatten_with_path(tree)
    attributes = ("key", "idx", "name")
    name = lambda entry: next(getattr(entry, a) for a in attributes if hasattr(entry, a))  # noqa: E731
    return [(tuple(map(name, path)), leaf) for path, leaf in flat]


def digest(tree: Any) -> str:
    """SHA-256 over paths, dtypes, shapes and bytes of all leaves.

    NamedTuples count as dicts, tuples as lists, typed keys as their bits, scalars as arrays of shape [1].
    """
    result = hashlib.sha256()
    for path, leaf in sorted(_paths(tree), key=lambda item: item[0]):
        array = np.ascontiguousarray(_host(leaf))
        result.update(f"{''.join(f'[{name!r}]' for name in path)} {array.dtype} {array.shape}".encode())
        result.update(array.tobytes())
    return result.hexdigest()


def _files_digest(folder: Path) -> str:
    """SHA-256 over names, sizes and bytes of the files in a folder."""
    result = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        result.update(f"{path.relative_to(folder).as_posix()} {len(data)} ".encode())
        result.update(data)
    return result.hexdigest()


@contextlib.contextmanager
def _orbax():
    """A synchronous checkpointer of process 0 alone, whose notices stay out of the terminal."""
    import orbax.checkpoint as ocp

    alone = {"multiprocessing_options": ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})}

    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler(**alone), **alone) as checkpointer:
            yield checkpointer
    finally:
        logger.setLevel(level)


def steps(folder: Path) -> list[int]:
    """Steps of the finished checkpoints in a folder, oldest first."""
    return sorted(int(path.name) for path in folder.glob("*") if path.name.isdigit()) if folder.is_dir() else []


def latest_step(folder: Path) -> int | None:
    """Step of the newest finished checkpoint; None where there is none."""
    return max(steps(folder), default=None)


def check_readable(tree: Any) -> None:
    """Whether a tree could be read again after it was written.

    Raises:
      ValueError: a key of a dict that is no text, which would come back as one; or a leaf that is empty or of no numbers.
    """
    try:
        leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    except ValueError as error:
        raise ValueError(
            "the keys of a dict are of several types; a checkpoint keeps text alone, so name them by text"
        ) from error
    for path, leaf in leaves:
        where = jax.tree_util.keystr(path) or "the tree"
        wrong = [entry.key for entry in path if isinstance(entry, jax.tree_util.DictKey) and not isinstance(entry.key, str)]
        if wrong:
            raise ValueError(
                f"the key {wrong[0]!r} of {where} is no text; a checkpoint keeps text alone, choose {str(wrong[0])!r}"
            )
        array = _host(leaf)
        if array.dtype.kind in "OUSmM" or array.dtype.fields:
            raise ValueError(f"{where} is of dtype {array.dtype}; a checkpoint keeps numbers")
        if not array.size:
            raise ValueError(f"{where} is an empty array of shape {array.shape}; a checkpoint keeps none")


def save(folder: Path, step: int, tree: Any) -> None:
    """Writes a checkpoint beside the others, gives it its name when it is whole, and then removes the older ones.

    Args:
      folder: of this training; made where missing.
      step: names the checkpoint; larger than those there, so that none is removed before the new one is whole.
      tree: arrays, numbers and typed keys in nested dicts, lists, tuples and NamedTuples; no array may be empty, and the keys of
        dicts are text.

    Raises:
      ValueError: there is a checkpoint of this step or a later one; or a leaf or a key of a dict that could not be read again.
      OSError: the disk is full; checked before, since orbax's writers, once started, print errors of their own.
    """
    devices.on_primary(_save, folder, step, tree)


def _save(folder: Path, step: int, tree: Any) -> None:
    newest = latest_step(folder)
    if newest is not None and step <= newest:
        raise ValueError(f"step is {step}, and {folder} holds a checkpoint of step {newest}")
    check_readable(tree)
    tree = jax.tree.map(_host, tree)
    unfinished = folder / f"{step}{UNFINISHED}"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(unfinished, ignore_errors=True)
    if shutil.disk_usage(folder).free < sum(leaf.nbytes for leaf in jax.tree.leaves(tree)) + SPARE_BYTES:
        raise OSError(errno.ENOSPC, f"no space left for a checkpoint in {folder}; make room and run the same command again")
    with _orbax() as checkpointer:
        checkpointer.save(unfinished.absolute() / "tree", tree)
    (unfinished / DIGEST).write_text(digest(tree), encoding="utf-8")
    (unfinished / FILES).write_text(_files_digest(unfinished / "tree"), encoding="utf-8")
    os.replace(unfinished, folder / str(step))
    for path in folder.iterdir():
        if path.name != str(step):
            shutil.rmtree(path, ignore_errors=True)


def fit(tree: Any, like: Any, path: Path) -> Any:
    """The leaves of a tree restored from `path` in the structure of `like`, its keys typed again.

    Raises:
      ValueError: a leaf is missing, too many, or of another shape or dtype.
    """
    found, wanted = dict(_paths(tree)), dict(_paths(like))
    kind = lambda leaf: None if leaf is None else (_host(leaf).shape, _host(leaf).dtype)  # noqa: E731
    different = [name for name in {**found, **wanted} if kind(found.get(name)) != kind(wanted.get(name))]
    if different:
        raise ValueError(
            f"the checkpoint {path} holds another kind of state, which differs in {'.'.join(map(str, different[0]))}; "
            "delete that folder to train this stage again, or pass --overwrite"
        )
    leaves = [
        jax.random.wrap_key_data(found[name], impl=jax.random.key_impl(leaf)) if _is_key(leaf) else found[name]
        for name, leaf in _paths(like)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def restore(folder: Path, like: Any = None) -> Any | None:
    """The newest finished checkpoint; None where there is none.

    Args:
      folder: of this training.
      like: a tree of the structure, shapes and dtypes that were saved; without it nested dicts and lists come back, and
        typed keys as their bits.

    Returns:
      NumPy arrays, to be put on any devices, and typed keys where `like` has them.

    Raises:
      CorruptCheckpoint: it cannot be read, or its digest differs.
      ValueError: it does not fit `like`.
    """
    step, tree = devices.on_primary(_read, folder)
    return tree if like is None or step is None else fit(tree, like, folder / str(step))


def _read(folder: Path) -> tuple[int | None, Any]:
    """Step and tree of the newest finished checkpoint; None where there is none."""
    step = latest_step(folder)
    if step is None:
        return None, None
    path = folder / str(step)
    problem = f"the checkpoint {path} is damaged; delete that folder to train this stage again, or pass --overwrite"
    try:
        expected = (path / DIGEST).read_text(encoding="utf-8")
        # Readers that orbax started on a damaged file outlive its error and print theirs, so it never gets to see one.
        if (path / FILES).is_file() and (path / FILES).read_text(encoding="utf-8") != _files_digest(path / "tree"):
            raise CorruptCheckpoint(problem)
        with _orbax() as checkpointer:
            tree = jax.tree.map(np.asarray, checkpointer.restore(path.absolute() / "tree"))
        intact = digest(tree) == expected
    except (PermissionError, CorruptCheckpoint):
        raise
    # A truncated file raises one of at least four unrelated types, of orbax, tensorstore, zstandard and json.
    except Exception as error:
        raise CorruptCheckpoint(problem) from error
    if not intact:
        raise CorruptCheckpoint(problem)
    return step, tree
