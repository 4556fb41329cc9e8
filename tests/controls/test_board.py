"""What is set by hand reaches everything it is about, everywhere, and ends on time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.config.load import parse_settings
from headgate.config.units import Rate
from headgate.errors import InvalidRequest, Overloaded, Rejected, UnknownTarget
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock
from headgate.model.control import ControlKind

from .desk import end, gate_in, put, run, told


def test_a_paused_workflow_is_queued_and_goes_on_in_every_process(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_in(tmp_path, clock, workers=False) as front, gate_in(tmp_path, clock) as back:
            heard = told(back)
            await put(front, "workflow:echo", ControlKind.PAUSE)
            await asyncio.sleep(1.1)
            admitted = await front.submit("echo", 1)
            assert (admitted.paused, admitted.eta_ms) == ("workflow:echo", None)
            await asyncio.sleep(20)
            located = await front.intake.locate(admitted.run.id)
            assert located is not None
            assert located.run.state.value == "queued"
            assert [one.paused for one in [located]] == ["workflow:echo"]
            await end(front, "workflow:echo", ControlKind.PAUSE)
            assert await front.result(admitted.run.id, timeout_s=5) == 1
            assert [(one.fields["new"], one.fields["by"]) for one in heard] == [("paused", "ann"), ("none", "ann")]

    run(main)


def test_a_full_queue_that_is_paused_is_nothing_there_rather_than_contended(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_in(tmp_path, clock) as gate:
            await put(gate, "lane:standard", ControlKind.PAUSE, until_ms=clock.now_ms() + 30_000)
            for number in range(3):
                await gate.submit("echo", number)
            with pytest.raises(Rejected) as caught:
                await gate.submit("echo", 4)
            assert (caught.value.reason, caught.value.scope) == ("paused", "lane:standard")
            assert caught.value.retry_after_s == pytest.approx(34, abs=4.1)

    run(main)


def test_what_is_set_survives_a_restart_and_ends_by_itself(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_in(tmp_path, clock) as gate:
            until_ms = clock.now_ms() + 60_000
            await put(gate, "resource:mail", limit_to=1, rate_amount=5.0, rate_window_s=60.0, until_ms=until_ms)
            await put(gate, "resource:crm", ControlKind.PAUSE, until_ms=until_ms)
        async with gate_in(tmp_path, clock) as gate:
            mail = gate.resource("mail").statistics()
            assert (mail.limit, mail.base_limit, mail.rate_remaining) == (1, 4, 5.0)
            with pytest.raises(Overloaded) as caught:
                await gate.resource("crm").call(lambda: None)
            assert caught.value.reason == "paused"
            heard = told(gate)
            await asyncio.sleep(61)
            assert gate.resource("mail").statistics().limit == 4
            assert await gate.resource("crm").call(lambda: 5) == 5
            assert [one.fields["reason"] for one in heard] == ["ended", "ended"]

    run(main)


def test_depths_and_named_limits_are_overridden_and_reset(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_in(tmp_path, clock, workers=False) as gate:
            await put(gate, "workflow:echo", depth_to=1)
            await gate.submit("echo", 1)
            with pytest.raises(Rejected) as caught:
                await gate.submit("echo", 2)
            assert (caught.value.reason, caught.value.limit) == ("queue_full", 1)
            (ended,) = await end(gate, "workflow:echo", ControlKind.OVERRIDE)
            assert ended.words == "depth 1"
            await gate.submit("echo", 2)
            await put(gate, "limit:burst", rate_amount=1.0, rate_window_s=3600.0)
            with pytest.raises(Rejected) as refused:
                await gate.submit("late", 1)
            assert refused.value.reason == "rate_limited"
            await end(gate, "limit:burst", ControlKind.OVERRIDE)
            await asyncio.sleep(60)
            await gate.submit("late", 9)

    run(main)


@pytest.mark.parametrize(
    ("target", "kind", "fields", "field"),
    [
        ("mail", "pause", {}, "target"),
        ("limit:burst", "pause", {}, "pause"),
        ("lane:background", "override", {"limit_to": 3}, "limit"),
        ("resource:mail", "override", {}, "target"),
        ("resource:mail", "override", {"depth_to": 3}, "depth"),
        ("resource:mail", "override", {"limit_to": 0}, "limit"),
        ("workflow:echo", "override", {"depth_to": 0}, "depth"),
        ("resource:mail", "pause", {"reason": " "}, "reason"),
        ("resource:mail", "pause", {"until_ms": 1}, "expires"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, target: str, kind: str, fields: dict[str, Any], field: str
) -> None:
    async def main(clock: LoopClock) -> list[str]:
        async with gate_in(tmp_path, clock, workers=False) as gate:
            with pytest.raises(InvalidRequest) as caught:
                await put(gate, target, ControlKind(kind), **fields)
            assert await gate.store.controls.changes() == []
            return [name for name, _ in caught.value.problems]

    assert run(main) == [field]


def test_a_paused_tenant_is_queued_while_others_go_on_and_has_saved_up_nothing(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        settings = parse_settings(
            f"store: sqlite:///{tmp_path}/runs.db?synchronous=off\nworkers: {{slots: 1}}\n"
            "workflows: {echo: {queue: {depth: 500}}}\ntenants: {acme: {}, other: {}}"
        )
        gate = Gate(settings, clock=clock, rng=Random(3), store_mode="inline")
        order: list[str] = []

        @gate.workflow("echo")
        async def echo(run: Any, _value: Any) -> None:
            order.append(run.tenant)
            await asyncio.sleep(1)

        await gate.start()
        try:
            await put(gate, "tenant:acme", ControlKind.PAUSE)
            held = [await gate.submit("echo", number, tenant="acme") for number in range(20)]
            assert {one.paused for one in held} == {"tenant:acme"}
            for number in range(60):
                await gate.submit("echo", number, tenant="other")
            await asyncio.sleep(30)
            assert set(order) == {"other"}
            await end(gate, "tenant:acme", ControlKind.PAUSE)
            began = len(order)
            await asyncio.sleep(20)
            after = order[began:]
            # Half each, rather than 20 of those that were held back first.
            assert 0.4 <= after.count("acme") / len(after) <= 0.6
        finally:
            await gate.close()

    run(main)


OTHER = """
store: sqlite:///{folder}/runs.db?synchronous=off
workers: {{slots: 10}}
shed_at: 80%
budget: {{runs: 8, waiting: 100, memory: 8GiB, tool_calls: 4, model_tokens: 1M/min}}
lanes: {{high: {{share: 50%}}, low: {{share: 50%, depth: 50}}}}
tenants: {{acme: {{weight: 2}}}}
models: {{large: {{model_tokens: 100k/min}}}}
limits: [{{name: few, per: tenant, model_tokens: 10k/min, runs: 5/min}}]
workflows: {{echo: {{lane: low, queue: {{depth: 30, max_age: 10m}}}}}}
"""


def test_every_declared_number_can_be_overridden_and_comes_back(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = Gate(parse_settings(OTHER.format(folder=tmp_path)), clock=clock, rng=Random(3), store_mode="inline")
        await gate.open()
        try:
            declared = gate.capacity()
            numbers: dict[str, dict[str, Any]] = {
                "lane:low": {"share": 0.1, "depth_to": 2, "age_s": 30.0},
                "workflow:echo": {"depth_to": 7, "age_s": 20.0},
                "tenant:acme": {"weight": 0.5},
                "fleet": {"shed_at": 0.3},
                "budget:runs": {"limit_to": 2},
                "budget:waiting": {"limit_to": 9},
                "budget:memory": {"limit_to": 2 * 2**30},
                "budget:tool_calls": {"limit_to": 3},
                "budget:model_tokens": {"rate_amount": 500.0, "rate_window_s": 60.0},
                "resource:large": {"tokens_amount": 9.0, "tokens_window_s": 60.0},
                "limit:few@acme": {"rate_amount": 1.0, "rate_window_s": 60.0},
            }
            for target, fields in numbers.items():
                await put(gate, target, **fields)
            now = gate.controls.settings
            assert (now.lanes["low"].share, now.lanes["low"].depth, now.lanes["low"].max_wait) == (0.1, 2, 30.0)
            assert (now.workflows["echo"].queue.depth, now.workflows["echo"].queue.max_age) == (7, 20.0)
            assert (now.tenants["acme"].weight, now.shed_at) == (0.5, 0.3)
            budget = now.budget
            assert (budget.runs, budget.waiting, budget.memory, budget.tool_calls) == (2, 9, 2 * 2**30, 3)
            assert (budget.model_tokens, now.models["large"].model_tokens) == (Rate(500, 60), Rate(9, 60))
            report = gate.capacity()
            low = next(one for one in report["lanes"] if one["name"] == "low")
            assert (low["share"], low["base_share"], low["depth_limit"], low["base_depth_limit"]) == (0.1, 0.5, 2, 50)
            assert (report["pressure"]["shed_at"], report["pressure"]["base_shed_at"]) == (0.3, 0.8)
            assert (report["budget"]["runs"]["limit"], report["budget"]["runs"]["base_limit"]) == (2, 8)
            (acme,) = report["tenants"]
            assert (acme["weight"], acme["base_weight"]) == (0.5, 2.0)
            with pytest.raises(Overloaded) as caught:
                async with gate.resource("large").with_options(model_tokens=50).slot():
                    pass
            assert (caught.value.reason, caught.value.scope) == ("never_fits", "resource:large")
            await gate.submit("echo", 1, tenant="acme")
            with pytest.raises(Rejected) as refused:
                await gate.submit("echo", 1, tenant="acme")
            assert refused.value.reason == "rate_limited"
            await gate.submit("echo", 1)
            with pytest.raises(Rejected) as full:
                await gate.submit("echo", 1)
            assert (full.value.scope, full.value.limit) == ("lane:low", 2)
            for target in list(gate.controls.in_force.overrides):
                await end(gate, target, ControlKind.OVERRIDE)
            assert gate.controls.settings is gate.settings
            for name in ("pressure", "tenants"):
                assert gate.capacity()[name] == declared[name]
            async with gate.resource("large").with_options(model_tokens=50).slot() as slot:
                slot.result(3)
        finally:
            await gate.close()

    run(main)


def test_shares_and_the_number_of_running_runs_follow_what_is_set(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = Gate(parse_settings(OTHER.format(folder=tmp_path)), clock=clock, rng=Random(3), store_mode="inline")
        running = 0

        @gate.workflow("echo")
        async def echo(_run: Any, _value: Any) -> None:
            nonlocal running
            running += 1
            await asyncio.sleep(50)
            running -= 1

        await gate.start()
        try:
            await put(gate, "budget:runs", limit_to=2)
            for number in range(6):
                await gate.submit("echo", number, tenant=f"t{number}")
            await asyncio.sleep(5)
            assert running == 2
            await put(gate, "budget:runs", limit_to=5)
            await asyncio.sleep(5)
            assert running == 5
        finally:
            await gate.close()

    run(main)


@pytest.mark.parametrize(
    ("target", "near"),
    [
        ("tenant:acne", "acme"),
        ("lane:lwo", "low"),
        ("budget:moneys", "memory"),
        ("limit:fwe@acme", "few"),
        ("resource:larg", "large"),
    ],
)
def test_what_does_not_exist_is_said_with_what_is_near(tmp_path: Path, target: str, near: str) -> None:
    async def main(clock: LoopClock) -> None:
        gate = Gate(parse_settings(OTHER.format(folder=tmp_path)), clock=clock, rng=Random(3), store_mode="inline")
        await gate.open()
        try:
            with pytest.raises(UnknownTarget, match=near):
                await put(gate, target, ControlKind.PAUSE)
        finally:
            await gate.close()

    run(main)


def test_a_tenant_that_has_runs_is_known(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with gate_in(tmp_path, clock, workers=False) as gate:
            with pytest.raises(UnknownTarget):
                await put(gate, "tenant:seldom", ControlKind.PAUSE)
            await gate.submit("echo", 1, tenant="seldom")
            await put(gate, "tenant:seldom", ControlKind.PAUSE)
            assert "tenant:seldom" in gate.controls.in_force.pauses

    run(main)
