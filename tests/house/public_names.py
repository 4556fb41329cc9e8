"""The public surface as text: every name of ``headgate.__all__`` with its signature and its public members.

Write it anew after a wanted change, and say so in CHANGELOG.md:

    .venv/bin/python tests/house/public_names.py
"""

from __future__ import annotations

import enum
import inspect
from pathlib import Path
from typing import Any

import headgate

SNAPSHOT = Path(__file__).with_suffix(".txt")


def surface() -> str:
    lines: list[str] = []
    for name in sorted(headgate.__all__):
        lines += _describe(name, getattr(headgate, name))
    return "\n".join(lines) + "\n"


def _describe(name: str, value: Any) -> list[str]:
    if isinstance(value, type) and issubclass(value, enum.Enum):
        return [f"enum {name}", *(f"    {member.name} = {member.value!r}" for member in value)]
    if isinstance(value, type):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        return [f"class {name}({bases})", *_members(value)]
    if callable(value):
        return [f"def {name}{_signature(value)}"]
    if inspect.ismodule(value):
        return [f"module {name}"]
    return [f"{name}: {type(value).__name__}"]


def _members(owner: type) -> list[str]:
    """What the class itself defines. Inherited members belong to their own line or to the standard library."""
    fields = [f"    {name}: {kind}" for name, kind in inspect.get_annotations(owner).items() if name[0] != "_"]
    methods = []
    for name, value in sorted(vars(owner).items()):
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        written = inspect.isfunction(function) and not function.__code__.co_filename.startswith("<")
        if isinstance(value, property) and name[0] != "_":
            methods.append(f"    {name}: property")
        elif written and (name[0] != "_" or name == "__init__"):
            waits = "async " if inspect.iscoroutinefunction(function) else ""
            methods.append(f"    {waits}def {name}{_signature(function)}")
    return fields + methods


def _signature(function: Any) -> str:
    """Parameters and annotations; defaults only by their being there, for their repr may differ between Pythons."""
    signature = inspect.signature(function)
    parameters = [
        one
        if one.default is one.empty or isinstance(one.default, (int, float, str, type(None)))
        else one.replace(default=...)
        for one in signature.parameters.values()
    ]
    return str(signature.replace(parameters=parameters))


if __name__ == "__main__":
    SNAPSHOT.write_text(surface(), encoding="utf-8")
