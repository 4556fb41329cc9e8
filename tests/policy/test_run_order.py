"""The order inside a tenant: first come, deadline first, or newest first under overload."""

from __future__ import annotations

from headgate.policy.run_order import NO_DEADLINE_MS, RunOrder, newest_after_ms, overloaded, sorted_by


def test_first_come_and_newest_go_by_arrival() -> None:
    for order in (RunOrder.FIFO, RunOrder.NEWEST):
        assert sorted_by(order, submitted_ms=5, deadline_ms=1) == 5


def test_a_run_without_a_deadline_counts_as_due_in_a_day() -> None:
    assert sorted_by(RunOrder.DEADLINE, submitted_ms=5, deadline_ms=70) == 70
    assert sorted_by(RunOrder.DEADLINE, submitted_ms=5, deadline_ms=None) == 5 + NO_DEADLINE_MS


def test_newest_first_begins_at_half_the_patience() -> None:
    assert newest_after_ms(RunOrder.NEWEST, 60.0) == 30_000
    assert newest_after_ms(RunOrder.NEWEST, None) is None
    assert newest_after_ms(RunOrder.FIFO, 60.0) is None
    assert not overloaded(1000, 30_000, now_ms=31_000)
    assert overloaded(1000, 30_000, now_ms=31_001)
    assert not overloaded(None, 30_000, now_ms=99_000)
