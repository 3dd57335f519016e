"""Every config loads, is data alone, and names things that exist."""

import importlib
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict

from mgan_jax.build import factory
from mgan_jax.datasets.digits import digits
from mgan_jax.experiments import defenses
from mgan_jax.experiments.crafting import check
from mgan_jax.mutation import OPERATORS
from mgan_jax.types import Dataset, Split

CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.py"))
MGAN = next(path for path in CONFIGS if path.stem == "mgan")
WITH_VARIANTS = ("attacks", "defenses", "detectors", "fooling", "mgan", "robust_manifold", "transfer", "visualize")
VARIANTS = [
    *((path, None) for path in CONFIGS),
    *((path, variant) for path in CONFIGS if path.stem in WITH_VARIANTS for variant in ("digits", "mnist", "smoke")),
    *((MGAN.with_name("robust_manifold.py"), variant) for variant in ("digits_lenet", "mnist_lenet", "smoke_lenet")),
]


def load(path, variant):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module, module.get_config(*([variant] if variant else []))


@pytest.mark.parametrize(("path", "variant"), VARIANTS, ids=str)
def test_config(path, variant):
    module, config = load(path, variant)
    assert "main.py --config=configs/" in module.__doc__
    assert importlib.util.find_spec(f"mgan_jax.experiments.{config.experiment}") is not None
    if "target" in config:
        factory("models", config.target.name)
    if "dataset" in config:
        factory("datasets", config.dataset.name)
    for name, settings in config.get("attacks", {}).items():
        factory("attacks", settings.get("method", name).removesuffix("_margin"))
    for kind in ("detectors", "defenses"):
        for name, settings in config.get(kind, {}).items():
            factory(kind, settings.get("method", name))
    for operator in config.get("testing", {}).get("operators", ()):
        assert operator in OPERATORS

    def only_data(value):
        if isinstance(value, (ConfigDict, dict)):
            return all(only_data(item) for item in value.values())
        if isinstance(value, tuple):
            return all(only_data(item) for item in value)
        return value is None or isinstance(value, (int, float, str, bool))

    assert only_data(config)


@pytest.fixture(scope="module")
def datasets():
    """{name: a dataset of these shapes}; nothing is trained on it."""
    counts = {"train": 50000, "validation": 10000, "test": 10000}
    parts = {name: Split(np.zeros((n, 28, 28, 1), np.float32), np.arange(n, dtype=np.int32) % 10) for name, n in counts.items()}
    mnist = Dataset(**parts, num_classes=10, image_shape=(28, 28, 1), class_names=tuple("0123456789"))
    return {"digits": digits(0), "mnist": mnist}


@pytest.mark.parametrize(("path", "variant"), [pair for pair in VARIANTS if "smoke" not in (pair[1] or pair[0].stem)], ids=str)
def test_everything_that_a_config_names_can_be_built(path, variant, datasets):
    _, config = load(path, variant)
    experiment = importlib.import_module(f"mgan_jax.experiments.{config.experiment}")
    getattr(experiment, "check", check)(config, datasets["mnist" if "mnist" in (variant or "") else "digits"])


@pytest.mark.parametrize("name", ["vae", "minimax_gan", "wgan_gp"])
def test_defenses_that_look_for_a_code_choose_among_generators(name, datasets):
    _, config = load(MGAN.with_name("defenses.py"), "mnist")
    config.rows = ("invert_and_classify",)
    config.defenses.invert_and_classify.generator = name
    defenses.check(config, datasets["mnist"])
    assert name != "wgan_gp" or config.generators.wgan_gp.batch_size % 5 == 0, "critic_steps"


def test_an_unknown_variant_is_refused():
    with pytest.raises(ValueError, match="cifar"):
        load(MGAN, "cifar")


def test_a_way_of_voting_that_there_is_not_is_found_before_anything_runs():
    _, config = load(MGAN, "digits")
    config.testing.method = "fast"
    with pytest.raises(ValueError, match="method is 'fast'"):
        check(config, digits(0))
