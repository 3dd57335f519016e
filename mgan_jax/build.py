"""From names to factories by module path: the only place where a string becomes code."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any


def _modules(kind: str) -> tuple[str, ...]:
    return tuple(info.name for info in pkgutil.iter_modules(importlib.import_module(f"mgan_jax.{kind}").__path__))


def _find(kind: str, name: str, attribute: str | None = None) -> Callable[..., Any] | None:
    """`mgan_jax.{kind}.{name}.{attribute}`, by default the factory of its name; None if there is none."""
    if name not in _modules(kind):
        return None
    found = getattr(importlib.import_module(f"mgan_jax.{kind}.{name}"), attribute or name, None)
    return found if callable(found) else None


def _unknown(kind: str, name: str, names: tuple[str, ...]) -> ValueError:
    close = difflib.get_close_matches(str(name), names, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return ValueError(f"unknown name {name!r} among {kind}: {hint}there are {', '.join(names)}")


def available(kind: str) -> tuple[str, ...]:
    """Names of the methods of a kind ('models', 'attacks', ...): modules with a factory of their own name."""
    return tuple(name for name in _modules(kind) if _find(kind, name))


def factory(kind: str, name: str) -> Callable[..., Any]:
    """The factory `mgan_jax.{kind}.{name}.{name}`.

    Raises:
      ValueError: there is none; the message lists those there are.
    """
    found = _find(kind, name)
    if found is None:
        raise _unknown(kind, name, available(kind))
    return found


def experiment(name: str) -> Callable[..., Any]:
    """`mgan_jax.experiments.{name}.run`.

    Raises:
      ValueError: there is no such experiment; the message lists those there are.
    """
    run = _find("experiments", name, "run")
    if run is None:
        names = tuple(module for module in _modules("experiments") if _find("experiments", module, "run"))
        raise _unknown("experiments", name, names)
    return run


def build(kind: str, name: str, **arguments: Any) -> Any:
    """What the factory of this kind and name returns for these arguments.

    Raises:
      ValueError: unknown name, or arguments that the factory does not take or misses.
    """
    make = factory(kind, name)
    parameters = inspect.signature(make).parameters
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    unknown = [argument for argument in arguments if argument not in parameters and not open_ended]
    missing = [
        p.name
        for p in parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and p.name not in arguments
    ]
    if unknown or missing:
        problem = f"does not take {', '.join(unknown)}" if unknown else f"needs {', '.join(missing)}"
        raise ValueError(f"{kind}.{name} {problem}; its arguments are {', '.join(parameters)}")
    return make(**arguments)
