"""A name becomes a factory in one place, and a wrong one ends in a line that helps."""

import subprocess
import sys

import pytest

from mgan_jax import build


@pytest.fixture
def kinds(tmp_path, monkeypatch):
    """A kind 'models' with modules of a test besides its own."""
    import mgan_jax.models as package

    (tmp_path / "toy.py").write_text("def toy(apply_fn, *, size=3):\n    return apply_fn, size\n")
    (tmp_path / "shared.py").write_text("def something_else():\n    pass\n")
    (tmp_path / "value.py").write_text("value = 3\n")
    monkeypatch.setattr(package, "__path__", [str(tmp_path)])
    yield tmp_path
    for name in ("toy", "shared", "value", "broken"):
        sys.modules.pop(f"mgan_jax.models.{name}", None)
        vars(package).pop(name, None)


def test_builds_with_arguments_and_defaults(kinds):
    assert build.build("models", "toy", apply_fn=len) == (len, 3)
    assert build.build("models", "toy", apply_fn=len, size=5) == (len, 5)
    assert build.factory("models", "toy")(1) == (1, 3)


def test_a_method_is_a_module_with_a_factory_of_its_name(kinds):
    assert build.available("models") == ("toy",)


@pytest.mark.parametrize("name", ["tyo", "shared", "value", "", "toy.toy", "../toy", "__init__", None, 3])
def test_an_unknown_name_is_a_value_error_with_those_there_are(kinds, name):
    with pytest.raises(ValueError, match=r"unknown name .* among models: .*there are toy") as caught:
        build.build("models", name)
    assert repr(name) in str(caught.value)


def test_a_close_name_is_suggested(kinds):
    with pytest.raises(ValueError, match="did you mean 'toy'"):
        build.factory("models", "toyy")


def test_wrong_arguments_name_themselves_and_those_there_are(kinds):
    with pytest.raises(ValueError, match=r"models\.toy does not take siez; its arguments are apply_fn, size"):
        build.build("models", "toy", apply_fn=len, siez=3)
    with pytest.raises(ValueError, match=r"models\.toy needs apply_fn; its arguments are apply_fn, size"):
        build.build("models", "toy", size=3)


@pytest.mark.parametrize("line", ["import no_such_library_xyz", "import math; math.nothing", "1 / 0"])
def test_a_bug_inside_a_module_keeps_its_own_error(kinds, line):
    (kinds / "broken.py").write_text(f"{line}\ndef broken():\n    pass\n")
    with pytest.raises((ModuleNotFoundError, AttributeError, ZeroDivisionError)) as caught:
        build.factory("models", "broken")
    assert not isinstance(caught.value, ValueError)


def test_one_factory_does_not_import_the_others():
    code = "import sys; from mgan_jax import build; build.factory('datasets', 'digits'); \
print([m for m in sys.modules if m in ('mgan_jax.datasets.idx', 'mgan_jax.datasets.tfds_image')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_the_packages_own_methods_are_found():
    assert {"digits", "idx", "tfds_image"} <= set(build.available("datasets"))
    assert {"advgan", "mgan", "pgd"} <= set(build.available("attacks"))
    assert "split" not in build.available("datasets")


def test_experiments_are_modules_with_a_run():
    assert callable(build.experiment("mgan"))
    with pytest.raises(ValueError, match="unknown name 'mgna' among experiments: did you mean 'mgan'"):
        build.experiment("mgna")
    with pytest.raises(ValueError, match="unknown name 'streams' among experiments"):
        build.experiment("streams")
