"""What every page shows."""

import re

from mgan_jax.report.document import sanity_section, write_document


def test_a_line_that_does_not_hold_is_red_and_alone_in_that(tmp_path):
    lines = [
        {"claim": "pixels are inside", "value": 0, "holds": True},
        {"claim": "more steps are not weaker", "value": -0.2, "holds": False},
        {"claim": "black box is not stronger", "value": None, "holds": None},
    ]
    results = {"config": {}, "seed": 0, "device": "1 x cpu", "versions": {}, "seconds": 1.0, "sanity": lines,
               "target": {"name": "mlp", "test_accuracy": 0.9, "num_images": 10}}  # fmt: skip
    write_document(tmp_path / "report.html", results, "A page", "lead", [], [])
    page = (tmp_path / "report.html").read_text()
    broken = [row for row in re.findall("<tr.*?</tr>", page, re.S) if 'class="broken' in row]
    assert len(broken) == 1 and "more steps are not weaker" in broken[0]
    assert re.search(r"\.broken[^{]*{[^}]*color", page)
    assert sanity_section({**results, "sanity": []}) == []
