"""Runs that are not worth starting any more, because what such runs take does not fit before their deadline."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.runs.context import Run
from headgate.runs.experience import RUNS_LEAST, STRETCH_AT_MOST, STRETCH_FRESH_S, Stretches

from .bench import Bench, on_bench

TAKES_S = 2.0


async def hurried(bench: Bench, *, before: int) -> RunRecord:
    """One run with less time than it takes, after ``before`` that had enough."""

    async def job(run: Run) -> None:
        await run.call("tool", bench.do, "work", TAKES_S)

    bench.workflow(job)
    await bench.worker()
    for _ in range(before):
        await bench.ended(await bench.submit())
    return await bench.ended(await bench.submit(deadline_ms=bench.clock.now_ms() + round(500 * TAKES_S)))


def test_what_cannot_end_in_time_is_not_started(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        run = await hurried(bench, before=RUNS_LEAST)
        assert (run.state, run.reason) == (RunState.EXPIRED, Reason.DEADLINE_UNREACHABLE)
        assert bench.ledger["work"] == RUNS_LEAST
        assert run.finished_ms is not None
        assert run.deadline_ms is not None
        assert run.finished_ms < run.deadline_ms - 900  # at once

    on_bench(tmp_path, main)


def test_on_little_evidence_it_is_tried(tmp_path: Path) -> None:
    async def main(bench: Bench) -> None:
        run = await hurried(bench, before=RUNS_LEAST - 1)
        assert run.state is RunState.EXPIRED
        assert bench.ledger["work"] == RUNS_LEAST

    on_bench(tmp_path, main)


@given(st.lists(st.tuples(st.floats(0.0, 1e4), st.floats(0.0, 1e4)), max_size=40))
def test_a_stretch_is_bounded_and_needs_evidence(ends: list[tuple[float, float]]) -> None:
    stretches = Stretches()
    for second, (stayed_s, worked_s) in enumerate(ends):
        stretches.note("standard", stayed_s=stayed_s, worked_s=worked_s, now=float(second))
        known = stretches.of("standard", float(second))
        assert 1.0 <= known <= STRETCH_AT_MOST + 1e-9
        assert second + 1 >= RUNS_LEAST or known == 1.0
    assert stretches.of("critical", float(len(ends))) == 1.0


def test_a_stretch_is_forgotten_when_nothing_ends() -> None:
    stretches = Stretches()
    for _ in range(RUNS_LEAST):
        stretches.note("standard", stayed_s=3.0, worked_s=1.0, now=0.0)
    assert stretches.of("standard", STRETCH_FRESH_S) == pytest.approx(3.0)
    assert stretches.of("standard", STRETCH_FRESH_S + 1) == 1.0
