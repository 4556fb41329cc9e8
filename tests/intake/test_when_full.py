"""What a full queue does to a submission, and what repeats one: the real gate in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate import Gate, GateSettings, Rejected, Run, RunState
from headgate.config.settings import (
    DelaySettings,
    DuplicateSettings,
    FleetBudget,
    LaneSettings,
    RunQueueSettings,
    WhenFull,
    WorkerSettings,
    WorkflowSettings,
)
from headgate.intake.when_full import content_key, lower_lanes
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.duplicates import Duplicates
from headgate.model.reason import Reason
from headgate.observe.bus import Event
from headgate.store.protocols import RunOffer
from headgate.testing.store_conformance_ground import Ground

Act = Callable[[Gate, LoopClock, list[Event]], Awaitable[None]]


def play(
    folder: Path, act: Act, *, workers: bool = True, slots: int = 1, fleet: dict[str, Any] | None = None, **w: Any
) -> None:
    """A gate with one workflow of one second's work."""

    async def main(clock: LoopClock) -> None:
        settings = GateSettings(
            store=f"sqlite:///{folder}/runs.db",
            workers=WorkerSettings(slots=slots),
            workflows={"work": WorkflowSettings(**w)},
            **(fleet or {}),
        )
        gate = Gate(settings, clock=clock, rng=Random(1), store_mode="inline")
        told: list[Event] = []
        gate.bus.subscribe(told.append)

        @gate.workflow("work")
        async def work(run: Run, value: Any) -> Any:
            await asyncio.sleep(1)
            return value

        await gate.start(workers=workers)
        try:
            await act(gate, clock, told)
        finally:
            await gate.close()

    run_virtual(main)


def test_delayed_runs_all_start_in_order_and_no_slot_idles(tmp_path: Path) -> None:
    async def act(gate: Gate, clock: LoopClock, told: list[Event]) -> None:
        began = clock.now_ms()
        answers = [await gate.submit("work", n) for n in range(10)]
        held = [answer for answer in answers if answer.run.state is RunState.SUSPENDED]
        assert len(held) >= 6
        assert {answer.run.reason for answer in held} == {Reason.DELAYED}
        assert all(answer.eta_ms == answer.run.available_ms - began for answer in held)
        runs = [await gate.ended(answer.run.id, timeout_s=600) for answer in answers]
        assert {run.state for run in runs} == {RunState.SUCCEEDED}
        starts = [run.started_ms or 0 for run in runs]
        assert starts == sorted(starts)
        assert (runs[-1].finished_ms or 0) - began < 15_000, "work of ten seconds, and looks once a second"
        assert all((run.started_ms or 0) <= run.available_ms + 3000 for run in runs)
        told_of = [event.fields["run_id"] for event in told if event.name == "run_suspended"]
        assert told_of == [answer.run.id for answer in held]

    play(
        tmp_path, act, queue=RunQueueSettings(depth=3), when_full=WhenFull.DELAY,
        delay=DelaySettings(depth=100, at_most=300.0),
    )  # fmt: skip


def test_the_second_tier_is_bounded_also_when_nobody_works(tmp_path: Path) -> None:
    async def act(gate: Gate, clock: LoopClock, told: list[Event]) -> None:
        seen: Counter[str] = Counter()
        for n in range(60):
            try:
                seen[(await gate.submit("work", n)).run.state] += 1
            except Rejected as refusal:
                seen[refusal.reason] += 1
            await asyncio.sleep(2)
        assert seen == {RunState.QUEUED: 3, RunState.SUSPENDED: 4, "queue_full": 53}, "also after they went in line"
        (queue,) = [queue for queue in (await gate.store.runs.overview()).queues if queue.workflow == "work"]
        assert queue.depth == 7

    play(
        tmp_path, act, workers=False, queue=RunQueueSettings(depth=3, max_age=3600.0), when_full=WhenFull.DELAY,
        delay=DelaySettings(depth=4, at_most=10.0),
    )  # fmt: skip


def test_rejecting_is_what_happens_without_a_second_tier(tmp_path: Path) -> None:
    """The control."""

    async def act(gate: Gate, clock: LoopClock, told: list[Event]) -> None:
        for n in range(3):
            await gate.submit("work", n)
        with pytest.raises(Rejected, match="queue"):
            await gate.submit("work", 4)

    play(tmp_path, act, workers=False, queue=RunQueueSettings(depth=3))


