"""Trials share a target and mutants, differ by what they change, and are read again."""

import runpy
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from mgan_jax.build import experiment
from mgan_jax.experiments.options import Options
from mgan_jax.report.over_seeds import trials_tables

CONFIG = Path(__file__).parent.parent.parent / "configs" / "trials.py"
WIDE = {"generator": {"widths": (4, 8)}, "attacks": {"mgan": {"arguments": {"kappa": 3.0}}}}


def small(**trials):
    config = runpy.run_path(CONFIG)["get_config"]("smoke").unlock()
    config.target.update({"name": "mlp", "epochs": 8, "chunk_size": 40, "learning_rate": 5e-3})
    config.target.model = ConfigDict({"widths": (32,)})
    config.generator.update({"widths": (4, 4), "num_residual_blocks": 1})
    config.discriminator.widths = (4, 8)
    config.testing.operators, config.protocols.qualified.min_accuracy_ratio = ("NAI",), 0.1
    config.trials = ConfigDict(trials, sort_keys=False)
    return config


def run(config, path, seeds=(0,)):
    return experiment("trials")(config, Options(path, seeds=seeds))


def test_trials_differ_in_the_generator_and_share_all_else(tmp_path, capsys):
    results = run(small(plain={}, wide=WIDE), tmp_path / "run")
    rows = {
        trial: [row for row in results["rows"] if row["trial"] == trial and row.get("operator")] for trial in ("plain", "wide")
    }
    assert [row["protocol"] for row in rows["plain"]] == [row["protocol"] for row in rows["wide"]] == ["unfiltered", "qualified"]
    assert rows["plain"][0]["linf"] != rows["wide"][0]["linf"]
    assert rows["plain"][0]["kappa"] == rows["wide"][0]["kappa"] and rows["plain"][0]["num_images"] == 100
    assert results["notes"] == ["The images tested are half of the validation images, to choose by; no test image was seen."]
    mutants = [(tmp_path / "run" / "trials" / name / "stages" / "mutants_NAI_unfiltered.npz") for name in ("plain", "wide")]
    assert all(path.is_file() for path in mutants)
    said = capsys.readouterr().out
    assert (
        "wide, mgan" in said and "class-matched ratio" in said and [len(table[2]) for table in trials_tables(results)] == [2] * 7
    )
    again = run(small(plain={}, wide=WIDE), tmp_path / "run")
    assert again["rows"] == results["rows"]
    config = small(plain={}, wide=WIDE)
    config.rows = ("wide",)
    assert run(config, tmp_path / "one")["rows"] == [row for row in results["rows"] if row["trial"] == "wide"]


@pytest.mark.parametrize(
    ("trial", "message"),
    [
        ({"generator": {"width": (4,)}}, "config.trials.wrong does not fit the configuration: .*width"),
        ({"attacks": {"mgan": {"arguments": {"kappa": "much"}}}}, "config.trials.wrong does not fit the configuration"),
        ({"attacks": {"mgan": {"arguments": {"beta": -1.0}}}}, "beta is -1.0"),
    ],
)
def test_a_trial_that_changes_what_there_is_not_is_refused_before_a_folder_is_touched(trial, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(small(plain={}, wrong=trial), tmp_path / "run")
    assert not (tmp_path / "run").exists()
