"""Mutants against PyTorch: votes, generation, the sequential test, and how time and memory grow.

python -m benchmarks.mutants --size=small|paper|large [--json=FILE] [--rows=REGEX] [--data_dir=FOLDER]
"""

from collections.abc import Iterator

from benchmarks import command_line, generation, scaling, sequential, votes
from benchmarks.timing import Row


def rows(settings: command_line.Settings) -> Iterator[Row]:
    """All rows of a size, one after the other."""
    for part in (votes, generation, sequential, scaling):
        yield from part.rows(settings)


if __name__ == "__main__":
    command_line.run("mutants", command_line.parse(__doc__), rows)
