"""Progress bars and tables in the terminal."""

import contextlib
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator

from mgan_jax.report.over_seeds import over_seeds
from mgan_jax.report.tables import Table, number, percent, protocol_rows, slides_table, tables, threat_table, verdict


def remaining(seconds: float) -> str:
    """A duration as h:mm:ss or m:ss."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


COMPILES = "/jax/core/compile/backend_compile_duration"
"""JAX's name for XLA at work: a scalar says that it begins, a duration that it has ended."""
LONG_SECONDS = 3.0
"""A compilation that has taken as long is worth a word."""


@contextlib.contextmanager
def compilations() -> Iterator[Callable[[], float]]:
    """Yields `seconds()`, for how long the oldest of the programs that XLA compiles now has taken; 0 while there is none."""
    import jax.monitoring

    since: dict[int, float] = {}

    def begin(event: str, *_: float, **__: str) -> None:
        if event == COMPILES:
            since[threading.get_ident()] = time.monotonic()

    def end(event: str, *_: float, **__: str) -> None:
        if event == COMPILES:
            since.pop(threading.get_ident(), None)

    jax.monitoring.register_scalar_listener(begin)
    jax.monitoring.register_event_duration_secs_listener(end)
    try:
        yield lambda: time.monotonic() - min(tuple(since.values()), default=time.monotonic())
    finally:
        jax.monitoring.unregister_scalar_listener(begin)
        jax.monitoring.unregister_event_duration_listener(end)


@contextlib.contextmanager
def progress(enabled: bool) -> Iterator[Callable[..., Callable[..., None]]]:
    """Progress bars with rate, remaining time and the last numbers; silent where disabled or without a terminal.

    The rate is that since the first update, so that neither compilation nor steps of an earlier run count. A compilation that
    takes long stands in its place, in the newest line of those that are not done.

    Yields:
      `start(name, total, unit) -> update(done, **numbers)`.
    """
    if not (enabled and sys.stdout.isatty()):
        yield lambda name, total, unit: lambda done, **numbers: None
        return
    from rich.progress import BarColumn, Progress, Task, TextColumn
    from rich.table import Column
    from rich.text import Text

    def kept(text: str, width: int) -> TextColumn:
        return TextColumn(text, table_column=Column(no_wrap=True, min_width=width))

    rate = kept("", 26)
    columns = [
        kept("{task.description}", 16),
        BarColumn(bar_width=10),
        kept("{task.completed:.0f}/{task.total:.0f}", 9),
        rate,
        TextColumn("{task.fields[numbers]}", table_column=Column(no_wrap=True, ratio=1)),
    ]
    with compilations() as seconds, Progress(*columns, expand=True) as display:

        def shown_rate(task: Task) -> Text:
            newest = max(display.tasks, key=lambda other: (not other.finished, other.id))
            compiles = task.id == newest.id and seconds() > LONG_SECONDS
            return Text(f"compiling, {remaining(seconds())}" if compiles else task.fields["rate"])

        rate.render = shown_rate

        def start(name: str, total: int, unit: str) -> Callable[..., None]:
            task = display.add_task(name, total=total, unit=unit, numbers="", rate="")
            first: list[tuple[float, float]] = []

            def update(done: int, **numbers: float) -> None:
                now = time.monotonic()
                first[:] = first or [(now, done)]
                passed, steps = now - first[0][0], done - first[0][1]
                rate = ""
                if steps > 0 and passed > 0:
                    rate = f"{steps / passed:.1f} {unit}/s, {remaining((total - done) * passed / steps)} left"
                shown = "  ".join(f"{key} {float(value):.3g}" for key, value in list(numbers.items())[:4])
                display.update(task, completed=done, numbers=shown, rate=rate)

            return update

        yield start


def print_table(table: Table, width: int = 118) -> None:
    """Prints a table as aligned plain text; long column names take several lines, and columns move together to fit."""
    title, heads, lines = table
    widths = [max(map(len, [*head.split(), *cells])) for head, *cells in zip(heads, *lines, strict=True)]
    names = [textwrap.wrap(head, size) for head, size in zip(heads, widths, strict=True)]
    height = max(map(len, names))
    over = [[*[""] * (height - len(name)), *name] for name in names]
    gap = "  " if sum(widths) + 2 * (len(widths) - 1) <= width else " "
    print(f"\n{title}")
    for line in [*zip(*over, strict=True), *lines]:
        cells = [f"{cell:>{size}}" if i else f"{cell:<{size}}" for i, (cell, size) in enumerate(zip(line, widths, strict=True))]
        print(gap.join(cells).rstrip())


def print_tables(results: dict) -> None:
    """Prints the target, the slides' table of each protocol, all other tables, and what they say."""
    target = results["target"]
    deviation = f"±{percent(target['test_accuracy_std'], 2)}" if target.get("test_accuracy_std") is not None else ""
    accuracy = f"{percent(target['test_accuracy'], 2)}{deviation} % of {number(target['num_images'], 0)} test images"
    print(f"target {target['name']}: {accuracy}")
    if "seeds" in results:
        print(f"seeds {', '.join(map(str, results['seeds']))}: mean ± sample standard deviation")
    slides = [slides_table(results, protocol) for protocol in protocol_rows(results)]
    for table in [*slides, *over_seeds(results), *tables(results), threat_table(results)]:
        if table[2]:
            print_table(table)
    print("\nM mutants, N images that the target classifies correctly and the attack flips, the same ones clean as normal;")
    print("ratio = LCR / normal LCR; TPR at 5 % false positives; SPRT - FP = detection minus false positives, in points.\n")
    for sentence in (*results.get("notes", ()), *verdict(results)):
        print(textwrap.fill(sentence, 118))
