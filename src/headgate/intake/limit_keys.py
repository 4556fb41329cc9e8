"""What makes a bucket's key: levels of a run, and paths into its input. Nothing is evaluated; paths are walked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

LONGEST = 64
NOT_THERE = "-"
"""All runs without the value share one bucket, so that leaving a field out is no way around a limit."""


@dataclass(slots=True)
class Asked:
    """A run that asks to come in, as far as keys see it."""

    workflow: str
    tenant: str
    lane: str
    user: str | None = None
    api_key: str | None = None
    text: str = "null"
    """The input as JSON text; it is read only if some key looks into it."""
    _input: Any = None
    _read: bool = False

    @property
    def input(self) -> Any:
        """The input as a value."""
        if not self._read:
            self._input, self._read = json.loads(self.text), True
        return self._input


def key_of(paths: Sequence[str], asked: Asked, *, resource: str = "") -> tuple[str, str] | None:
    """The key of the run's bucket, and the scope as refusals call it. ``None``: the run has no such key (no user, no
    API key)."""
    parts, names = [], []
    for path in paths:
        value = _value(path, asked, resource)
        if value is None:
            return None
        if path == "user":
            parts.append(_safe(asked.tenant))
        parts.append(_safe(value))
        names.append(f"{path}:{value if len(value) <= LONGEST else value[:LONGEST] + '…'}")
    return "/".join(parts), "+".join(names) or "fleet"


def _value(path: str, asked: Asked, resource: str) -> str | None:
    if path.startswith("input."):
        return _inside(asked.input, path.split(".")[1:])
    if path == "resource":
        return resource or None
    value: str | None = getattr(asked, path)
    return value


def _inside(value: Any, steps: Sequence[str]) -> str:
    for step in steps:
        if isinstance(value, dict):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and len(step) < 7:
            value = value[int(step)] if int(step) < len(value) else None
        else:
            value = None
    if value is None:
        return NOT_THERE
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))
    return text if text.isprintable() else ascii(text)[1:-1]


def _safe(value: str) -> str:
    """A part of a key: nothing in it can end the part, and it is short."""
    if len(value) > LONGEST:
        value = value[:16] + "…" + hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest()[:32]
    return value.replace("%", "%25").replace("/", "%2F")
