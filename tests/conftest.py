"""Strict settings for every test: no silent rank promotion, no key used twice; programs that compile quickly and run slowly."""

import functools
import os
import re
import resource

import jax
import jax.numpy as jnp
import numpy as np
import pytest

# Nearly all of a test's time is the compiler's. XLA reads its flags once, here; programs that tests start are a user's.
FLAGS = os.environ.get("XLA_FLAGS", "")
QUICK = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{FLAGS} {QUICK}".strip()
jax.devices()
os.environ["XLA_FLAGS"] = FLAGS

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


RATE = re.compile(r"(_rate|accuracy|misclassification|judge_original_class|undecided|clean_kept|agreement|success_rounded)$"
                  r"|^(share|lcr|normal_lcr|fooling|collateral|others)$")  # fmt: skip
"""Names of fields of results that are rates over images."""


@pytest.fixture(scope="session")
def unsized():
    """`unsized(results)`: names of the rates in a seed's results that have no interval or no number of images beside them."""

    def of(results):
        parts = {name: rows for name, rows in results.items() if isinstance(rows, list)}
        parts |= {name: [row] for name, row in results.items() if name == "target"}
        found, seen = set(), set()
        for part, rows in parts.items():
            for row in rows:
                for name in [name for name in row if RATE.search(name) and not isinstance(row[name], (list, str))]:
                    if name == "fooling" and isinstance(row[name], dict):
                        # The pictures of configs/visualize.py.
                        continue
                    seen.add(name)
                    intervals = [end for end in ("_ci95", "_ci99") if f"{name}{end}" in row]
                    if not intervals or not any(field.startswith("num_") for field in row):
                        found.add(f"{part}.{name}")
        assert seen, "results without a rate"
        return found

    return of


@functools.cache
def compiles_float16():
    """Whether XLA can convert to float16 here: of an x86 processor without F16C it asks for a function that it lacks."""
    try:
        return jax.jit(lambda x: x.astype(jnp.float16))(jnp.zeros(3)).dtype == jnp.float16
    except jax.errors.JaxRuntimeError:
        return False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    try:
        return (yield)
    except jax.errors.JaxRuntimeError as error:
        if "Failed to materialize symbols" in str(error) and not compiles_float16():
            pytest.skip("XLA cannot compile float16 for this instruction set")
        raise


MOST_MEMORY = 4 * 2**20
"""In KiB: beyond it the programs of a test file are dropped when the file is done. There are thousands, of some MiB each."""


@pytest.fixture(scope="module", autouse=True)
def programs_make_room():
    """Two workers stay within the memory of a small machine."""
    yield
    if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > MOST_MEMORY:
        jax.clear_caches()


@pytest.fixture(scope="session")
def target():
    """An untrained mlp for 8 x 8 images, which compiles in no time, and its variables."""
    from mgan_jax.models.mlp import mlp

    classifier = mlp((8, 8, 1), 10, (16,))
    return classifier, classifier.init(jax.random.key(0))


@pytest.fixture(scope="session")
def trained():
    """A small mlp that has learned the digits, its variables and the data."""
    from mgan_jax.datasets.digits import digits
    from mgan_jax.models.mlp import mlp
    from mgan_jax.training import loop
    from mgan_jax.training import target as training

    data = digits(0)
    classifier = mlp(data.image_shape, 10, (64,))
    transform = training.optimizer(5e-3, 400)
    state = training.init_state(jax.random.key(1), classifier, transform)
    chunk = loop.make_chunk(training.make_train_step(classifier, transform), data.train)
    done = loop.run(chunk, loop.Progress(state, 0, {}), jax.random.key(2), 0, 1000, 50, 400, 100)
    return classifier, done.state.params, data


@pytest.fixture
def images():
    """Eight images that hold exact zeros and ones too, and labels."""
    values = np.random.default_rng(0).uniform(-0.3, 1.3, (8, 8, 8, 1)).clip(0, 1).astype(np.float32)
    return jnp.asarray(values), jnp.arange(8, dtype=jnp.int32)
