"""Reading the project's own files."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Source:
    """One Python file; ``path`` is relative to the root, with forward slashes."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, filename=self.path)

    @property
    def stem(self) -> str:
        return Path(self.path).stem


Check = Callable[[Source], list[str]]
"""Judges one file; each problem reads ``line: words``."""


def read(*folders: str) -> list[Source]:
    """Every Python file below these folders. An empty answer would let any check pass, so it is an error."""
    found = [
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
    ]
    if not found:
        raise LookupError(f"no Python file below {', '.join(folders)}")
    return found


def problems(check: Check, sources: Iterable[Source]) -> list[str]:
    """What a check has against these files, as ``path:line: words``."""
    return [f"{source.path}:{problem}" for source in sources for problem in check(source)]


def markdown() -> list[Path]:
    """The project's prose: the pages at the root and everything in docs."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
