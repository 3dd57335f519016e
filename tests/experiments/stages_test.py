"""Every kind of stage of every experiment: no input of it changes unseen, and killed in it a run continues to the same rows."""

import copy
import importlib
import json
import os
import pkgutil
import runpy
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import FunctionType

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from ml_collections.config_dict import RequiredValueError

from mgan_jax import checkpoint, experiments, workdir
from mgan_jax.build import experiment
from mgan_jax.experiments import stages, training
from mgan_jax.experiments.options import Options
from mgan_jax.workdir import WorkdirMismatch

SMALL = runpy.run_path(Path(__file__).with_name("small.py"))
MODULES = [importlib.import_module(f"mgan_jax.experiments.{one.name}") for one in pkgutil.iter_modules(experiments.__path__)]
RUNS = sorted(module.__name__.rpartition(".")[2] for module in MODULES if callable(getattr(module, "run", None)))


def timeless(value):
    """A result without what the clock says."""
    if isinstance(value, dict):
        return {name: timeless(of) for name, of in value.items() if "seconds" not in name and name != "config"}
    return [timeless(of) for of in value] if isinstance(value, list) else value


def finished(config, path):
    experiment(config.experiment)(config, Options(path))
    file = path / ("target.json" if config.experiment == "target" else "results.json")
    return timeless(json.loads(file.read_text()))


@pytest.fixture(scope="module", params=RUNS)
def done(request, tmp_path_factory):
    """(configuration, folder, results, [(claim, what it was made from, what makes it)]) of a whole run of an experiment."""
    place, claims, origins, makes = tmp_path_factory.mktemp(request.param), [], {}, {}
    config, claim, origin, stage = SMALL["small"](request.param, place), workdir.claim, stages.made_from, workdir.stage

    def noted(run, sections, inputs):
        found = origin(run, sections, inputs)
        origins[id(found)] = (found, run, sections, inputs)
        return found

    def noted_stage(path, name, made_from, make):
        makes[path, name] = make
        return stage(path, name, made_from, make)

    def noted_claim(path, name, made_from, output):
        claims.append(((path, name, output), origins[id(made_from)][1:], makes.get((path, name))))
        return claim(path, name, made_from, output)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(workdir, "claim", noted_claim)
        patched.setattr(workdir, "stage", noted_stage)
        for module in MODULES:
            if getattr(module, "made_from", None) is origin:
                patched.setattr(module, "made_from", noted)
        results = finished(config, place / "run")
    return config, place, results, claims


def others(value):
    """A value changed in every one of its parts in turn, a leaf each."""
    if isinstance(value, Mapping):
        return [{**value, name: other} for name, of in value.items() for other in others(of)] or [{"more": 1}]
    leaves, structure = jax.tree.flatten(value)
    if not leaves:
        return ["more"]
    return [structure.unflatten([*leaves[:i], changed(leaf), *leaves[i + 1 :]]) for i, leaf in enumerate(leaves)]


def changed(leaf):
    if isinstance(leaf, (np.ndarray, jax.Array)):
        array = np.array(leaf)
        if not array.size:
            return np.ones(1)
        flat = array.reshape(-1)
        flat[-1] = ~flat[-1] if flat.dtype == bool else "other" if flat.dtype.kind == "U" else flat[-1] + 1
        return array
    return not leaf if isinstance(leaf, bool) else f"{leaf}?" if isinstance(leaf, str) else leaf + 1


def with_another(config, section):
    """The configuration with one field more in a section, or another value."""
    other = ConfigDict(copy.deepcopy(config.to_dict()), type_safe=False)
    *parents, last = section.split(".")
    there = other
    for parent in parents:
        there = there[parent]
    value = there[last]
    if isinstance(value, ConfigDict):
        value["another_field"] = 1
    else:
        there[last] = (*value, 1) if isinstance(value, tuple) else 1 if value is None else changed(value)
    return other


def refused(claim, run, sections, inputs, where):
    path, name, output = claim
    with pytest.raises(WorkdirMismatch, match=where) as raised:
        workdir.claim(path, name, stages.made_from(run, sections, inputs), output)
    assert "\n" not in str(raised.value) and str(output) in str(raised.value)


