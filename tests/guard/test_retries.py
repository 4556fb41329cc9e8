"""Retries are new work under a budget; a refusal falls back."""

import asyncio
from typing import Any

import pytest

from headgate.errors import Expired, Overloaded
from headgate.guard.ambient import Ambient, ambient, current_resource
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import Provider, ProviderError, at_rest, resources, told, tool

THREE = {"attempts": 3, "base": "1s"}


def failing_first(times: int, error: Exception | None = None) -> Provider:
    broken = error or ConnectionResetError("reset")
    return Provider(seconds=0.1, answer=lambda number: broken if number < times else "done")


def test_a_retry_gives_its_slot_back_while_it_waits() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        github = tool(clock, heard=heard, concurrency=1, retry={"attempts": 2, "base": "100s", "max_delay": "100s"})
        provider, other = failing_first(1), Provider(seconds=0.1)
        retried = asyncio.create_task(github.perform(provider, (), {}))
        await asyncio.sleep(0.2)
        assert github.statistics().inflight == 0
        await github.call(other)  # the only slot is free meanwhile
        done = await retried
        assert (done.value, done.tries) == ("done", 2)
        (fields,) = told(heard, "call_retried")
        assert provider.started_at[1] == pytest.approx(0.1 + fields["retry_after_ms"] / 1000, abs=0.01)
        assert github.statistics().retries == 1

    run_virtual(main)


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (ProviderError(500), 3),
        (ProviderError(503), 3),
        (TimeoutError("read"), 3),
        (ProviderError(400), 1),
        (ProviderError(404), 1),
        (ProviderError(429, code="insufficient_quota"), 1),
        (ProviderError(402), 1),
        (ProviderError(500, {"x-should-retry": "false"}), 1),
        (TypeError("a bug"), 1),
    ],
)
def test_only_what_may_pass_is_repeated_and_the_original_error_comes_out(error: Exception, calls: int) -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry=THREE)
        provider = failing_first(99, error)
        with pytest.raises(type(error)) as raised:
            await github.call(provider)
        assert raised.value is error
        assert provider.calls == calls
        assert at_rest(github)

    run_virtual(main)


@pytest.mark.parametrize(
    ("error", "calls"),
    [
        (ProviderError(429), 2),
        (ConnectionRefusedError(), 2),
        (ProviderError(503), 1),
        (ProviderError(500), 1),
        (TimeoutError(), 1),
    ],
)
def test_a_call_that_must_not_happen_twice_repeats_only_what_surely_did_not_happen(
    error: Exception, calls: int
) -> None:
    async def main(clock: LoopClock) -> None:
        provider = failing_first(1, error)
        once = tool(clock, retry=THREE).with_options(once=True)
        if calls == 1:
            with pytest.raises(type(error)):
                await once.call(provider)
        else:
            assert await once.call(provider) == "done"
        assert provider.calls == calls

    run_virtual(main)


def test_never_beyond_the_deadline() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry={"attempts": 9, "base": "4s"})
        provider = failing_first(99)
        with ambient(Ambient(deadline=3.0)), pytest.raises((ConnectionResetError, Expired)):
            await github.call(provider)
        assert clock.monotonic() <= 3.02
        assert max(provider.started_at) < 3.0

    run_virtual(main)


def test_amplification_stays_bounded_while_everything_fails() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=50, retry={"attempts": 5, "base": "1s"})
        provider = Provider(seconds=0.1, answer=lambda _: ConnectionResetError())
        asked = 0
        calls_by_then: list[tuple[int, int]] = []

        async def ask() -> None:
            with pytest.raises(ConnectionResetError):
                await github.call(provider)

        tasks = []
        for minute in range(5):
            for _ in range(60):
                tasks.append(asyncio.create_task(ask()))
                asked += 1
                await asyncio.sleep(1)
            calls_by_then.append((asked, provider.calls))
            assert minute < 5
        await asyncio.gather(*tasks)
        assert provider.calls / asked <= 1.3
        first_asked, first_calls = calls_by_then[0]
        assert (provider.calls - first_calls) / (asked - first_asked) <= 1.2
        assert github.statistics().refused["retry_budget"] > 200

    run_virtual(main)


def test_success_earns_retries_and_a_retry_that_succeeds_is_free() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry=THREE)
        for _ in range(50):
            assert await github.call(failing_first(1)) == "done"
        assert github.statistics().retries == 50

    run_virtual(main)


