"""One picture of a resource: complete, and nobody can change it."""

import asyncio
import copy
import json
import math
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.settings import ResourceSettings
from headgate.errors import Overloaded
from headgate.guard.ambient import NOBODY
from headgate.guard.evidence import Evidence
from headgate.guard.slot import Slot
from headgate.guard.statistics import Tally, pressure
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.reason import Reason

from .workshop import Provider, ProviderError, resources, tool


def test_a_picture_cannot_be_changed_and_can_be_written_down() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1)
        async with github.slot():
            with pytest.raises(Overloaded):
                await github.with_options(max_wait=0).call(Provider())
        seen = github.statistics()
        assert seen.refused == {"concurrency": 1}
        for change in (
            lambda counts: counts.update(x=1),
            lambda counts: counts.clear(),
            lambda counts: counts.__setitem__("x", 1),
            lambda counts: counts.setdefault("x", 1),
            lambda counts: counts.__ior__({"x": 1}),
            lambda counts: counts.pop("concurrency"),
        ):
            with pytest.raises(TypeError, match="moment"):
                change(seen.refused)  # type: ignore[no-untyped-call]
        assert json.loads(json.dumps(asdict(seen)))["refused"] == {"concurrency": 1}
        assert copy.deepcopy(seen) == seen
        assert Tally({"a": 1}) | {"b": 2} == {"a": 1, "b": 2}

    run_virtual(main)


def test_retries_show_what_they_may_still_cost() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry={"attempts": 2, "base": "1s"})
        assert github.statistics().retry_budget == 10
        with pytest.raises(ProviderError):
            await github.call(Provider(seconds=0, answer=lambda _: ProviderError(500)))
        seen = github.statistics()
        assert (seen.retries, seen.retries_active) == (1, 0)
        assert 9 <= seen.retry_budget < 9.1

    run_virtual(main)


@pytest.mark.parametrize("until", [None, 100.0])
def test_what_somebody_has_paused_presses_on_nothing(until: float | None) -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, queue={"depth": 1, "max_age": "60s", "max_age_down": "30s"})
        github.pause("maintenance", until)
        waiting = asyncio.create_task(github.with_options(max_wait=5).call(Provider()))
        await asyncio.sleep(1)
        assert (github.statistics().waiting, github.statistics().pressure) == (1, 0.0)
        await asyncio.gather(waiting, return_exceptions=True)

    run_virtual(main)


@given(st.integers(0, 50), st.integers(1, 50), st.integers(0, 50), st.floats(0, 100), st.booleans(), st.booleans())
def test_pressure_stays_within_its_bounds(
    inflight: int, limit: int, waiting: int, oldest_s: float, broken: bool, paused: bool
) -> None:
    told = pressure(
        inflight=inflight,
        limit=limit,
        waiting=waiting,
        depth=50,
        oldest_s=oldest_s,
        max_age_s=30,
        broken=broken,
        paused=paused,
    )
    assert 0 <= told <= 1
    assert not paused or told == 0


SIZES = st.lists(st.one_of(st.none(), st.floats(1, 1e6)), min_size=1, max_size=200)


@given(SIZES)
def test_a_call_without_a_size_does_not_hide_the_sizes_of_others(sizes: list[float | None]) -> None:
    import random

    settings = ResourceSettings.model_validate({"concurrency": "1..16"})
    evidence = Evidence("large", settings, random.Random(1), 0.0)
    known: list[float] = []
    for size in sizes:
        slot = Slot(NOBODY, 0.0, 0.0, Reason.WAIT_EXPIRED)
        slot.given_tokens = size
        evidence.begin(slot, inflight=1, now=0.0)
        assert slot.stamp is not None
        if size is not None:
            known = [*known, size][:64]
            assert slot.stamp.size == size
        elif known:
            mean = math.exp(sum(map(math.log, known)) / len(known))
            assert slot.stamp.size == pytest.approx(mean)
        else:
            assert slot.stamp.size == 1.0


def test_a_pause_rule_that_nobody_looks_at_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    rule = {"p95": "8s", "pauses": ["lane:background"]}

    async def use(clock: LoopClock, *, watched: bool, **settings: Any) -> None:
        everything = resources(clock, tools={"crm": settings})
        for _ in range(60):
            await everything.get("crm").call(Provider(seconds=0.5))
            if watched:
                everything.watch(0.0)

    with caplog.at_level("WARNING", logger="headgate.guard"):
        run_virtual(lambda clock: use(clock, watched=True, pause_when=rule))
        run_virtual(lambda clock: use(clock, watched=False))
        assert caplog.records == []
        run_virtual(lambda clock: use(clock, watched=False, pause_when=rule))
    (record,) = caplog.records
    assert "resource:crm has a pause_when" in record.getMessage()
    assert "gate.open()" in record.getMessage()
