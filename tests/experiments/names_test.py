"""What one section of a configuration names of another may be skipped, missing or renamed: it runs, or one line says why not."""

import runpy
import shutil
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from mgan_jax import workdir
from mgan_jax.build import available, build, experiment
from mgan_jax.datasets.digits import digits
from mgan_jax.experiments import crafting, defending, detecting
from mgan_jax.experiments.attacking import build_attack, inner_attack
from mgan_jax.experiments.options import Options
from mgan_jax.types import LearnedAttack

CONFIGS = Path(__file__).parent.parent.parent / "configs"
NAMES = ("mgan", "threat_models", "attacks", "detectors", "defenses", "fooling", "transfer", "visualize")
SECTIONS = ("attacks", "teachers", "detectors", "defenses", "generators", "networks", "learners", "protocols")


class ReachedError(Exception):
    """The configuration was found to be right, and the folder is about to be taken."""


def smoke(name):
    config = runpy.run_path(CONFIGS / f"{name}.py")["get_config"]("digits" if name == "threat_models" else "smoke").unlock()
    if name == "attacks":
        # Every row is built for itself: a few are enough.
        config.rows = ("fgsm", "bim", "carlini_wagner_l2", "mgan")
    return config


def named(config):
    """(section, entry) of everything that has a name, and (None, attack) of what may be skipped."""
    pairs = [(section, entry) for section in SECTIONS for entry in config.get(section, {})]
    return [*pairs, *((None, entry) for entry in config.attacks if "skip" in config)] if "attacks" in config else pairs


def said(config, monkeypatch, tmp_path):
    """The line that refuses the configuration before the folder is taken; None where nothing is wrong with it."""

    def reached(*_):
        raise ReachedError

    with monkeypatch.context() as patched:
        patched.setattr(workdir, "open_workdir", reached)
        try:
            experiment(config.experiment)(config, Options(tmp_path / "run"))
        except ReachedError:
            return None
        except ValueError as error:
            assert "\n" not in str(error)
            return str(error)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The main job's configuration on tiny networks, and the folder of its run."""
    place = tmp_path_factory.mktemp("whole")
    config = runpy.run_path(Path(__file__).with_name("small.py"))["small"]("mgan", place)
    experiment("mgan")(config, Options(place / "run"))
    return config, place / "run"


@pytest.mark.parametrize("entry", list(smoke("mgan").attacks))
def test_the_main_job_runs_to_its_end_without_an_attack(entry, whole, tmp_path):
    """Its networks and images are those of the whole run, where they are made from the same."""
    config, path = whole
    tested = lambda folder, names: [  # noqa: E731
        name for name in names if Path(folder).name == "stages" and not name.startswith("attack_")
    ]
    shutil.copytree(path, tmp_path / "run", ignore=tested)
    (tmp_path / "run" / "report.html").unlink()
    shorter = ConfigDict(config).unlock()
    # That is AdvGAN with MGAN's margin, which without one of them is refused.
    shorter.skip = (entry, "advgan_margin") if entry in ("advgan", "mgan") else (entry,)
    assert entry not in {row["attack"] for row in experiment("mgan")(shorter, Options(tmp_path / "run"))["rows"]}
    assert (tmp_path / "run" / "report.html").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_an_entry_that_is_skipped_missing_or_renamed_is_no_traceback(name, monkeypatch, tmp_path):
    assert said(smoke(name), monkeypatch, tmp_path) is None
    for section, entry in named(smoke(name)):
        config = smoke(name)
        if section is None:
            config.skip = (*config.skip, entry)
        else:
            kept = {other: config[section][other] for other in config[section] if other != entry}
            config[section] = ConfigDict({**kept, f"{entry}_": config[section][entry]}, sort_keys=False)
        line = said(config, monkeypatch, tmp_path)
        assert line is None or section is not None or entry in line, (section, entry, line)


def test_a_kind_of_mutant_that_there_is_not_is_refused(monkeypatch, tmp_path):
    config = smoke("mgan")
    config.mutation.gaussian_fuzing = ConfigDict({"scale": 2.0})
    assert "config.mutation has 'gaussian_fuzing'" in said(config, monkeypatch, tmp_path)


def test_an_attack_that_learns_is_refused_wherever_one_is_run_as_it_is_built(monkeypatch, tmp_path, target):
    """All of configs/attacks.py that learn: as a row of the main job, in another, as what detectors or defenses learn from."""
    rows, data, learned = smoke("attacks").attacks, digits(0), []
    for row in (row for row in rows if row not in ("advgan", "mgan")):
        if not isinstance(build_attack(rows[row], row, target[0], data), LearnedAttack):
            continue
        method = rows[row].get("method", row)
        learned.append(method)
        main, detected, defended = smoke("mgan"), smoke("detectors"), smoke("defenses")
        main.attacks[method] = ConfigDict({})
        assert method in said(main, monkeypatch, tmp_path)
        detected.attacks[row] = defended.attacks[row] = rows[row]
        detected.detectors.supervised_reconstruction.learned_from = (row,)
        with pytest.raises(ValueError, match=f"learned_from names {row}, which learns on images"):
            detecting.build_detector(detected, detected.detectors.supervised_reconstruction, "one", target[0], data)
        defended.defenses.non_robust_features.learned_from = (row,)
        with pytest.raises(ValueError, match=f"learned_from names {row}, which learns on images"):
            defending.build_defense(defended, "non_robust_features", target[0], data)
    assert {"universal_perturbation", "adversarial_patch", "substitute_model"} <= set(learned) <= set(available("attacks"))
    universal = build("attacks", "universal_perturbation", apply_fn=target[0].apply)
    with pytest.raises(ValueError, match=r"config\.attacks names it, which learns on images"):
        crafting.that_learns_nothing(universal, "config.attacks names it")
    with pytest.raises(ValueError, match="inside another is universal_perturbation, which learns on images"):
        inner_attack("universal_perturbation", {}, target[0].apply)
