"""From names to factories by module path: the only place where a string becomes code."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable
from typing import Any


def available(kind: str) -> tuple[str, ...]:
    """Names of the methods of a kind ('models', 'attacks', ...): modules with a factory of their own name."""
    package = importlib.import_module(f"mgan_jax.{kind}")
    modules = (info.name for info in pkgutil.iter_modules(package.__path__))
    return tuple(name for name in modules if hasattr(importlib.import_module(f"mgan_jax.{kind}.{name}"), name))


def factory(kind: str, name: str) -> Callable[..., Any]:
    """The factory `mgan_jax.{kind}.{name}.{name}`.

    Raises:
      ValueError: there is none; the message lists those there are.
    """
    path = f"mgan_jax.{kind}.{name}"
    try:
        return getattr(importlib.import_module(path), name)
    except (ModuleNotFoundError, AttributeError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name != path:
            raise
    names = available(kind)
    close = difflib.get_close_matches(str(name), names, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise ValueError(f"unknown name {name!r} among {kind}: {hint}there are {', '.join(names)}")


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