def test_a_higher_lane_takes_a_lower_ones_place_and_its_owner_hears_it(tmp_path: Path) -> None:
    async def act(gate: Gate, clock: LoopClock, told: list[Event]) -> None:
        low = [await gate.submit("work", n, lane="background") for n in range(3)]
        waiting = asyncio.create_task(gate.ended(low[-1].run.id, timeout_s=60))
        await asyncio.sleep(0.1)
        high = await gate.submit("work", "urgent", lane="critical")
        assert [one.run_id for one in high.made_room] == [low[-1].run.id]
        lost = await waiting
        assert (lost.state, lost.reason, lost.dead) == (RunState.EXPIRED, "shed", True)
        assert high.run.id in (lost.detail or "")
        (event,) = [event for event in told if event.name == "run_expired"]
        assert (event.fields["run_id"], event.fields["reason"]) == (lost.id, "shed")
        with pytest.raises(Rejected):
            await gate.submit("work", 9, lane="background")
        with pytest.raises(Rejected):
            await gate.submit("work", 9, lane="standard"), await gate.submit("work", 9), await gate.submit("work", 9)

    play(
        tmp_path, act, workers=False, queue=RunQueueSettings(depth=3), when_full=WhenFull.SHED_LOWER,
    )  # fmt: skip


def test_the_fleets_and_a_lanes_own_bound(tmp_path: Path) -> None:
    lanes = {
        "high": LaneSettings(depth=2),
        "standard": LaneSettings(),
        "bulk": LaneSettings(sheddable=True),
        "scraps": LaneSettings(sheddable=True),
    }

    async def act(gate: Gate, clock: LoopClock, told: list[Event]) -> None:
        for lane in ("bulk", "scraps", "bulk"):
            await gate.submit("work", lane=lane)
        lost = [one for _ in range(2) for one in (await gate.submit("work", lane="high")).made_room]
        assert [one.lane for one in lost] == ["scraps", "bulk"]
        with pytest.raises(Rejected) as caught:
            await gate.submit("work", lane="high")
        assert caught.value.scope == "lane:high"
        (last,) = (await gate.submit("work")).made_room
        assert last.lane == "bulk"
        with pytest.raises(Rejected) as caught:
            await gate.submit("work")
        assert (caught.value.scope, caught.value.limit) == ("fleet", 3)

    play(
        tmp_path, act, workers=False, when_full=WhenFull.SHED_LOWER,
        fleet={"lanes": lanes, "budget": FleetBudget(waiting=3)},
    )  # fmt: skip


def test_only_lower_sheddable_lanes_make_room() -> None:
    lanes = {
        "a": LaneSettings(sheddable=True), "b": LaneSettings(), "c": LaneSettings(sheddable=True),
        "d": LaneSettings(), "e": LaneSettings(sheddable=True),
    }  # fmt: skip
    assert {lane: lower_lanes(lanes, lane) for lane in lanes} == {
        "a": ("e", "c"), "b": ("e", "c"), "c": ("e",), "d": ("e",), "e": (),
    }  # fmt: skip


def test_both_callers_get_the_same_run_and_the_second_hears_it(tmp_path: Path) -> None:
    async def act(gate: Gate, clock: LoopClock, told: list[Event]) -> None:
        first = await gate.submit("work", {"ticket": 7, "text": "a"}, idempotency_key="one")
        second = await gate.submit("work", {"ticket": 7, "text": "b"}, idempotency_key="two")
        assert (first.created, second.created) == (True, False)
        assert first.run.id == second.run.id
        assert await gate.result(second.run.id, timeout_s=60) == {"ticket": 7, "text": "a"}
        late = await gate.submit("work", {"ticket": 7, "text": "b"}, idempotency_key="two")
        assert (late.created, late.run.id) == (False, first.run.id), "its answer was lost; the run has ended"
        assert (await gate.submit("work", {"ticket": 7})).created, "nothing of that content is in flight"
        assert (await gate.submit("work", {"ticket": 8})).created
        without = [await gate.submit("work", {"text": "no ticket"}) for _ in range(2)]
        assert [answer.created for answer in without] == [True, True]

    play(tmp_path, act, duplicates=DuplicateSettings(by=("input.ticket",)))


def test_a_debounced_run_starts_once_with_the_latest(tmp_path: Path) -> None:
    async def act(gate: Gate, clock: LoopClock, told: list[Event]) -> None:
        began = clock.now_ms()
        answers = []
        for n in range(4):
            answers.append(await gate.submit("work", {"page": "home", "version": n}))
            await asyncio.sleep(3)
        assert [answer.created for answer in answers] == [True, False, False, False]
        assert len({answer.run.id for answer in answers}) == 1
        assert answers[-1].eta_ms == 5000
        run = await gate.ended(answers[0].run.id, timeout_s=60)
        assert json.loads(run.input) == {"page": "home", "version": 3}
        assert began + 14_000 <= (run.started_ms or 0) <= began + 14_600

    play(tmp_path, act, duplicates=DuplicateSettings(by=("input.page",), debounce=5.0))


