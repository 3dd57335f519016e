"""No mutant in two streams."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax import engine, population, workdir
from mgan_jax.attacks.mgan import mgan
from mgan_jax.attacks.pgd_mutants import pgd_mutants
from mgan_jax.experiments import crafting, curves, detecting, evading, mutation_testing, populations, sweeps, threats
from mgan_jax.experiments.crafting import WEIGHT_OPERATORS
from mgan_jax.experiments.measuring import measure
from mgan_jax.experiments.populations import NOTHING_USED, Streams
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.testing import Protocol
from mgan_jax.experiments.training import Run
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.models.mlp import mlp
from mgan_jax.types import Dataset, Split

CONFIG = ConfigDict({
    "epsilon": 0.3, "dataset": {"name": "digits"},
    "target": {"name": "mlp", "epochs": 1, "learning_rate": 5e-3, "batch_size": 8, "chunk_size": 2, "weight_decay": 0.0,
               "max_shift": 0, "model": {"widths": (22,)}},
    "mutation": {"neuron_switch": {"min_neurons": 2}},
    "protocols": {"unfiltered": {"rate": 0.1, "min_accuracy_ratio": 0.0}, "qualified": {"rate": 0.05, "min_accuracy_ratio": 0.9}},
    "attacks": {
        "mgan": {
            "epochs": 4, "batch_size": 8, "chunk_size": 4, "trained_on": ("all",),
            "arguments": {"num_mutants": 7, "redraw_every": 2},
        },
        "pgd_mutants": {"arguments": {"num_steps": 2, "num_mutants": 3}},
    },
    "undetected": {"weights": ()},
    "testing": {"num_mutants": 4, "num_validation_mutants": 4, "num_images": None, "num_validation_images": 8, "method": "auto"},
})  # fmt: skip


def run_of(images, path=None, config=CONFIG):
    split = Split(*(np.asarray(array) for array in images))
    quiet = lambda name, total, unit: lambda done, **numbers: None  # noqa: E731
    return Run(config, path, 0, Dataset(split, split, split, 10, (8, 8, 1), tuple("0123456789")), quiet)


def test_the_mutants_of_every_training_are_known_by_their_content(target, images, monkeypatch):
    classifier, variables = target
    seen = {"mgan": set(), "mgan_undetected_1": set(), "pgd_mutants": set()}
    now = None

    def marked(config, operator, rate):
        def mutate(key, variables):
            return {**variables, "mark": jax.random.key_data(key)}

        return mutate

    def apply_fn(variables, images):
        if "mark" in variables:
            jax.debug.callback(lambda mark: seen[now].add(tuple(mark.tolist())), variables["mark"])
        return classifier.apply({name: tree for name, tree in variables.items() if name != "mark"}, images)

    pairs = [(operator, name) for name in CONFIG.protocols for operator in WEIGHT_OPERATORS]
    mutations = [marked(CONFIG, operator, CONFIG.protocols[name].rate) for operator, name in pairs]
    arguments = CONFIG.attacks.mgan.arguments
    attack = mgan(apply_fn, generator(0.3, (4, 8), 1), discriminator((4, 8)), mutations, **arguments)
    state = attack.init(jax.random.key(2), (8, 8, 1))
    loss = jax.jit(attack.generator_loss)
    config = ConfigDict(CONFIG.to_dict())
    config.undetected.weights = (1.0,)
    monkeypatch.setattr(populations, "build_mutation", marked)
    with jax.debug_key_reuse(False):
        for now in ("mgan", "mgan_undetected_1"):
            for step in range(4):
                loss(state["generator"], state, stream_key(0, now, "steps"), step, variables, *images)
            jax.effects_barrier()
        now = "pgd_mutants"
        descend = pgd_mutants(apply_fn, mutations, **CONFIG.attacks.pgd_mutants.arguments)
        crafting.attacked(descend, stream_key(0, "attack", now), variables, *(np.asarray(array) for array in images))
        jax.effects_barrier()
        found = populations.training_digests(run_of(images, config=config), variables, ("all",))
    assert [len(of) for of in seen.values()] == [14, 14, 6]
    marks = set().union(*seen.values())
    assert set(found) == {population.digest({**variables, "mark": np.asarray(mark, np.uint32)}) for mark in marks}


def test_minus_zero_is_zero_and_everything_else_is_another_content(target):
    _, variables = target
    changed = lambda by: {**variables, "params": jax.tree.map(by, variables["params"])}  # noqa: E731
    zeros, minus = (changed(lambda leaf, zero=zero: jnp.where(leaf > 0, leaf, zero)) for zero in (0.0, -0.0))
    assert any(np.signbit(leaf[leaf == 0]).any() for leaf in map(np.asarray, jax.tree.leaves(minus)))
    assert population.digest(zeros) == population.digest(minus) != population.digest(variables)
    assert population.digest(changed(lambda leaf: leaf.astype(jnp.bfloat16))) != population.digest(variables)


@pytest.fixture(scope="module")
def few():
    """A network of few neurons, its variables, and digits as it reads them."""
    classifier = mlp((8, 8, 1), 10, (22,))
    variables = classifier.init(jax.random.key(3))
    images = np.random.default_rng(0).random((16, 8, 8, 1), np.float32)
    return classifier, variables, (images, engine.predictions(classifier.apply, variables, images))


def test_what_was_trained_on_or_validated_with_is_not_used_in_evaluation(few, tmp_path):
    classifier, variables, images = few
    protocol = Protocol("unfiltered", 0.1, 0.0)
    free, used = populations.draw(run_of(images, tmp_path / "free"), classifier, variables, "NAI", protocol, NOTHING_USED)
    assert used.tested == set(free.found.digests) and len(used.validated) == 4 and not used.tested & used.validated
    taken = Streams(frozenset(free.found.digests[:2]), frozenset(free.found.digests[2:3]), used.validated)
    run = run_of(images, tmp_path / "kept")
    kept, after = populations.draw(run, classifier, variables, "NAI", protocol, taken)
    assert kept.found.num_mutants == 4 and free.found.digests[3] in kept.found.digests
    assert not set(kept.found.digests) & set(free.found.digests[:3]) and not used.validated & (after.validated - taken.validated)
    again, _ = populations.draw(run, classifier, variables, "NAI", protocol, taken)
    assert again.found.digests == kept.found.digests == population.digests(again.found.variables) and again.kappa == kept.kappa
    with pytest.raises(workdir.WorkdirMismatch, match=r"1 of the mutants in .*\.npz are mutants of another"):
        populations.draw(run, classifier, variables, "NAI", protocol, taken._replace(trained=frozenset(kept.found.digests[:1])))


def by_test(run, classifier, variables, used):
    return populations.draw(run, classifier, variables, "NAI", Protocol("unfiltered", 0.1, 0.0), used)[0].found.digests


def by_stream(run, classifier, variables, used):
    how = {"rate": 0.1, "min_accuracy_ratio": 0.0}
    mutate = populations.build_mutation(run.config, "NAI", 0.1)
    return populations.sampled(run, "one", classifier, variables, mutate, how, 3, used)[0].digests


DETECTOR = {"operator": "NAI", "rate": 0.1, "arguments": {"num_mutants": 3, "min_accuracy_ratio": 0.0}}


def by_detector(run, classifier, variables, used):
    fitted, _ = detecting.detectors(run, ["label_change_rate"], classifier, variables, used)
    return population.digests(fitted["label_change_rate"].state)


def by_attacker(run, classifier, variables, used):
    fitted, _ = detecting.detectors(run, ["label_change_rate"], classifier, variables, NOTHING_USED)
    return population.digests(evading.stand_ins(run, fitted, classifier, variables, used)["label_change_rate"].state)


@pytest.mark.parametrize("drawn", [by_test, by_stream, by_detector, by_attacker])
def test_more_to_leave_out_is_the_same_population_or_refused(drawn, few, tmp_path):
    """A start with more rows has used more mutants before: what is kept is what it would draw, or it is told."""
    classifier, variables, images = few
    config = ConfigDict({**CONFIG.to_dict(), "joint": (), "detectors": {"label_change_rate": DETECTOR},
                         "adaptive": {"detectors": ("label_change_rate",), "num_mutants": 3}})  # fmt: skip
    config.testing.update({"num_fit_images": 16, "batch_size": 16})
    kept, anew = (run_of(images, tmp_path / name, config) for name in ("kept", "anew"))
    found = drawn(kept, classifier, variables, NOTHING_USED)
    more = Streams(tested=frozenset({"0" * 64}))
    assert found == drawn(kept, classifier, variables, more) == drawn(anew, classifier, variables, more) and len(set(found)) > 2
    taken = Streams(trained=frozenset(found[-1:]))
    assert found[-1] not in drawn(run_of(images, tmp_path / "apart", config), classifier, variables, taken)
    with pytest.raises(workdir.WorkdirMismatch, match=r"1 of the mutants in .* are mutants of another"):
        drawn(kept, classifier, variables, taken)


@pytest.fixture(scope="module")
def streams(few, tmp_path_factory):
    """{stream: digests} of every population that two experiments draw of one network, of whose 32 neurons NAI changes one."""
    classifier, variables, images = few
    detector = {"operator": "NAI", "rate": 0.05, "arguments": {"num_mutants": 3, "min_accuracy_ratio": 0.0}}
    config = ConfigDict({
        **CONFIG.to_dict(), "joint": ("label_change_rate", "sprt"),
        "threats": {"attacks": ("noise",), "rates": (0.06,), "targets": {"another seed": {}}},
        "detectors": {"label_change_rate": detector, "sprt": detector},
        "adaptive": {"detectors": ("joint",), "num_mutants": 3},
        "confidence": {"attack": "carlini_wagner_l2", "kappas": (), "num_images": 4, "arguments": {}, "batch_size": 4},
    })  # fmt: skip
    config.protocols.unfiltered.rate, config.protocols.qualified.min_accuracy_ratio = 0.05, 0.1
    config.testing.update({"num_mutants": 3, "num_validation_mutants": 3})
    config.testing.update({"operators": ("NAI",), "num_fit_images": 16, "batch_size": 16, "epsilon_shares": ()})
    config.attacks.mgan.arguments.num_mutants, config.attacks.noise = 5, {}
    run, test = run_of(images, tmp_path_factory.mktemp("streams"), config), Split(*images)
    made = {("noise", None): images[0][::-1]}
    used = populations.trained(run, variables)
    *_, used = measure(run, classifier, variables, test, made, judged=False, used=used)
    _, used = threats.threat_rows(run, classifier, variables, test, made, used)
    _, used = curves.epsilon_rows(run, classifier, variables, test, {}, used)
    sweeps.confidence_rows(run, classifier, variables, test, used)
    # Another experiment.
    used = populations.trained(run, variables)
    fitted, known = detecting.detectors(run, list(config.detectors), classifier, variables, used)
    stands = evading.stand_ins(run, fitted, classifier, variables, known)
    states = [(name, one.state) for name, one in fitted.items() if name != "joint"]
    states += [(f"{name} followed", one.state) for name, one in stands.items()]
    detectors = {name: population.digests(state.get("mutants", state)) for name, state in states}
    # A third one, of images that the first one made.
    brought = run._replace(path=tmp_path_factory.mktemp("brought"))
    assert len(list(mutation_testing.tested_by(brought, classifier, variables))) == 2
    rows = kept_in(run.path)
    return rows, {"stages/mutants_trained digests": rows["stages/mutants_trained digests"], **detectors}, kept_in(brought.path)


def kept_in(path):
    """{stream: digests} of every population that a folder keeps."""
    rows = {}
    for file in sorted(path.rglob("mutants_*.npz")):
        with np.load(file) as stored:
            name = "/".join(file.relative_to(path).with_suffix("").parts)
            rows |= {f"{name} {part}": tuple(stored[part]) for part in ("digests", "validated") if part in stored}
    return rows


def test_no_mutant_of_any_stream_is_in_another(streams):
    rows, detectors, brought = streams
    assert {"/".join(name.split("/")[-1:]) for name in rows} == {
        "mutants_trained digests", "mutants_epsilon digests", "mutants_adapting digests", "mutants_confidence digests",
        *(f"mutants_NAI_{protocol} {part}" for protocol in CONFIG.protocols for part in ("digests", "validated")),
    }  # fmt: skip
    assert len(rows) == 14 and len(detectors) == 5 and len(brought) == 5
    assert brought["stages/mutants_trained digests"] == rows["stages/mutants_trained digests"]
    # Protocols are evaluated apart, each with a threshold of its own.
    stream = lambda name: name.replace("qualified", "unfiltered")  # noqa: E731
    for of in (rows, detectors, brought):
        assert all(len(set(found)) == len(found) > 0 for found in of.values()), {name: len(found) for name, found in of.items()}
        for one, other in itertools.combinations(of, 2):
            assert stream(one) == stream(other) or not set(of[one]) & set(of[other]), f"{one} and {other}"
