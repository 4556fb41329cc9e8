"""What a dependency asks for is honoured, seen, bounded and can be ended by hand."""

import asyncio
from typing import Any

import pytest

from headgate.errors import Overloaded
from headgate.guard.ambient import Ambient, ambient
from headgate.guard.evidence import COOLDOWN_AT_MOST_S
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import Provider, ProviderError, at_rest, resources, tool

TOLD_OFF = {"retry-after": "120"}


def told_off(seconds: str, status: int = 429) -> Provider:
    return Provider(seconds=0.1, answer=lambda _: ProviderError(status, {"retry-after": seconds}))


def test_a_cooldown_is_seen_with_its_cause_and_its_end() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock)
        assert github.statistics().cooldown is None
        with pytest.raises(ProviderError):
            await github.call(told_off("120"))
        seen = github.statistics().cooldown
        assert seen is not None
        assert (seen.since, seen.until) == pytest.approx((0.1, 120.1))
        assert "Retry-After 120 s" in seen.why
        with pytest.raises(Overloaded) as refused:
            await github.call(Provider())
        assert refused.value.reason == "cooldown"
        await asyncio.sleep(121)
        assert github.statistics().cooldown is None
        assert await github.call(Provider()) == 0

    run_virtual(main)


def test_no_cooldown_is_longer_than_ten_minutes() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock)
        with pytest.raises(ProviderError):
            await github.call(told_off("86400"))
        seen = github.statistics().cooldown
        assert seen is not None
        assert seen.until - seen.since == COOLDOWN_AT_MOST_S == 600

    run_virtual(main)


def test_a_cooldown_ended_by_hand_lets_those_in_line_start() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, queue={"depth": 9, "max_age": "1h"})
        with pytest.raises(ProviderError):
            await github.call(told_off("300"))
        waiting = asyncio.create_task(github.call(Provider(seconds=0)))
        await asyncio.sleep(5)
        assert not waiting.done()
        github.end_cooldown()
        assert await waiting == 0
        assert clock.monotonic() < 6
        assert github.statistics().cooldown is None
        assert at_rest(github)

    run_virtual(main)


@pytest.mark.parametrize("options", [{"retry": False}, {"max_wait": 5}, {"retry": False, "max_wait": 5}])
def test_nobody_waits_in_a_cooldown_beyond_its_own_bounds(options: dict[str, Any]) -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, queue={"depth": 9, "max_age": "30s"}, retry={"attempts": 3})
        with pytest.raises(Overloaded) as first:
            await github.call(told_off("100"))
        assert first.value.reason == "cooldown"
        assert first.value.executed is False
        began = clock.monotonic()
        with pytest.raises(Overloaded) as refused:
            await github.with_options(**options).call(Provider())
        assert clock.monotonic() == began
        assert 100 <= (refused.value.retry_after_s or 0.0) <= 120.1

    run_virtual(main)


@pytest.mark.parametrize(
    ("status", "reason", "executed"), [(429, "cooldown", False), (503, "cooldown", True), (500, "retry_wait", True)]
)
def test_a_hint_beyond_max_delay_is_not_waited_for(status: int, reason: str, executed: bool) -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry={"attempts": 3, "max_delay": "10s"})
        provider = told_off("11", status)
        with pytest.raises(Overloaded) as refused:
            await github.call(provider)
        assert (refused.value.reason, refused.value.executed, provider.calls) == (reason, executed, 1)
        assert clock.monotonic() == pytest.approx(0.1)
        assert 11 <= (refused.value.retry_after_s or 0.0) <= 13.3
        assert isinstance(refused.value.__cause__, ProviderError)
        assert github.statistics().retries == 0
        assert at_rest(github)

    run_virtual(main)


def test_a_hint_beyond_max_delay_falls_back_at_once() -> None:
    async def main(clock: LoopClock) -> None:
        both = resources(
            clock, models={"large": {"retry": {"max_delay": "10s"}, "fallback": "small"}, "small": {"breaker": None}}
        )
        provider = Provider(seconds=0.1, answer=lambda n: n if n else ProviderError(429, TOLD_OFF))
        done = await both.get("large").perform(provider)
        assert (done.value, done.degraded) == (1, "resource:small")
        assert clock.monotonic() == pytest.approx(0.2)

    run_virtual(main)


def test_a_hint_within_max_delay_is_waited_for_and_one_beyond_the_deadline_is_not() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry={"attempts": 3, "max_delay": "10s"})
        provider = Provider(seconds=0.1, answer=lambda n: n if n else ProviderError(429, {"retry-after": "9"}))
        assert await github.call(provider) == 1
        assert 9.2 <= clock.monotonic() < 20
        with ambient(Ambient(deadline=clock.monotonic() + 5)), pytest.raises(ProviderError):
            await github.call(told_off("11"))

    run_virtual(main)
