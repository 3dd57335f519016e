"""The peers answer as we do about the same mutants, and make mutants with as many changes."""

import jax
import numpy as np
import pytest

from benchmarks import material, sequential, votes
from mgan_jax import engine, population
from mgan_jax.build import factory
from mgan_jax.detectors.sprt import sequential_test

torch = pytest.importorskip("torch")
torch_editing = pytest.importorskip("benchmarks.torch_editing")
torch_mutants = pytest.importorskip("benchmarks.torch_mutants")
torch_networks = pytest.importorskip("benchmarks.torch_networks")
SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def cnn():
    classifier = factory("models", "cnn")(SHAPE, 10)
    return classifier, classifier.init(jax.random.key(0))


def test_loop_and_vmap_vote_as_we_do(cnn):
    classifier, variables = cnn
    images = np.random.default_rng(0).random((7, *SHAPE), np.float32)
    mutate = material.operator("NAI", variables, 0.3)
    with jax.debug_key_reuse(False):
        mutants = population.sample(mutate, jax.random.key(1), variables, 5)
    repeated = {**mutants["structure"]["conv3"], "repeated": np.arange(5) == 3}
    for changed in (False, True):
        if changed:
            mutants = {**mutants, "structure": {**mutants["structure"], "conv3": repeated}}
        ours = engine.votes(classifier.apply, mutants, images)
        theirs = torch_mutants.converted("cnn", SHAPE, variables, mutants)
        for call in (torch_mutants.loop(theirs, images, 3, False), torch_mutants.loop(theirs, images, 7, True)):
            assert votes.differing("loop", ours, call(), 0.0) <= 1 / ours.size
    with pytest.raises(ValueError, match="layers"):
        torch_mutants.vmap(theirs, images, 3, 2)
    plain = theirs._replace(gates=[{}] * 5)
    rest = {**mutants, "structure": {**mutants["structure"], "conv3": {**repeated, "repeated": np.zeros(5, bool)}}}
    ours = engine.votes(classifier.apply, rest, images)
    assert votes.differing("vmap", ours, torch_mutants.vmap(plain, images, 3, 2)(), 0.0) <= 1 / ours.size


def test_answers_that_differ_are_an_error():
    ours = np.zeros((10, 100), int)
    peers = ours.copy()
    peers[0, 0] = 1
    assert votes.differing("row", ours, peers, 1e-5) == 1e-3
    peers[0, 1] = 1
    with pytest.raises(votes.AnswersDiffer, match="2 of 1000"):
        votes.differing("row", ours, peers, 1e-5)
    with pytest.raises(votes.AnswersDiffer):
        votes.differing("row", ours, peers[:5], 1e-5)


@pytest.mark.parametrize("operator", ["NEB", "NS"])
def test_neurons_of_residual_layers_are_blocked_and_switched_as_ours(cnn, operator):
    classifier, variables = cnn
    images = np.random.default_rng(0).random((7, *SHAPE), np.float32)
    with jax.debug_key_reuse(False):
        mutants = population.sample(material.operator(operator, variables, 0.3), jax.random.key(1), variables, 3)
    ours = engine.votes(classifier.apply, mutants, images)
    theirs = torch_mutants.converted("cnn", SHAPE, variables, mutants)
    assert any("source" in gates.get("dense2", {}) for gates in theirs.gates)
    for call in (torch_mutants.loop(theirs, images, 3, False), torch_mutants.vmap(theirs, images, 3, 2)):
        assert votes.differing(operator, ours, call(), 0.0) <= 1 / ours.size
    assert not theirs.model.gates


def changes(before, after):
    """(neurons of which a weight or bias changed, weights that changed)."""
    neurons = weights = 0
    for name, value in before.items():
        if name.endswith(".weight"):
            moved = (value != after[name]).flatten(1)
            weights += int(moved.sum())
            neurons += int(moved.any(1).sum())
    return neurons, weights


@pytest.mark.parametrize("operator", ["GF", "WS", "NEB", "NAI", "NS", "LD", "LA", "AFR"])
def test_the_peers_mutants_have_as_many_changes_as_ours(cnn, operator):
    _, variables = cnn
    model = torch_networks.TorchClassifier("cnn", SHAPE, 10).requires_grad_(False)
    before = torch_networks.weights(variables, model.channels)
    model.load_state_dict(before)
    theirs = torch_editing.mutant(model, operator, np.random.default_rng(0), 0.1)
    with jax.debug_key_reuse(False):
        mutant = jax.jit(material.operator(operator, variables, 0.1))(jax.random.key(2), variables)
    ours = torch_networks.weights(mutant, model.channels)
    state = theirs.state_dict()
    gates = torch_networks.gates(mutant["structure"], variables["structure"])
    # A peer edits a residual layer's neurons by their weights, as public code does, and we by a gate.
    sources = {layer: found.pop("source") for layer, found in gates.items() if "source" in found}
    moved = sum(int((source.cpu() != torch.arange(len(source))).sum()) for source in sources.values())
    gates = {layer: found for layer, found in gates.items() if found}
    if operator == "GF":
        assert changes(before, ours)[1] == changes(before, state)[1] > 0
    else:
        assert changes(before, ours)[0] + moved == changes(before, state)[0]
    assert sorted(map(str, gates.values())) == sorted(map(str, theirs.gates.values()))
    assert bool(gates) == (operator in torch_editing.GATES) and not model.gates
    assert all((model.state_dict()[name] == value).all() for name, value in before.items())


def test_the_sequential_test_in_numpy_decides_as_ours():
    rng = np.random.default_rng(0)
    flips = rng.random((300, 40)) < np.linspace(0.01, 0.4, 40)
    verdict = sequential_test(flips, 0.1)
    called, used = sequential.verdicts(flips, 0.1)
    np.testing.assert_array_equal(called, verdict.adversarial)
    np.testing.assert_array_equal(used, verdict.used)
    assert 0 < called.sum() < 40
