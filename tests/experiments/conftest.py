"""The page of several seeds, from the results of one."""

import base64
import re

import pytest

from mgan_jax.report import results as report_results


def higher(name, rows):
    """The rows of the list `name`, every measure of them somewhat higher, counts by one."""
    identity = (*report_results.IDENTITY, *report_results.IDENTITY_OF.get(name, ()))
    moved = {int: 1, float: 0.01}
    return [
        {field: value + (0 if field in identity else moved.get(type(value), 0)) if type(value) in moved else value
         for field, value in row.items()}
        for row in rows
    ]  # fmt: skip


@pytest.fixture
def several_seeds(tmp_path):
    """`several_seeds(write, results, *material) -> page`: that of a seed's results and of an invented second seed's.

    In it is also the text of its figures.
    """

    def page_of(write, results, *material):
        results = report_results.plain(results)
        lists = {name: rows for name, rows in results.items() if isinstance(rows, list) and name != "sanity"}
        other = {**results, "seed": 1, **{name: higher(name, rows) for name, rows in lists.items()}}
        joined = report_results.mean_and_spread([results, other])
        for name, rows in lists.items():
            assert len(joined[name]) == len(rows), f"two of {name} are taken for one"
        write(tmp_path / "joined.html", joined, *material)
        page = (tmp_path / "joined.html").read_text()
        drawn = [base64.b64decode(of).decode() for of in re.findall(r"data:image/svg\+xml;base64,([^\"]+)", page)]
        page = "\n".join([re.sub(r"data:image/[^\"]+", "", page), *drawn])
        assert "seeds 0, 1: mean ± sample standard deviation; pictures" in page and "<dt>seeds</dt><dd>0, 1</dd>" in page
        assert re.search(r"<td>[\d.]+±[\d.]+</td>", page), "a table has means with deviations"
        assert not re.findall(r"\b[nMN] = \d+\.\d+", page), "counts are whole numbers"
        assert "interval" not in page, "several seeds have deviations"
        return page

    return page_of
