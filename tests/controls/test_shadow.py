"""Limits in shadow mode refuse nothing, and their would-be refusals are counted apart from real ones."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from headgate.cli.fleet import show
from headgate.config.load import parse_settings
from headgate.gate import Gate
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.observe.log import DecisionLog

FILE = """
store: sqlite:///{folder}/runs.db?synchronous=off
tools: {{trial: {{concurrency: 1, queue: {{depth: 1}}, mode: shadow}}}}
workflows: {{echo: {{}}}}
limits: [{{per: tenant, runs: 2/h, mode: shadow}}]
"""


def test_what_would_have_been_refused_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def main(clock: LoopClock) -> dict[str, Any]:
        gate = Gate(parse_settings(FILE.format(folder=tmp_path)), clock=clock, rng=Random(1), store_mode="inline")
        gate.registry.register("echo", _echo)
        gate.bus.subscribe(DecisionLog())
        await gate.start(workers=False)
        try:
            for number in range(5):
                await gate.submit("echo", number, tenant="acme")
            await asyncio.gather(*(gate.resource("trial").call(asyncio.sleep, 1) for _ in range(6)))
            assert gate.metrics.total("headgate_runs_refused_total") == 0
            assert gate.metrics.total("headgate_calls_refused_total") == 0
            return gate.capacity()
        finally:
            await gate.close()

    with caplog.at_level("INFO", logger="headgate.decisions"):
        report = run_virtual(main)
    counts = {(one["scope"], one["reason"]): one["would_refuse"] for one in report["shadow"]}
    assert counts[("tenant:acme", "rate_limited")] == 3
    assert counts[("resource:trial", "queue_full")] == 4
    (trial,) = report["resources"]
    assert (trial["mode"], trial["refused"], trial["would_refuse"]) == ("shadow", {}, {"queue_full": 4})
    show(report)
    assert "tenant:acme     rate_limited  3" in capsys.readouterr().out
    assert sum("admission=shadow" in record.getMessage() for record in caplog.records) == 7


async def _echo(_run: Any, value: Any) -> Any:
    return value
