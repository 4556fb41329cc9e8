"""The door, on the real store in virtual time."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.config.settings import (
    FleetBudget,
    GateSettings,
    LaneSettings,
    LimitRule,
    RunQueueSettings,
    TenantSettings,
    WhenFull,
    WorkflowSettings,
)
from headgate.config.units import Rate
from headgate.errors import InvalidRequest, UnknownWorkflow
from headgate.intake import Intake, Outlook, Submission
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.decision import Admission, Refusal
from headgate.model.duplicates import Duplicates
from headgate.model.reason import Reason
from headgate.observe.bus import Event, EventBus
from headgate.policy.pressure import Pressure
from headgate.store.open import open_store
from headgate.store.protocols import ClaimRequest, Store


class Door:
    """An intake with everything around it, and what was told on the bus."""

    def __init__(self, settings: GateSettings, store: Store, clock: LoopClock) -> None:
        self.clock, self.store = clock, store
        self.events: list[Event] = []
        self.memory = 0
        bus = EventBus(clock)
        bus.subscribe(self.events.append)
        self.outlook = Outlook(
            settings,
            clock=clock,
            rng=Random(1),
            bus=bus,
            resource_pressure=lambda: 0.0,
            memory_bytes=lambda: self.memory,
        )
        self.intake = Intake(
            settings, store, clock=clock, rng=Random(2), bus=bus, outlook=self.outlook, workflows=lambda: ()
        )

    async def submit(self, workflow: str = "triage", **fields: Any) -> Admission | Refusal:
        return await self.intake.submit(Submission(workflow, **fields))

    async def yes(self, workflow: str = "triage", **fields: Any) -> Admission:
        answer = await self.submit(workflow, **fields)
        assert isinstance(answer, Admission), answer
        return answer

    async def no(self, workflow: str = "triage", **fields: Any) -> Refusal:
        answer = await self.submit(workflow, **fields)
        assert isinstance(answer, Refusal), answer
        return answer

    async def claim(self, lanes: tuple[tuple[str, int], ...]) -> list[str]:
        now = self.clock.now_ms()
        claims = await self.store.claims.claim(
            ClaimRequest("w", now, now + 15_000, lanes, workflows=("triage", "batch"))
        )
        return [claim.run.tenant for claim in claims]


def at_door(folder: Path, settings: GateSettings, act: Callable[[Door], Awaitable[None]]) -> None:
    async def main(clock: LoopClock) -> None:
        store = await open_store(f"sqlite:///{folder}/runs.db", mode="inline")
        try:
            await act(Door(settings, store, clock))
        finally:
            await store.close()

    run_virtual(main)


def with_triage(**fields: Any) -> GateSettings:
    return GateSettings(workflows={"triage": WorkflowSettings(**fields)})


def test_the_depth_holds_exactly_with_many_callers_at_once(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        answers = await asyncio.gather(*(door.submit(input=n) for n in range(200)))
        admitted = [answer for answer in answers if isinstance(answer, Admission)]
        refused = [answer for answer in answers if isinstance(answer, Refusal)]
        assert len(admitted) == 50
        assert {answer.reason for answer in refused} == {Reason.QUEUE_FULL}
        assert {answer.scope for answer in refused} == {"workflow:triage"}
        assert all(answer.used == 50 and answer.limit == 50 and answer.retry_after_ms for answer in refused)
        assert sorted(answer.position for answer in admitted) == list(range(50))

    at_door(tmp_path, with_triage(queue=RunQueueSettings(depth=50)), act)


def test_without_a_bound_the_same_surge_is_let_in_whole(tmp_path: Path) -> None:
    """The control: what the test above would see if the bound did nothing."""

    async def act(door: Door) -> None:
        answers = await asyncio.gather(*(door.submit(input=n) for n in range(200)))
        assert sum(isinstance(answer, Admission) for answer in answers) == 200

    at_door(tmp_path, with_triage(queue=RunQueueSettings(depth=10_000_000)), act)


def test_one_tenant_has_its_own_bound(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        for n in range(3):
            await door.yes(tenant="acme", input=n)
        refused = await door.no(tenant="acme")
        assert (refused.scope, refused.limit) == ("tenant:acme", 3)
        await door.yes(tenant="other")

    at_door(tmp_path, with_triage(queue=RunQueueSettings(depth=10, per_tenant=3)), act)


def test_rates_per_user_are_smooth_and_name_the_level(tmp_path: Path) -> None:
    settings = GateSettings(
        workflows={"triage": WorkflowSettings()},
        limits=(LimitRule(per="user", workflow="triage", runs=Rate(10, 60)),),
    )

    async def act(door: Door) -> None:
        for n in range(10):
            await door.yes(user="ann", input=n)
        refused = await door.no(user="ann")
        assert (refused.reason, refused.scope) == (Reason.RATE_LIMITED, "user:ann")
        assert refused.retry_after_ms is not None
        assert 6_000 <= refused.retry_after_ms <= 7_500
        await door.yes(user="bob")
        await door.yes(user="ann", tenant="elsewhere")
        await asyncio.sleep(refused.retry_after_ms / 1000)
        await door.yes(user="ann")

    at_door(tmp_path, settings, act)


def test_a_refusal_by_one_rule_costs_nothing_at_the_others(tmp_path: Path) -> None:
    settings = GateSettings(
        workflows={"triage": WorkflowSettings()},
        limits=(
            LimitRule(per="tenant", runs=Rate(100, 3600)),
            LimitRule(per="user", runs=Rate(1, 3600)),
        ),
    )

    async def act(door: Door) -> None:
        await door.yes(user="ann")
        for _ in range(200):
            assert (await door.no(user="ann")).scope == "user:ann"
        for n in range(99):
            await door.yes(user=f"user-{n}")
        assert (await door.no(user="one-more")).scope == "tenant:default"

    at_door(tmp_path, settings, act)


def test_the_same_key_gives_the_same_run_and_another_body_a_conflict(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        answers = await asyncio.gather(*(door.yes(input={"a": 1}, idempotency_key="k") for _ in range(50)))
        assert len({answer.run.id for answer in answers}) == 1
        assert sum(answer.created for answer in answers) == 1
        conflict = await door.no(input={"a": 2}, idempotency_key="k")
        assert conflict.reason is Reason.IDEMPOTENCY_CONFLICT
        assert conflict.run_id == answers[0].run.id
        elsewhere = await door.yes(input={"a": 1}, idempotency_key="k", tenant="other")
        assert elsewhere.run.id != answers[0].run.id

    at_door(tmp_path, with_triage(), act)


def test_duplicates_collapse_or_are_refused_while_in_flight(tmp_path: Path) -> None:
    settings = GateSettings(
        workflows={
            "triage": WorkflowSettings(duplicates=Duplicates.COLLAPSE),
            "batch": WorkflowSettings(duplicates=Duplicates.REJECT),
        }
    )

    async def act(door: Door) -> None:
        first, second = await door.yes(input=1), await door.yes(input=1)
        assert first.run.id == second.run.id
        assert (first.created, second.created) == (True, False)
        original = await door.yes("batch", input=1)
        refused = await door.no("batch", input=1)
        assert (refused.reason, refused.run_id) == (Reason.DUPLICATE, original.run.id)

    at_door(tmp_path, settings, act)


def test_a_flood_does_not_push_back_another_tenant(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        for n in range(40):
            await door.yes(tenant="flood", input=n)
        small = await door.yes(tenant="small")
        assert small.position <= 1
        assert "small" in (await door.claim((("standard", 2),)))

    at_door(tmp_path, with_triage(), act)


def test_weights_count(tmp_path: Path) -> None:
    settings = GateSettings(workflows={"triage": WorkflowSettings()}, tenants={"gold": TenantSettings(weight=3.0)})

    async def act(door: Door) -> None:
        for n in range(40):
            await door.yes(tenant="gold", input=n)
            await door.yes(tenant="plain", input=n)
        served = await door.claim((("standard", 20),))
        assert 14 <= served.count("gold") <= 16

    at_door(tmp_path, settings, act)


def test_near_the_bound_a_degrading_workflow_takes_runs_on_the_cheaper_path(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        degraded = [(await door.yes(input=n)).run.degraded for n in range(10)]
        assert degraded == [False] * 8 + [True] * 2
        assert (await door.no()).reason is Reason.QUEUE_FULL

    at_door(tmp_path, with_triage(queue=RunQueueSettings(depth=10), when_full=WhenFull.DEGRADE), act)


def test_under_pressure_only_sheddable_lanes_are_refused(tmp_path: Path) -> None:
    settings = GateSettings(
        lanes={"standard": LaneSettings(), "background": LaneSettings(sheddable=True)},
        workflows={"triage": WorkflowSettings(), "batch": WorkflowSettings(lane="background")},
    )

    async def act(door: Door) -> None:
        await door.yes("batch")
        door.outlook.pressure = Pressure(door.clock.now_ms(), queue=0.9)
        door.outlook.shedding = True
        refused = await door.no("batch")
        assert (refused.reason, refused.scope) == (Reason.SHED, "lane:background")
        assert refused.retry_after_ms is not None
        await door.yes("triage")

    at_door(tmp_path, settings, act)


def test_memory_over_its_budget_closes_the_door_until_it_falls(tmp_path: Path) -> None:
    settings = GateSettings(workflows={"triage": WorkflowSettings()}, budget=FleetBudget(memory=1000))

    async def act(door: Door) -> None:
        door.memory = 1_000_000_000  # a budget far too small, by hand or by mistake, is no different from one used up
        await door.outlook.refresh(door.store)
        assert door.outlook.pressure.level == 1.0
        refused = await door.no()
        assert (refused.reason, refused.scope, refused.used) == (Reason.OVER_BUDGET, "fleet", 1_000_000_000)
        door.memory = 500
        await asyncio.sleep(10)
        await door.outlook.refresh(door.store)
        await door.yes()

    at_door(tmp_path, settings, act)


def test_refused_callers_are_told_different_moments_from_the_drain_rate(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        for n in range(50):
            await door.yes(input=n)
        for _ in range(10):
            await door.outlook.refresh(door.store)
            await door.claim((("standard", 2),))
            for n in range(2):
                await door.yes(input=n)
            await asyncio.sleep(1)
        await door.outlook.refresh(door.store)
        assert door.outlook.rate(workflow="triage") == pytest.approx(2.0, rel=0.2)
        waits = [(await door.no()).retry_after_ms or 0 for _ in range(8)]
        assert waits[-1] > waits[0]
        assert 3_000 <= waits[-1] <= 6_000
        assert len(set(waits)) > 4

    at_door(tmp_path, with_triage(queue=RunQueueSettings(depth=50)), act)


def test_draining_and_past_deadlines_are_refused_before_anything_is_stored(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        late = await door.no(deadline_ms=door.clock.now_ms())
        assert (late.reason, late.retry_after_ms) == (Reason.DEADLINE_UNREACHABLE, None)
        door.intake.draining = True
        draining = await door.no()
        assert draining.reason is Reason.DRAINING
        assert draining.nothing_there
        assert not any((await door.store.runs.overview()).states.values())

    at_door(tmp_path, with_triage(), act)


def test_a_caller_whose_answer_was_lost_hears_of_its_run_even_when_the_door_is_shut(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        deadline_ms = door.clock.now_ms() + 1000
        first = await door.yes(input=1, idempotency_key="k", deadline_ms=deadline_ms)
        await asyncio.sleep(2)
        again = await door.yes(input=1, idempotency_key="k", deadline_ms=deadline_ms)
        assert (again.run.id, again.created) == (first.run.id, False)
        door.intake.draining = True
        assert (await door.yes(input=1, idempotency_key="k", deadline_ms=deadline_ms)).run.id == first.run.id
        assert (await door.no(input=2, idempotency_key="other")).reason is Reason.DRAINING
        assert (await door.no(input=2, idempotency_key="k")).reason is Reason.IDEMPOTENCY_CONFLICT
        assert (await door.store.runs.overview()).states["queued"] == 1

    at_door(tmp_path, with_triage(), act)


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"tenant": ""}, "tenant"),
        ({"tenant": "a\nb"}, "tenant"),
        ({"user": "x" * 129}, "user"),
        ({"idempotency_key": "x" * 256}, "idempotency_key"),
        ({"lane": "express"}, "lane"),
        ({"input": float("nan")}, "input"),
        ({"input": "\ud800"}, "input"),
        ({"input": object()}, "input"),
        ({"input": "x" * (1024 * 1024 + 1)}, "input"),
        ({"assume": "perhaps"}, "assume"),
    ],
)
def test_malformed_requests_name_the_field_and_store_nothing(
    tmp_path: Path, fields: dict[str, Any], where: str
) -> None:
    async def act(door: Door) -> None:
        with pytest.raises(InvalidRequest) as caught:
            await door.submit(**fields)
        assert [field for field, _ in caught.value.problems] == [where]
        assert not any((await door.store.runs.overview()).states.values())

    at_door(tmp_path, with_triage(), act)


def test_an_unknown_workflow_is_named_with_those_that_exist(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        with pytest.raises(UnknownWorkflow, match="known: triage"):
            await door.submit("triag")

    at_door(tmp_path, with_triage(), act)


def test_what_is_told_on_the_bus_carries_the_decision(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        await door.yes()
        await door.no()
        admitted, refused = (event for event in door.events if event.name.startswith("run_"))
        assert (admitted.name, admitted.fields["queue_depth"], admitted.fields["queue_limit"]) == (
            "run_admitted",
            1,
            1,
        )
        assert (refused.name, refused.fields["reason"], refused.fields["queue_limit"]) == (
            "run_refused",
            "queue_full",
            1,
        )

    at_door(tmp_path, with_triage(queue=RunQueueSettings(depth=1)), act)
