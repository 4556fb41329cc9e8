"""A call that hangs leaves time for its fallback."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from headgate.errors import Expired
from headgate.guard.ambient import Ambient, ambient, current_resource
from headgate.guard.registry import Resources
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import Provider, ProviderError, at_rest, resources

KNOWN_S = 2.0
"""What calls of the large model take before it hangs."""


def _models(clock: LoopClock, **large: Any) -> Resources:
    return resources(
        clock,
        models={
            "large": {"timeout": 60.0, "retry": {"attempts": 3}, "breaker": None, "fallback": "small", **large},
            "small": {"breaker": None},
        },
    )


async def _learn(models: Resources) -> None:
    await asyncio.gather(*(models.get("large").call(Provider(seconds=KNOWN_S)) for _ in range(8)))


async def _hangs() -> str | None:
    if current_resource() == "large":
        await asyncio.sleep(1000)
    return current_resource()


def test_a_hanging_call_goes_to_the_fallback_at_half_time() -> None:
    async def main(clock: LoopClock) -> None:
        models = _models(clock)
        await _learn(models)
        before = clock.monotonic()
        with ambient(Ambient(deadline=before + 40)):
            done = await models.get("large").perform(_hangs)
        assert (done.value, done.degraded, done.tries) == ("small", "resource:small", 2)
        assert clock.monotonic() - before == pytest.approx(20.0, abs=0.5)
        assert models.get("large").statistics().error_rate > 0, "it is a timeout of the large model"
        assert all(at_rest(one) for one in models.all())

    run_virtual(main)


def test_a_call_that_fails_before_that_is_tried_again_where_it_was() -> None:
    async def main(clock: LoopClock) -> None:
        models = _models(clock)
        await _learn(models)
        provider = Provider(seconds=0.1, answer=lambda number: ProviderError(500) if number == 0 else "fine")
        with ambient(Ambient(deadline=clock.monotonic() + 40)):
            done = await models.get("large").perform(provider)
        assert (done.value, done.degraded, done.tries) == ("fine", None, 2)

    run_virtual(main)


def test_a_call_that_is_only_slow_is_let_be() -> None:
    async def main(clock: LoopClock) -> None:
        models = _models(clock)
        await _learn(models)
        with ambient(Ambient(deadline=clock.monotonic() + 8)):
            done = await models.get("large").perform(Provider(seconds=5.5))  # more than half of eight seconds
        assert (done.degraded, done.tries) == (None, 1)

    run_virtual(main)


@pytest.mark.parametrize("why", ["no fallback", "once", "nothing is known"])
def test_what_nothing_else_may_answer_has_all_its_time(why: str) -> None:
    async def main(clock: LoopClock) -> None:
        models = _models(clock)
        if why != "nothing is known":
            await _learn(models)
        own: dict[str, Any] = {"no fallback": {"fallback": False}, "once": {"once": True}}.get(why, {})
        large = models.get("large").with_options(**own)
        before = clock.monotonic()
        with ambient(Ambient(deadline=before + 40)), pytest.raises(Expired):
            await large.perform(_hangs)
        assert clock.monotonic() - before == pytest.approx(40.0, abs=0.5)

    run_virtual(main)


def test_without_a_deadline_the_timeout_decides() -> None:
    async def main(clock: LoopClock) -> None:
        models = _models(clock, retry={"attempts": 1})
        await _learn(models)
        before = clock.monotonic()
        assert (await models.get("large").perform(_hangs)).value == "small"
        assert clock.monotonic() - before == pytest.approx(60.0, abs=0.5)

    run_virtual(main)


def test_the_probe_of_an_opened_breaker_has_half_the_time() -> None:
    async def main(clock: LoopClock) -> None:
        models = _models(clock, breaker={"kind": "hard", "consecutive": 3, "open_for": 5.0}, retry={"attempts": 1})
        for _ in range(3):
            assert (await models.get("large").perform(_fails)).value == "small"
        assert (await models.get("large").perform(_hangs)).value == "small", "the breaker is open"
        assert clock.monotonic() == 0.0
        await asyncio.sleep(60.0)
        before = clock.monotonic()
        with ambient(Ambient(deadline=before + 40)):
            assert (await models.get("large").perform(_hangs)).value == "small"
        assert clock.monotonic() - before == pytest.approx(20.0, abs=0.5)

    run_virtual(main)


async def _fails() -> str | None:
    if current_resource() == "large":
        raise ConnectionError("it is gone")
    return current_resource()
