"""What a model reads when a call was refused."""

import json

from hypothesis import example, given
from hypothesis import strategies as st

from headgate.errors import BudgetExhausted, LoopDetected, Overloaded


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


def test_a_run_without_budget_says_that_no_more_calls_are_of_use() -> None:
    body = json.loads(BudgetExhausted("calls", limit=20, used=20).as_tool_result())
    assert (body["error"], body["executed"], body["retry_after_s"]) == ("budget_exhausted", False, None)
    assert (body["dimension"], body["limit"], body["used"]) == ("calls", 20, 20)
    assert "calls is used up" in body["advice"]


@given(st.text(max_size=3000), st.text(max_size=3000))
@example("\U00010000" * 50, "\U00010000" * 50)  # twelve characters of JSON each
def test_what_a_model_reads_of_a_refusal_is_short_whatever_things_are_called(name: str, more: str) -> None:
    """Under 120 model tokens, at four characters each."""
    refusals = (
        LoopDetected(f"{name} on {more}", why="repetition", count=10**6, stop_at=10**6),
        BudgetExhausted(name, limit=10**15, used=10**15),
        Overloaded("deadline_unreachable", scope=name, advice=more, limit=1e9, used=1e9, retry_after_s=3600.123),
        Overloaded("deadline_unreachable", scope=name, limit=1e9, used=1e9, retry_after_s=3600.123, executed=True),
    )
    for refusal in refusals:
        text = refusal.as_tool_result()
        assert len(text) < 480
        assert json.loads(text)["executed"] in (False, "unknown")


def test_the_end_of_a_long_name_is_kept() -> None:
    call = json.loads(LoopDetected(f"{'deep.' * 50}search on github", why="failing", count=5).as_tool_result())[
        "call"
    ]
    assert call.startswith("...")
    assert call.endswith("search on github")
