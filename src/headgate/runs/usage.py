"""What a model's answer says that it cost: money, and the model tokens of the prompt. Read by shape, so that the
answers of any SDK are understood: a ``usage`` with the members that the common ones have.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from headgate.guard.classify import count, member, reported_usage

_PROMPT = ("prompt_tokens", "input_tokens", "inputTokens", "prompt_token_count", "promptTokenCount")
_CACHED = (
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cacheReadInputTokens",
    "cacheWriteInputTokens",
)
"""Parts of the prompt that some count beside ``input_tokens``."""


class Usage(NamedTuple):
    """``None``: not reported."""

    money: float | None = None
    input_tokens: int | None = None


NOTHING = Usage()


def reported(value: Any) -> Usage:
    """What the answer ``value`` reports."""
    usage = reported_usage(value)
    if usage is None:
        return NOTHING
    prompt = next((tokens for name in _PROMPT if (tokens := count(member(usage, name))) is not None), None)
    if prompt is not None and member(usage, "prompt_tokens") is None:
        prompt += sum(count(member(usage, name)) or 0 for name in _CACHED)
    money = next((cost for name in ("cost", "total_cost") if (cost := _money(member(usage, name))) is not None), None)
    return Usage(money, prompt)


def _money(value: Any) -> float | None:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return float(value)
    return None
