"""The report's figures follow from what was asked and recorded, and the audit sees every kind of lost run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from demo.figures import Figures, figures, oldest_unfinished, per_second, spread
from demo.ledger import Asked, RunFacts, StepFacts, audit, facts
from demo.picture import Story, draw
from demo.plan import User, make_plan
from demo.table import final_table
from demo.watch import Look
from rich.console import Console

from headgate.lab.trace import Arrival

STEP = StepFacts("large", queued_s=0.1, ran_s=0.5, tries=1, degraded=None)
RUN = RunFacts(
    "a", "succeeded", "succeeded", 1.0, 1.5, 4.0, False, (STEP, replace(STEP, resource="search", ran_s=0.2))
)


def asked(run_id: str | None, *, offered_s: float = 1.0, refusals: tuple[str, ...] = ()) -> Asked:
    user = User(
        Arrival(0, offered_s, "normal", 0, 0, 10, 10), "acme", "interactive", 10.0, polite=True, followed=False
    )
    return Asked(
        user,
        offered_s,
        run_id=run_id,
        admitted_s=None if run_id is None else offered_s,
        refusals=[(offered_s, reason) for reason in refusals],
    )


REQUESTS = [
    asked("a"),
    asked("b", refusals=("queue_full",)),
    asked("c"),
    asked("d"),
    asked(None, refusals=("rate_limited",)),
    asked(None, refusals=("rate_limited", "queue_full")),
]
RECORDS = [
    RUN,
    replace(RUN, id="b", finished_s=11.5),  # half a second after its user had left
    replace(RUN, id="c", state="expired", reason="queue_expired", started_s=None, finished_s=7.0, steps=()),
    replace(RUN, id="d", finished_s=6.0, degraded=True, steps=(replace(STEP, degraded="small"),)),
]


def counted() -> Figures:
    return figures(REQUESTS, RECORDS, [], withheld=2, provider_calls=12, checked=audit(REQUESTS, RECORDS), end_s=20.0)


def test_every_request_has_one_fate() -> None:
    told = counted()
    assert (told.offered, told.admitted, told.admitted_later) == (6, 4, 1)
    assert (told.on_time, told.late, told.degraded, told.smaller_model) == (2, 1, 1, 1)
    assert told.failed == {"queue_expired": 1}
    assert told.refused == {"rate_limited": 1, "queue_full": 1}
    assert told.on_time + told.late + sum(told.failed.values()) + sum(told.refused.values()) == told.offered
    assert told.on_time_share == pytest.approx(2 / 6)


def test_times_come_from_the_records() -> None:
    told = counted()
    assert told.queueing.p50 == pytest.approx(0.5)
    assert told.queueing.most == pytest.approx(6.0)
    assert told.model.p99 == pytest.approx(0.5)
    assert told.tool.p50 == pytest.approx(0.2)
    assert told.slot_wait.count == 5
    assert told.whole.most == pytest.approx(10.5)
    assert told.oldest_waiting_s == pytest.approx(6.0)
    assert told.oldest_unfinished_s == pytest.approx(10.5)
    assert (told.calls_per_finished, told.calls_per_on_time) == (4.0, 6.0)


@pytest.mark.parametrize(
    ("records", "field"),
    [
        (RECORDS[:-1], "lost"),
        ([*RECORDS[:-1], replace(RECORDS[-1], state="running")], "unfinished"),
        ([*RECORDS, replace(RUN, id="e")], "unasked"),
    ],
)
def test_the_audit_sees_runs_that_are_not_accounted_for(records: list[RunFacts], field: str) -> None:
    assert audit(REQUESTS, RECORDS).kept
    found = audit(REQUESTS, records)
    assert not found.kept
    assert getattr(found, field) == (("e",) if field == "unasked" else ("d",))


def test_the_audit_sees_an_id_given_twice() -> None:
    found = audit([*REQUESTS, asked("a")], RECORDS)
    assert (found.kept, found.twice) == (False, ("a",))


def test_quantiles_are_of_the_nearest_rank() -> None:
    told = spread(range(1, 101))
    assert (told.p50, told.p95, told.p99, told.most) == (50, 95, 99, 100)
    assert spread([3.0]).p99 == 3.0
    assert spread([]).p50 is None


def test_timelines() -> None:
    assert per_second([0.1, 0.9, 2.0, 5.0, -1.0], 3) == [2, 0, 1]
    assert oldest_unfinished(RECORDS, [0.0, 2.0, 11.0, 12.0]) == [0.0, 1.0, 10.0, 0.0]


def test_facts_are_read_from_the_service_s_words() -> None:
    told = {
        "id": "a",
        "state": "succeeded",
        "reason": "succeeded",
        "submitted_at": "2026-01-31T12:00:01.000Z",
        "started_at": "2026-01-31T12:00:01.500Z",
        "finished_at": "2026-01-31T12:00:04.000Z",
        "degraded": False,
        "steps": [
            {"resource": "large", "queued_ms": 100, "ran_ms": 500, "tries": 1, "degraded": None},
            {"resource": "search", "queued_ms": 100, "ran_ms": 200, "tries": 1, "degraded": "small"},
        ],
    }
    read = facts(told, start_ms=1_769_860_800_000)
    assert (read.submitted_s, read.started_s, read.finished_s) == pytest.approx((1.0, 1.5, 4.0))
    assert read.degraded
    assert read.steps[0] == STEP


def test_table_and_picture_show_both_sides(tmp_path: Path) -> None:
    told = counted()
    console = Console(record=True, width=140, file=(tmp_path / "none").open("w"))
    console.print(final_table({"headgate": told, "no limits": told}))
    console.file.close()
    text = console.export_text()
    assert "2  (33% of offered)" in text
    assert "queue_full 1" in text
    assert "6  (and 2 follow-ups never sent)" in text

    looks = [Look(at, 1, 2, 3.0, 4, 5, at * 10, 2) for at in range(20)]
    stories = [Story(name, REQUESTS, RECORDS, looks, told) for name in ("headgate", "no limits")]
    draw(stories, make_plan(seconds=15, seed=1), tmp_path / "demo.png", end_s=20.0)
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(json.dumps(told.as_json()))["on_time"] == 2


def test_the_plan_is_a_tenfold_surge_with_an_outage_inside() -> None:
    plan = make_plan(seconds=90, seed=7)
    spans = {span.name: span for span in plan.spans}
    surge, outage = spans["surge"], spans["surge + outage"]
    assert surge.end_s - surge.start_s == pytest.approx(45)
    assert outage.end_s - outage.start_s == pytest.approx(20)
    assert surge.start_s < outage.start_s < outage.end_s < surge.end_s

    def rate(name: str) -> float:
        users = [user for user in plan.users if user.arrival.phase == name]
        return len(users) / (spans[name].end_s - spans[name].start_s)

    assert rate("surge") / rate("normal") == pytest.approx(10, rel=0.35)
    assert (plan.span_at(40.0), plan.span_at(85.0)) == ("surge + outage", "finishing")
    assert make_plan(seconds=90, seed=7) == plan


def test_a_session_keeps_its_tenant_its_lane_and_its_manners() -> None:
    plan = make_plan(seconds=90, seed=7)
    by_index = {user.arrival.index: user for user in plan.users}
    followed = [user for user in plan.users if user.arrival.follows is not None]
    assert followed
    for user in followed:
        assert user.arrival.follows is not None
        earlier = by_index[user.arrival.follows]
        assert (user.tenant, user.lane, user.polite) == (earlier.tenant, earlier.lane, earlier.polite)
        assert earlier.followed
    polite = sum(user.polite for user in plan.users) / len(plan.users)
    assert polite == pytest.approx(0.5, abs=0.08)
