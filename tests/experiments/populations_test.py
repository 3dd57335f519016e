"""No mutant in two streams."""

import jax
import numpy as np
from ml_collections import ConfigDict

from mgan_jax import engine, population
from mgan_jax.attacks.mgan import mgan
from mgan_jax.experiments import populations
from mgan_jax.experiments.crafting import WEIGHT_OPERATORS
from mgan_jax.experiments.streams import stream_key
from mgan_jax.experiments.testing import Protocol
from mgan_jax.experiments.training import Run
from mgan_jax.models.discriminator import discriminator
from mgan_jax.models.generator import generator
from mgan_jax.types import Dataset, Split

CONFIG = ConfigDict({
    "mutation": {},
    "protocols": {"unfiltered": {"rate": 0.1, "min_accuracy_ratio": 0.0}, "qualified": {"rate": 0.05, "min_accuracy_ratio": 0.9}},
    "attacks": {
        "mgan": {
            "epochs": 4, "batch_size": 8, "chunk_size": 4, "trained_on": ("all",),
            "arguments": {"num_mutants": 7, "redraw_every": 2},
        }
    },
    "testing": {"num_mutants": 4, "num_validation_mutants": 4, "num_validation_images": 8, "method": "auto"},
})  # fmt: skip


def run_of(images):
    split = Split(*(np.asarray(array) for array in images))
    return Run(CONFIG, None, 0, Dataset(split, split, split, 10, (8, 8, 1), tuple("0123456789")), None)


def test_the_mutants_of_a_training_are_known_by_their_content(target, images):
    classifier, variables = target
    seen = set()

    def marked(config, operator, rate):
        def mutate(key, variables):
            return {**variables, "mark": jax.random.key_data(key)}

        return mutate

    def apply_fn(variables, images):
        if "mark" in variables:
            jax.debug.callback(lambda mark: seen.add(tuple(mark.tolist())), variables["mark"])
        return classifier.apply({name: tree for name, tree in variables.items() if name != "mark"}, images)

    pairs = [(operator, name) for name in CONFIG.protocols for operator in WEIGHT_OPERATORS]
    mutations = [marked(CONFIG, operator, CONFIG.protocols[name].rate) for operator, name in pairs]
    arguments = CONFIG.attacks.mgan.arguments
    attack = mgan(apply_fn, generator(0.3, (4, 8), 1), discriminator((4, 8)), mutations, **arguments)
    state = attack.init(jax.random.key(2), (8, 8, 1))
    loss = jax.jit(attack.generator_loss)
    with jax.debug_key_reuse(False):
        for step in range(4):
            loss(state["generator"], state, stream_key(0, "mgan", "steps"), step, variables, *images)
        jax.effects_barrier()
        found = [
            populations.training_digests(run_of(images), variables, operator, Protocol(name, 0.1, 0.0), mutate)
            for (operator, name), mutate in zip(pairs, mutations, strict=True)
        ]
    expected = {population.digest({**variables, "mark": np.asarray(mark, np.uint32)}) for mark in seen}
    assert len(expected) == 14 and {name for names in found for name in names} == expected
    assert [len(names) for names in found] == [2, 2, 2, 2, 1, 1, 1, 1, 1, 1]


def test_what_was_trained_on_or_validated_with_is_not_used_in_evaluation(target, images):
    classifier, variables = target
    right = engine.predictions(classifier.apply, variables, images[0])
    run, protocol = run_of((images[0], right)), Protocol("unfiltered", 0.1, 0.0)
    free = populations.draw(run, classifier, variables, "WS", protocol).found
    kept = populations.draw(run, classifier, variables, "WS", protocol, lambda *of: free.digests[:2]).found
    assert not set(kept.digests) & set(free.digests[:2])
    assert set(free.digests[2:]) < set(kept.digests) and kept.num_mutants == 4