def test_a_steady_stream_cannot_put_a_run_off_for_ever(tmp_path: Path) -> None:
    async def act(gate: Gate, clock: LoopClock, told: list[Event]) -> None:
        began = clock.now_ms()
        answers = []
        for n in range(30):
            answers.append(await gate.submit("work", {"page": "home", "version": n}))
            await asyncio.sleep(1)
        made = [answer.run.id for answer in answers if answer.created]
        assert len(made) >= 3
        for nth, run_id in enumerate(made[:2]):
            run = await gate.ended(run_id, timeout_s=60)
            assert (run.started_ms or 0) <= began + (nth + 1) * 13_000
        versions = [json.loads((await gate.ended(run_id, timeout_s=60)).input)["version"] for run_id in made]
        assert versions == sorted(versions)
        assert versions[-1] == 29, "nothing of the latest is lost"

    play(tmp_path, act, duplicates=DuplicateSettings(by=("input.page",), debounce=5.0, debounce_at_most=12.0))


def _offer(value: Any, *, tenant: str = "acme", user: str | None = None) -> RunOffer:
    text = json.dumps(value, sort_keys=True)
    return Ground(lambda: pytest.fail("no store is needed")).offer(input=text, tenant=tenant, user=user)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)


@given(_VALUES, _VALUES, _VALUES)
def test_content_is_the_same_if_and_only_if_the_fields_are(one: Any, other: Any, noise: Any) -> None:
    by = ("input.a", "input.b.c")
    first = _offer({"a": one, "b": {"c": 1}, "x": noise})
    second = _offer({"a": other, "b": {"c": 1}, "x": 0})
    keys = content_key(first, by), content_key(second, by)
    if one is None or other is None:
        assert None in keys
    else:
        same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
        assert (keys[0] == keys[1]) == same
    assert content_key(first, ("input.b.c",)) == content_key(second, ("input.b.c",))
    assert content_key(first, ("input.b.c",)) != content_key(_offer({"b": {"c": 1}}, tenant="b"), ("input.b.c",))


def test_paths_walk_lists_and_users_and_nothing_else() -> None:
    offer = _offer({"items": [{"id": 4}], "n": 1}, user="ann")
    assert content_key(offer, ("input.items.0.id",)) is not None
    assert content_key(offer, ("user",)) != content_key(_offer({}, user="bob"), ("user",))
    for path in ("input.items.1.id", "input.items.x", "input.n.0", "input.nothing", "input.items.0.id.more"):
        assert content_key(offer, (path,)) is None, path
    assert content_key(_offer({}), ("user",)) is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"debounce_at_most": 5.0}, "bounds a debounce"),
        ({"mode": Duplicates.REJECT, "debounce": 5.0}, "needs mode: collapse"),
        ({"debounce": 5.0, "debounce_at_most": 2.0}, "shorter than one window"),
        ({"by": ("input",)}, "is no field of a submission"),
        ({"by": ("input.a", "input.a")}, "different fields"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DuplicateSettings(**given)


def test_the_keys_of_what_collapsed_into_one_run_are_bounded(tmp_path: Path) -> None:
    async def act(gate: Gate, clock: LoopClock, told: list[Event]) -> None:
        first = await gate.submit("work", 1, idempotency_key="own")
        for n in range(1000):
            assert (await gate.submit("work", 1, idempotency_key=f"k{n}")).run.id == first.run.id
        with pytest.raises(Rejected) as refused:
            await gate.submit("work", 1, idempotency_key="one more")
        assert refused.value.reason == Reason.DUPLICATE
        assert (await gate.submit("work", 1, idempotency_key="k7")).run.id == first.run.id
        assert (await gate.submit("work", 1)).run.id == first.run.id

    play(tmp_path, act, workers=False, duplicates=DuplicateSettings(mode=Duplicates.COLLAPSE))


def test_a_collapsed_caller_is_told_that_it_is_and_which_lane_and_deadline_hold(tmp_path: Path) -> None:
    async def act(gate: Gate, clock: LoopClock, told: list[Event]) -> None:
        first = await gate.submit("work", 1, lane="background", deadline_s=600)
        second = await gate.submit("work", 1, lane="critical", deadline_s=60, idempotency_key="k1")
        again = await gate.submit("work", 1, lane="critical", deadline_s=60, idempotency_key="k1")
        own = await gate.submit("work", 2, idempotency_key="k2")
        known = await gate.submit("work", 2, idempotency_key="k2")
        assert [one.collapsed for one in (first, second, again, own, known)] == [False, True, True, False, False]
        assert {one.run.id for one in (first, second, again)} == {first.run.id}
        assert (second.run.lane, second.run.deadline_ms) == ("background", first.run.deadline_ms)

    play(tmp_path, act, workers=False, duplicates=DuplicateSettings(mode=Duplicates.COLLAPSE))
