"""Tables over seeds: the mean and the range of every number."""

import subprocess
import sys

from mgan_jax.report.over_seeds import markdown, over_seeds, ranged
from mgan_jax.report.results import mean_and_spread, write_results


def several(example):
    results, _ = example()
    seeds = []
    for seed, ratio in enumerate((0.9, 1.2, 1.05)):
        rows = [{**row, "seed": seed, "lcr_ratio": None if row.get("lcr_ratio") is None else ratio} for row in results["rows"]]
        seeds.append({**results, "seed": seed, "rows": rows})
    return mean_and_spread(seeds)


def test_a_range_is_the_least_and_the_largest_over_the_seeds():
    assert ranged({"auroc": 0.5, "auroc_range": [0.41, 0.6]}, "auroc", 2) == "0.50 (0.41 to 0.60)"
    assert ranged({"share": 0.5, "share_range": [0.4, 0.6]}, "share", 1, 100) == "50.0 (40.0 to 60.0)"
    assert ranged({"auroc": None}, "auroc", 2) == ranged({}, "auroc", 2) == "–"
    assert ranged({"auroc": 0.5}, "auroc", 2) == "0.50"


def test_a_line_an_operator_and_attack_and_nothing_of_one_seed(example):
    attacks, unfiltered, qualified = over_seeds(several(example))
    assert [line[0] for line in attacks[2]] == ["clean", "mgan", "advgan", "pgd"]
    assert [line[:2] for line in unfiltered[2]] == [[o, a] for o in ("GF", "LD") for a in ("mgan", "advgan", "pgd")]
    assert "unfiltered: rate 0.1" in unfiltered[0] and "over the seeds 0, 1, 2" in unfiltered[0]
    assert {line[3] for line in unfiltered[2]} == {"1.05 (0.90 to 1.20)"} and unfiltered[2][0][6] == "10.0 (10.0 to 10.0)"
    assert [line[3] for line in qualified[2] if line[0] == "LD"] == ["–"] * 3
    assert over_seeds(example()[0]) == []


def test_the_command_writes_markdown_of_some_attacks(example, tmp_path):
    joined = several(example)
    write_results(tmp_path / "results.json", joined)
    command = [sys.executable, "-m", "mgan_jax.report.over_seeds", str(tmp_path / "results.json"), "mgan"]
    said = subprocess.run(command, check=True, capture_output=True, text=True, encoding="utf-8").stdout
    joined["rows"] = [row for row in joined["rows"] if row["attack"] == "mgan"]
    assert said.strip() == "\n\n".join(markdown(table) for table in over_seeds(joined))
    assert "| GF | mgan | 5 | 1.05 (0.90 to 1.20) |" in said
