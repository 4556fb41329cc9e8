"""What the source tells on the bus, read from its syntax."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from .source import Source


@dataclass(frozen=True)
class Emission:
    """One ``….emit("name", field=…)``."""

    where: str
    name: str
    fields: frozenset[str]


def emissions(sources: Iterable[Source]) -> list[Emission]:
    """Every emit with a literal name. Fields passed as ``**mapping`` cannot be seen here."""
    return [
        Emission(f"{source.path}:{node.lineno}", name, frozenset(word.arg for word in node.keywords if word.arg))
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Call) and _called(node.func) == "emit" and node.args
        for name in _texts(node.args[0])
    ]


def texts(sources: Iterable[Source]) -> set[str]:
    """Every text constant: a name that travels through a variable before it is emitted is among them."""
    return {
        node.value
        for source in sources
        for node in ast.walk(source.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def _texts(node: ast.AST) -> list[str]:
    """The constant, or both branches of a conditional between constants."""
    if isinstance(node, ast.IfExp):
        return [*_texts(node.body), *_texts(node.orelse)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def _called(node: ast.AST) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")
