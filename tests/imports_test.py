"""Imports point one way, and flax stays where networks are."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "mgan_jax"
LEAVES = ("datasets", "models", "mutation", "attacks", "detectors", "defenses", "report")
SINGLE = ("population", "engine", "devices", "losses", "metrics", "build", "checkpoint", "draws", "workdir", "transformations",
          "saliency", "squeezers", "inversion", "inputs", "success")  # fmt: skip


def imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


DECIDING = ("experiments", "detectors", "report")
"""Where logits are read as classes by `engine.decide`, which knows answers that are not finite."""
OTHERWISE = {
    "experiments/crafting.py": "a mean margin, which is NaN where an answer is",
    "experiments/fooling.py": "the best of several starts, no class",
}


def largest_of_rows(path):
    """Lines that take the place of the largest along the last axis, or of all values."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "argmax":
            axes = [ast.unparse(of) for of in (*node.args, *(keyword.value for keyword in node.keywords))]
            if not axes or axes[-1] in ("-1", "1"):
                yield node.lineno


def test_classes_are_read_by_the_engine_which_knows_answers_that_are_not_finite():
    found = {str(path.relative_to(ROOT)) for room in DECIDING for path in sorted((ROOT / room).rglob("*.py"))
             if list(largest_of_rows(path))}  # fmt: skip
    assert found == set(OTHERWISE)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports(path):
    room = path.relative_to(ROOT).parts[0].removesuffix(".py")
    ours = [name.split(".")[1] for name in imported(path) if name.startswith("mgan_jax.")]
    if room == "types":
        assert not ours
    elif room in SINGLE:
        assert set(ours) <= {"types", "checkpoint", "draws", "engine", "devices", "squeezers", "inputs"}
    elif room in LEAVES:
        assert set(ours) <= {"types", room, *SINGLE}
    elif room == "training":
        assert "experiments" not in ours
    if room not in ("models", "training"):
        assert not [name for name in imported(path) if name.split(".")[0] == "flax"]
    assert len(path.read_text().splitlines()) <= 300
