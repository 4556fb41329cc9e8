"""What a model's answer says that it cost: money, and the model tokens of the prompt. Read by shape, so that the
answers of any SDK are understood: a ``usage`` with the members that the common ones have.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

_PROMPT = ("prompt_tokens", "input_tokens")
_CACHED = ("cache_read_input_tokens", "cache_creation_input_tokens")
"""Parts of the prompt that some count beside ``input_tokens``."""


class Usage(NamedTuple):
    """``None``: not reported."""

    money: float | None = None
    input_tokens: int | None = None


NOTHING = Usage()


def reported(value: Any) -> Usage:
    """What the answer ``value`` reports."""
    usage = _member(value, "usage")
    if usage is None:
        return NOTHING
    prompt = next((count for name in _PROMPT if (count := _count(_member(usage, name))) is not None), None)
    if prompt is not None and _member(usage, "prompt_tokens") is None:
        prompt += sum(_count(_member(usage, name)) or 0 for name in _CACHED)
    money = next(
        (cost for name in ("cost", "total_cost") if (cost := _money(_member(usage, name))) is not None), None
    )
    return Usage(money, prompt)


def _member(thing: Any, name: str) -> Any:
    return thing.get(name) if isinstance(thing, Mapping) else getattr(thing, name, None)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _money(value: Any) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    return None
