"""What an answer says that it cost, in the shapes that common SDKs and APIs have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from headgate.runs.usage import NOTHING, Usage, reported


@pytest.mark.parametrize(
    ("answer", "usage"),
    [
        ({"usage": {"prompt_tokens": 5, "completion_tokens": 6, "cost": 0.25}}, Usage(0.25, 5)),
        ({"usage": {"input_tokens": 5, "cache_read_input_tokens": 100, "output_tokens": 6}}, Usage(None, 105)),
        ({"usage": {"inputTokens": 3, "cacheReadInputTokens": 4, "outputTokens": 4}}, Usage(None, 7)),
        (SimpleNamespace(usage_metadata={"input_tokens": 3, "output_tokens": 4}), Usage(None, 3)),
        (SimpleNamespace(usage_metadata=SimpleNamespace(prompt_token_count=9)), Usage(None, 9)),
        ({"usageMetadata": {"promptTokenCount": 8}}, Usage(None, 8)),
        ({"usage": {"prompt_tokens": -1, "cost": True}}, NOTHING),
        ("text", NOTHING),
    ],
)
def test_usage_is_read_by_its_shape(answer: Any, usage: Usage) -> None:
    assert reported(answer) == usage
