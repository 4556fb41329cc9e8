"""A dependency's cooldown shows in capacity, and an operator ends it in every process at once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.cli.fleet import show
from headgate.config.load import parse_settings
from headgate.errors import Overloaded
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual

FILE = """
store: sqlite:///{folder}/runs.db?synchronous=off
tools: {{crm: {{retry: {{attempts: 1}}}}, mail: {{}}}}
models: {{large: {{model_tokens: 10k/min}}}}
workflows: {{known: {{}}}}
"""


class ToldOff(Exception):
    status_code = 429
    headers = {"retry-after": "300"}  # noqa: RUF012  a response's, never changed


async def told_off() -> None:
    raise ToldOff


def gate_in(folder: Path, clock: LoopClock) -> Gate:
    return Gate(parse_settings(FILE.format(folder=folder)), clock=clock, rng=Random(3), store_mode="inline")


def resource(gate: Gate, name: str) -> Any:
    return next(one for one in gate.capacity()["resources"] if one["name"] == name)


def test_a_cooldown_is_shown_and_ended_in_every_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async def main(clock: LoopClock) -> None:
        front, back = gate_in(tmp_path, clock), gate_in(tmp_path, clock)
        heard: list[Any] = []
        back.bus.subscribe(lambda event: heard.append(event) if event.name == "control_changed" else None)
        await front.start(workers=False)
        await back.start()
        try:
            crm = back.resource("crm")
            with pytest.raises(ToldOff):
                await crm.call(told_off)
            seen = resource(back, "crm")
            assert seen["cooldown"]["why"] == "Retry-After 300 s"
            assert seen["cooldown"]["until_ms"] == clock.now_ms() + 300_000
            show(back.capacity())
            assert "5 m more (Retry-After 300 s)" in " ".join(capsys.readouterr().out.split())
            assert resource(back, "mail")["cooldown"] is None
            with pytest.raises(Overloaded, match="cooldown, retry after"):
                await crm.call(asyncio.sleep, 0)
            assert await front.controls.end_cooldown(front.store, "resource:crm", by="ann", reason="they said so")
            assert not await front.controls.end_cooldown(front.store, "resource:crn", by="ann", reason="typo")
            await asyncio.sleep(1.1)
            assert resource(back, "crm")["cooldown"] is None
            await crm.call(asyncio.sleep, 0)
            assert [(one.fields["old"], one.fields["by"]) for one in heard] == [("cooldown", "ann")]
            assert front.controls.in_force.overrides == {}
            with pytest.raises(ToldOff):  # a new one is not ended by the old word
                await crm.call(told_off)
            await asyncio.sleep(30)
            assert resource(back, "crm")["cooldown"] is not None
            (change,) = await front.store.controls.changes(target="resource:crm")
            assert (change.became, change.changed_by) == ("cooldown ended", "ann")
        finally:
            await front.close()
            await back.close()

    run_virtual(main)


def test_capacity_tells_of_model_tokens_retries_and_workflows_without_settings(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        gate = gate_in(tmp_path, clock)

        @gate.workflow("only_in_code")
        async def only_in_code(_run: Any, value: Any) -> Any:
            return value

        report = gate.capacity()
        assert [(one["name"], one["lane"]) for one in report["workflows"]] == [
            ("known", "standard"),
            ("only_in_code", "standard"),
        ]
        large = resource(gate, "large")
        assert large["model_tokens"] == [
            {"scope": "resource:large", "limit": 10_000, "window_s": 60, "remaining": 10_000}
        ]
        assert large["retry_budget"] == 10

    run_virtual(main)