def test_a_hint_paces_the_whole_resource() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=4, retry=THREE, queue={"depth": 9, "max_age": "60s"})
        told_off = failing_first(1, ProviderError(429, {"retry-after": "20"}))
        other = Provider(seconds=0.1)
        results = await asyncio.gather(github.call(told_off), later(github, other, 1.0))
        assert results[0] == "done"
        assert told_off.started_at[1] >= 20
        assert other.started_at[0] >= 20
        impatient = github.with_options(max_wait=5)
        await github.with_options(retry=False).call(Provider(seconds=0))
        github.turnstile.evidence.paced_until = clock.monotonic() + 20
        with pytest.raises(Overloaded) as refused:
            await impatient.call(other)
        assert refused.value.reason == "cooldown"
        assert refused.value.retry_after_s is not None
        assert 20 <= refused.value.retry_after_s <= 24

    run_virtual(main)


async def later(resource: Any, fn: Any, after_s: float) -> Any:
    await asyncio.sleep(after_s)
    return await resource.call(fn)


def test_a_used_up_window_paces_and_unknown_ones_do_not() -> None:
    class Response:
        status_code = 200

        def __init__(self, headers: dict[str, str]) -> None:
            self.headers = headers

    async def main(clock: LoopClock) -> None:
        github = tool(clock)
        for headers in ({"x-ratelimit-remaining-requests": "-1"}, {}, {"x-ratelimit-remaining-requests": "7"}):
            await github.call(Provider(seconds=0, answer=lambda _, told=headers: Response(told)))  # type: ignore[call-overload,misc]
        provider = Provider(seconds=0)
        await github.call(provider)
        assert provider.started_at == [0.0]
        empty = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6s"}
        await github.call(Provider(seconds=0, answer=lambda _: Response(empty)))
        await github.call(provider)
        assert provider.started_at[1] == pytest.approx(6.0, abs=0.02)

    run_virtual(main)


MODELS: dict[str, Any] = {
    "large": {
        "concurrency": 1,
        "fallback": "small",
        "queue": {"depth": 1, "max_age": "1h"},
        "retry": {"attempts": 2},
    },
    "small": {"concurrency": 4},
}


def test_a_refusal_falls_back_and_says_so() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        models = resources(clock, heard=heard, models=MODELS)
        asked: list[str | None] = []

        async def ask() -> str:
            asked.append(current_resource())
            await asyncio.sleep(1)
            return "text"

        done = await asyncio.gather(*(models.get("large").perform(ask, (), {}) for _ in range(4)))
        assert sorted(str(one.degraded) for one in done) == ["None", "None", "resource:small", "resource:small"]
        assert asked == ["large", "small", "small", "large"]
        assert [(fields["reason"], fields["old"], fields["new"]) for fields in told(heard, "call_fell_back")] == [
            ("queue_full", "large", "small")
        ] * 2

    run_virtual(main)


def test_failures_fall_over_only_after_the_tries_and_never_for_our_own_mistakes() -> None:
    async def main(clock: LoopClock) -> None:
        models = resources(clock, models=MODELS)
        large = models.get("large")
        asked: list[str | None] = []

        async def ask(error: Exception) -> str:
            asked.append(current_resource())
            if current_resource() == "large":
                raise error
            return "text"

        done = await large.perform(ask, (ProviderError(500),), {})
        assert (done.value, done.degraded, done.tries) == ("text", "resource:small", 3)
        assert asked == ["large", "large", "small"]
        with pytest.raises(ProviderError):
            await large.call(ask, ProviderError(400))
        with pytest.raises(ProviderError):
            await large.with_options(fallback=False).call(ask, ProviderError(500))
        with pytest.raises(ProviderError):
            await large.with_options(once=True).call(ask, ProviderError(500))

    run_virtual(main)


def test_a_circle_of_fallbacks_ends() -> None:
    async def main(clock: LoopClock) -> None:
        circle = {"a": {"fallback": "b"}, "b": {"fallback": "a"}}
        shared: dict[str, Any] = {"retry": {"attempts": 1}, "breaker": None}
        models = resources(clock, models={name: {**shared, **one} for name, one in circle.items()})
        broken = Provider(seconds=0.1, answer=lambda _: ProviderError(500))
        with pytest.raises(ProviderError):
            await models.get("a").call(broken)
        assert broken.calls == 2

    run_virtual(main)


def test_a_retry_that_is_refused_is_not_paid_for() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry={"attempts": 3, "max_delay": "1s"}, queue={"depth": 5, "max_age": "5s"})
        budget = github.turnstile.evidence.retry_budget
        before = budget.balance(clock.monotonic())

        async def fails_while_another_is_told_to_wait() -> None:
            with pytest.raises(ProviderError):
                await github.with_options(retry=False).call(broken)
            raise ConnectionResetError

        broken = failing_first(1, ProviderError(429, {"retry-after": "200"}))
        with pytest.raises(Overloaded) as refused:
            await github.call(fails_while_another_is_told_to_wait)
        assert isinstance(refused.value.__cause__, ConnectionResetError)
        assert refused.value.reason == "cooldown"
        assert github.statistics().retries == 1
        assert budget.balance(clock.monotonic()) == before

    run_virtual(main)
