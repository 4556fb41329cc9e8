"""What a model reads when a call was refused."""

import json

from headgate.errors import Overloaded


def test_a_refusal_says_that_nothing_was_executed_and_when_to_come_back() -> None:
    refusal = Overloaded("queue_full", scope="resource:github", retry_after_s=0.112, limit=8, used=8)
    body = json.loads(refusal.as_tool_result())
    assert body["executed"] is False
    assert body["retry_after_s"] == 0.112
    assert "try again in 0.1 s" in body["advice"]
    assert (body["limit"], body["used"]) == (8, 8)


def test_a_refusal_after_a_failed_try_does_not_claim_that_nothing_happened() -> None:
    refusal = Overloaded("breaker_open", scope="resource:github", retry_after_s=10, executed=True)
    body = json.loads(refusal.as_tool_result())
    assert body["executed"] == "unknown"
    assert body["advice"].startswith("An earlier try failed and may have taken effect")


def test_what_cannot_succeed_later_says_so() -> None:
    refusal = Overloaded("never_fits", scope="resource:large")
    assert not refusal.retryable
    assert "Do not retry" in json.loads(refusal.as_tool_result())["advice"]