def test_a_stage_is_refused_whatever_of_its_inputs_changes(done):
    _, place, _, claims = done
    seen, files = set(), {file.relative_to(place) for file in place.rglob("made_from/*.json")}
    for claim, (run, sections, inputs), _ in claims:
        path, name, output = claim
        seen.add((path / workdir.MADE_FROM / f"{name}.json").relative_to(place))
        # What has no state, as a squeezer has none, is made anew.
        if not output.exists():
            continue
        workdir.claim(path, name, stages.made_from(run, sections, inputs), output)
        refused(claim, run._replace(seed=run.seed + 1), sections, inputs, rf"config\.seed: {run.seed} there")
        refused(claim, run._replace(data="other"), sections, inputs, r"config\.data")
        for which, value in inputs.items():
            for other in others(value):
                refused(claim, run, sections, {**inputs, which: other}, rf"config\.inputs\.{which}")
        for section in dict.fromkeys((*stages.ALWAYS, *run.sections, *sections)):
            declared = (*stages.ALWAYS, *run.sections, *sections)
            other = run._replace(config=with_another(stages.part(run.config, declared), section))
            refused(claim, other, sections, inputs, rf"config\.{section}")
    assert seen == files, "every stage there is says what it was made from"


DERIVED = {
    "key": "drawn of the seed and the stage's own name",
    "used": "the mutants left out, whose overlap is refused, see `stages`",
    "clean": "what the target says of the clean images",
    "subjects": "what the target says of the images made of them",
    "decisions": "what the target says of the images brought",
    "chosen": "which of these count, by their labels and what the target says",
    "correct": "which clean images the target classifies correctly",
    "subject": "what a picture shows of it are inputs, which take the place of its own",
    "aims": "the numbers of the classes",
}
"""What of one axis at most a stage may hold beside its inputs, by the name under which it holds it, and why."""


def held(value, name, found, depth=0):
    """(name, value) of arrays and sets that a function of the experiments holds beside its arguments, into `found`."""
    of = partial(held, found=found, depth=depth + 1)
    if isinstance(value, (np.ndarray, jax.Array, frozenset, set)):
        found.append((name, value))
    elif isinstance(value, stages.Run) or depth > 12:
        return
    elif isinstance(value, Mapping):
        for one in value.values():
            of(one, name)
    elif isinstance(value, (tuple, list)):
        for one in value:
            of(one, name)
    elif isinstance(value, partial):
        of((value.func, value.args, value.keywords), name)
    elif isinstance(value, FunctionType) and value.__module__.startswith("mgan_jax.experiments"):
        for variable, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            of(cell.cell_contents, variable)
        defaults, code = value.__defaults__ or (), value.__code__
        names = code.co_varnames[code.co_argcount - len(defaults) : code.co_argcount]
        for variable, one in (*zip(names, defaults, strict=True), *(value.__kwdefaults__ or {}).items()):
            of(one, variable)
    elif hasattr(value, "__wrapped__"):
        # Of functools.cache, and of jit.
        of(value.__wrapped__, name)


def test_no_array_reaches_a_stage_but_as_an_input(done):
    strange = {}
    for (_, stage, _), (_, _, inputs), make in done[3]:
        leaves = [leaf for leaf in jax.tree.leaves(inputs) if isinstance(leaf, (np.ndarray, jax.Array))]
        given, found = {checkpoint.digest(leaf) for leaf in leaves}, []
        held(make, "make", found)
        for name, value in found:
            whole = isinstance(value, (frozenset, set))
            if (name not in DERIVED or np.ndim(value) > 1) and (whole or checkpoint.digest(value) not in given):
                strange.setdefault(name, []).append((stage, np.shape(value)))
    assert not strange, "held beside the inputs"


class KilledError(BaseException):
    """The process is gone; what it wrote is there."""


def kind_of(name):
    """Stages of one kind are made alike: attacks each in a way of its own, and populations, others by their first word."""
    return name if name.startswith(("attack_", "mutants_")) else name.partition("_")[0]


def kinds_of(place):
    """(folder, kind) of every stage that says what it was made from and has something that is kept."""
    found = set()
    for file in place.rglob("made_from/*.json"):
        kept = {"stages": f"stages/{file.stem}.npz", "checkpoints": f"checkpoints/{file.stem}"}
        found |= {(folder, kind_of(file.stem)) for folder, output in kept.items() if (file.parents[1] / output).exists()}
    return found


