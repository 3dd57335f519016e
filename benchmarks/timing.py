"""Ours and its peers timed in turn, A B A B, and what is reported of it: ratios, never single times."""

import json
import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax

FIELDS = ("name", "peer", "ours_s", "peer_s", "ratio", "ratio_min", "ratio_max", "roofline_share")
"""The fields of a row that the JSON always holds; more may follow."""


class Row(NamedTuple):
    """One comparison; None (null in the JSON) where there is no such number.

    Attributes:
      name: the work.
      peer: who else does it; empty where nobody does.
      ours_s, peer_s: seconds for the whole work, medians over the rounds.
      ratio: peer_s / ours_s, the median of the ratios of the rounds; above 1 we are faster.
      ratio_min, ratio_max: over the rounds.
      roofline_share: the least time this machine could need, over `ours_s`, see `roofline.share`.
      differing: share of answers (votes, verdicts) in which ours and the peer's differ; of losses, the relative difference.
      images_per_s: where the work is counted in images (of mutants: mutants times images), ours in a second.
      peak_bytes: the most memory the process that did our work ever held.
      num_mutants, num_images, devices: how large the work is.
      rounds: how many there were.
      note: how the peer was tuned, and what else a reader should know.
    """

    name: str
    peer: str
    ours_s: float | None
    peer_s: float | None = None
    ratio: float | None = None
    ratio_min: float | None = None
    ratio_max: float | None = None
    roofline_share: float | None = None
    differing: float | None = None
    images_per_s: float | None = None
    peak_bytes: int | None = None
    num_mutants: int | None = None
    num_images: int | None = None
    devices: int | None = None
    rounds: int = 0
    note: str = ""


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds until a call's work is finished, and its result.

    Args:
      call: returns when its work is done, or returns JAX arrays, which are waited for.
    """
    start = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - start, result


def alternate(calls: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Times several calls in turn, so that what else the machine does falls on all of them alike.

    Args:
      calls: {name: call}, each warmed up (compiled) before.
      rounds: how often each is timed.

    Returns:
      {name: seconds [rounds]}; the same index is the same round.

    Raises:
      ValueError: rounds < 1.
    """
    if rounds < 1:
        raise ValueError(f"rounds is {rounds}; a measurement needs at least one")
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            seconds[name].append(timed(call)[0])
    return seconds


def compared(name: str, peer: str, ours: Sequence[float], peers: Sequence[float], least_s: float | None, **more: Any) -> Row:
    """The row of rounds in which ours took `ours` and the peer `peers` seconds.

    Args:
      name, peer: of the row.
      ours, peers: seconds of the same rounds, equally many.
      least_s: the least time this machine could need, from `roofline.least_seconds`; None: not known.
      **more: further fields of the row.
    """
    ratios = [theirs / own for own, theirs in zip(ours, peers, strict=True)]
    ours_s = statistics.median(ours)
    return Row(
        name, peer, ours_s, statistics.median(peers), statistics.median(ratios), min(ratios), max(ratios),
        None if least_s is None else least_s / ours_s, rounds=len(ratios), **more,
    )  # fmt: skip


def alone(name: str, ours: Sequence[float], least_s: float | None, **more: Any) -> Row:
    """The row of work that has no peer."""
    ours_s = statistics.median(ours)
    return Row(name, "", ours_s, roofline_share=None if least_s is None else least_s / ours_s, rounds=len(ours), **more)


def write_json(path: Path, device: str, versions: Mapping[str, str], size: str, rows: Sequence[Row], **more: Any) -> None:
    """Writes `{device, versions, size, rows: [...], ...}`; numbers that are not finite become null.

    Args:
      path: the file; replaced as a whole, so that a reader never sees half of it.
      device: of the measurement, in words.
      versions: {package: version}.
      size: "small", "paper" or "large".
      rows: all of them.
      **more: further entries.
    """
    finite = lambda value: None if isinstance(value, float) and not math.isfinite(value) else value  # noqa: E731
    listed = [{name: finite(value) for name, value in row._asdict().items()} for row in rows]
    content = {"device": device, "versions": dict(versions), "size": size, "rows": listed, **more}
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Prints a table of the rows, a share of the roofline in per cent, notes beneath it."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if Console().is_terminal else 150)
    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left")
    table.add_column("work", ratio=3)
    table.add_column("peer", ratio=2)
    for head in ("ours s", "peer s", "ratio", "min - max", "images/s", "roofline", "differing", "peak MiB"):
        table.add_column(head, justify="right")
    shown = lambda value, form="{:.3g}", scale=1.0: "" if value is None else form.format(scale * value)  # noqa: E731
    for row in rows:
        spread = "" if row.ratio is None else f"{row.ratio_min:.2f} - {row.ratio_max:.2f}"
        numbers = (shown(row.ours_s), shown(row.peer_s), shown(row.ratio, "{:.2f}"), spread, shown(row.images_per_s, "{:,.0f}"))
        others = (shown(row.roofline_share, "{:.1f} %", 100), shown(row.differing, "{:.1e}"))
        table.add_row(row.name, row.peer, *numbers, *others, shown(row.peak_bytes, "{:,.0f}", 2**-20))
    console.print(table)
    for row in rows:
        if row.note:
            console.print(f"{row.name} / {row.peer or 'ours'}: {row.note}", highlight=False, soft_wrap=True)
