"""The command line that the three benchmarks share: sizes, rows to run, the table, the JSON."""

import argparse
import importlib.metadata
import os
import platform
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import jax

from benchmarks import roofline
from benchmarks.timing import Row, print_rows, write_json

SIZES = ("small", "paper", "large")
PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
PRECISIONS = {"float32": 1e-5, "tf32": 1e-3}
"""Precision of matrix products, and the share of votes that may differ between ours and a peer."""


class Settings(NamedTuple):
    """What the command line asks for.

    Attributes:
      size: "small", "paper" or "large".
      rounds: of each comparison.
      wanted: whether the row of this name is to be run.
      data_dir: folder of IDX files, or None.
      tolerance: share of votes that may differ.
      peaks: the two roofs of this machine.
    """

    size: str
    rounds: int
    wanted: Callable[[str], bool]
    data_dir: str | None
    tolerance: float
    peaks: roofline.Peaks


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression of the command line."""
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def path(text: str) -> Path:
    """A path of the command line, the home folder in place of ~."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"there is no home folder for {text.split('/')[0]}") from None


def parse(description: str, argv: list[str] | None = None) -> argparse.Namespace:
    """The flags of a benchmark; mistakes in them end here, in one line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--size", choices=SIZES, default="small", help="small: that it runs; paper: the targets; large: all")
    parser.add_argument("--json", type=path, metavar="FILE", help="where the rows are written, after each row anew")
    parser.add_argument("--rows", type=pattern, default=re.compile(""), metavar="REGEX", help="only rows it is found in")
    parser.add_argument("--rounds", type=int, help="of A B A B; default: 2 at small, 5 at paper, 3 at large")
    parser.add_argument("--data_dir", type=path, metavar="FOLDER", help="IDX files in place of scikit-learn's digits, enlarged")
    parser.add_argument("--precision", choices=tuple(PRECISIONS), default="float32", help="of products on an accelerator")
    parsed = parser.parse_args(argv)
    if parsed.rounds is None:
        parsed.rounds = {"small": 2, "paper": 5, "large": 3}[parsed.size]
    if parsed.rounds < 1:
        parser.error(f"--rounds is {parsed.rounds}; choose at least 1")
    if parsed.json is not None and not parsed.json.absolute().parent.is_dir():
        parser.error(f"--json: there is no folder {parsed.json.absolute().parent}")
    if parsed.data_dir is not None and not parsed.data_dir.is_dir():
        parser.error(f"--data_dir: there is no folder {parsed.data_dir}")
    return parsed


def device() -> str:
    """Number and kind of the devices; for a CPU its own name and the cores this process may use."""
    kind = jax.devices()[0].device_kind
    if jax.default_backend() != "cpu":
        return f"{jax.device_count()} x {kind}"
    information = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.+)", information.read_text(encoding="utf-8")) if information.is_file() else None
    return f"{num_threads()} cores of {found[1] if found else platform.processor() or platform.machine()}"


def num_threads() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter to speed; those that are not installed are left out."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def require_torch(precision: str) -> None:
    """Readies PyTorch: all threads, and on an accelerator the same precision as ours.

    Raises:
      SystemExit: it is not installed.
    """
    try:
        import torch
    except ModuleNotFoundError:
        sys.exit("error: the peers need PyTorch: pip install '.[bench]'")
    torch.set_num_threads(num_threads())
    reduced = precision == "tf32"
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = reduced
    torch.backends.cudnn.benchmark = True
    if jax.default_backend() != "cpu":
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if reduced else "highest")


def run(title: str, flags: argparse.Namespace, rows: Callable[[Settings], Iterator[Row]], torch: bool = True) -> list[Row]:
    """Measures the roofs, runs the rows, tells of each as it comes, and writes the JSON after each.

    Args:
      title: of the table.
      flags: from `parse`.
      rows: the benchmark.
      torch: whether it needs PyTorch.

    Returns:
      All rows.
    """
    if torch:
        require_torch(flags.precision)
    peaks = roofline.measure(0.3 if flags.size == "small" else 2.0)
    roofs = f"{peaks.flops / 1e9:.0f} GFLOP/s, {peaks.bandwidth / 1e9:.1f} GB/s"
    print(f"{title}, {flags.size}, {device()}: {roofs}", flush=True)
    tolerance = PRECISIONS[flags.precision]
    data_dir = None if flags.data_dir is None else str(flags.data_dir)
    settings = Settings(flags.size, flags.rounds, lambda name: bool(flags.rows.search(name)), data_dir, tolerance, peaks)
    done: list[Row] = []
    for row in rows(settings):
        done.append(row)
        ratio = "" if row.ratio is None else f", {row.ratio:.2f} x {row.peer}"
        print(f"  {row.name}: {'-' if row.ours_s is None else f'{row.ours_s:.3g} s'}{ratio}", flush=True)
        if flags.json is not None:
            more = {"precision": flags.precision, "roofline": peaks._asdict()}
            write_json(flags.json, device(), versions(), flags.size, done, **more)
    print_rows(f"{title}, {flags.size}: {device()}; roofline {roofs}", done)
    return done
