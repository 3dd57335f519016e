"""How many images a number is of, in words, and whether that is too few."""

from collections.abc import Iterable

FEW = 50
"""Images below which a share may say nothing: its interval may be more than a quarter wide."""


def between(values: Iterable[float | None]) -> str:
    """One number, or the least and the greatest."""
    found = sorted({round(value) for value in values if value is not None})
    return "–" if not found else f"{found[0]}" if len(found) == 1 else f"{found[0]} to {found[-1]}"


def sized(counts: Iterable[float | None], name: str = "n") -> str:
    """The number of images that a sentence is about, and whether they are too few to say anything."""
    counts = [count for count in counts if count is not None]
    few = f" (fewer than {FEW}, too few to say anything)" if counts and min(counts) < FEW else ""
    return f"{name} = {between(counts)}{few}"