def test_killed_in_any_kind_of_stage_it_continues_to_the_same_rows(done, tmp_path, monkeypatch):
    """Killed before its results have their name: every kind of stage, and every training before and after its first save."""
    config, _, results, _ = done
    path, killed, replace = tmp_path / "run", set(), os.replace
    monkeypatch.setattr(training, "SECONDS_BETWEEN_SAVES", 0.0)

    def killing(source, to):
        to = Path(to)
        kind = next((folder for folder in ("stages", "checkpoints") if folder in to.parts and path in to.parents), None)
        if kind is not None and to.name != "clock.npz":
            name = to.stem if kind == "stages" else to.parent.name
            kind = (kind, kind_of(name), checkpoint.latest_step(to.parent) is None)
            if kind not in killed:
                killed.add(kind)
                if Path(source).is_file():
                    Path(source).write_bytes(Path(source).read_bytes()[:100])
                raise KilledError
        return replace(source, to)

    monkeypatch.setattr(os, "replace", killing)
    for _ in range(100):
        try:
            assert finished(config, path) == results
            break
        except KilledError:
            continue
    assert {kind[:2] for kind in killed} == kinds_of(path) != set() and finished(config, path) == results


def test_a_stage_reads_nothing_of_the_configuration_but_its_sections():
    config = ConfigDict({"dataset": {"name": "digits"}, "target": {"name": "mlp"}, "testing": {"method": "auto", "num_images": 3},
                         "epsilon": 0.3, "attacks": {"pgd": {"arguments": {}, "unaware": False}, "fgsm": {}}})  # fmt: skip
    run = stages.Run(config, None, 0, None, None)
    declared = ("dataset", "target", "testing.method", "attacks.pgd")
    seen = stages.narrowed(run, ("attacks.pgd",)).config
    assert stages.part(seen, declared).to_dict() == {"dataset": {"name": "digits"}, "target": {"name": "mlp"},
                                                     "testing": {"method": "auto"},
                                                     "attacks": {"pgd": {"arguments": {}}}}  # fmt: skip
    hidden = ((seen.testing, "num_images"), (seen.attacks, "fgsm"), (seen.attacks.pgd, "unaware"), (seen, "epsilon"))
    for section, name in hidden:
        for read in (getattr, ConfigDict.__getitem__, ConfigDict.get, lambda section, name: section.get(name, {})):
            with pytest.raises(RequiredValueError):
                read(section, name)
        assert name in section and name in list(section), "what there is in the configuration is not taken to be absent"
    assert "bim" not in seen.attacks and seen.attacks.get("bim", {}) == {}, "what nobody named is absent"
    assert stages.part(stages.narrowed(run, ("attacks.pgd",)).config, ("attacks.pgd",)) == stages.part(config, ("attacks.pgd",))
    assert "unaware" in config.attacks.pgd, "the configuration itself is as it was"


def test_two_experiments_share_an_attack_on_the_same_images_alone(tmp_path):
    """Same target and attack sections, another choice of test images."""
    first, other = SMALL["small"]("attacks", tmp_path), SMALL["small"]("defenses", tmp_path)
    first.rows, first.curve.attacks, first.testing.operators = ("fgsm",), (), ()
    other.rows, other.masking.black_box, other.masking.single_step = ("bit_depth",), "", ""
    other.attacks.fgsm, other.target = first.attacks.fgsm, first.target
    finished(first, tmp_path / "run")
    before = {file: file.read_bytes() for file in (tmp_path / "run" / "stages").glob("*")}
    with pytest.raises(WorkdirMismatch, match=r"attack_fgsm\.npz was made from something else \(config\.inputs\.images: "):
        finished(other, tmp_path / "run")
    assert {file: file.read_bytes() for file in (tmp_path / "run" / "stages").glob("*")} == before
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "run").rglob("*.npz")}
    first.rows = ("fgsm", "bim")
    finished(first, tmp_path / "run")
    assert all(file.stat().st_mtime_ns == time for file, time in times.items() if file.name != "adversarial.npz")


def test_a_margin_of_other_validation_images_is_refused(tmp_path):
    config = SMALL["small"]("mgan", tmp_path)
    config.skip, config.threats.attacks = ("pgd", "pgd_mutants"), ()
    finished(config, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "made_from" / "advgan_margin.json").read_text())["inputs"]["changes"]["mean_margin"] > 0
    config.testing.num_validation_images = 90
    with pytest.raises(WorkdirMismatch, match=r"mean_margin\.npz was made from something else \(config\.inputs\.images"):
        finished(config, tmp_path / "run")
    (tmp_path / "run" / "stages" / "mean_margin.npz").unlink()
    with pytest.raises(
        WorkdirMismatch, match=r"advgan_margin was made from something else \(config\.inputs\.changes\.mean_margin"
    ):
        finished(config, tmp_path / "run")


def test_every_experiment_is_among_them():
    assert set(RUNS) == set(SMALL["EXPERIMENTS"])
