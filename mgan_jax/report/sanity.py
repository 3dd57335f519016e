"""Lines of what must hold as a table."""

from mgan_jax.report.tables import Table

TEXT = "What must hold wherever attacks are measured honestly; comparisons allow two standard errors."
CAPTION = "A line in red points at a bug, or at gradients that are masked."


def checked_table(title: str, checked: list[dict]) -> tuple[Table, tuple[int, ...]]:
    """Lines `{claim, value, holds}` as a table, and which of them do not hold."""
    said = {True: "holds", False: "DOES NOT HOLD", None: "–"}
    lines = [[one["claim"], "–" if one["value"] is None else f"{one['value']:.4g}", said[one["holds"]]] for one in checked]
    broken = tuple(i for i, one in enumerate(checked) if one["holds"] is False)
    return (title, ["what must hold", "measured", ""], lines), broken
