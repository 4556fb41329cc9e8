"""What bounds retries besides their number: runs, retries under way, long waits, SDKs that retry themselves."""

import asyncio
from typing import Any

import pytest

from headgate.errors import Overloaded
from headgate.guard import classify, provider_headers
from headgate.guard.ambient import Ambient, ambient, current_resource
from headgate.guard.registry import Resources
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import Provider, ProviderError, at_rest, resources, tool

RUN = Ambient(run_id="r1")


def broken(error: Exception | None = None) -> Provider:
    return Provider(seconds=0.1, answer=lambda _: error or ConnectionResetError("reset"))


def test_one_unlucky_run_does_not_spend_what_belongs_to_all() -> None:
    async def main(clock: LoopClock) -> None:
        both: Resources = resources(clock, tools={"a": {"retry": {"base": "100ms"}, "breaker": None}, "b": {}})
        provider = broken()
        with ambient(RUN):
            for name in ("a", "b", "a"):
                with pytest.raises(ConnectionResetError):
                    await both.get(name).call(provider)
        assert provider.calls == 3 + 3
        other = broken()
        with ambient(Ambient(run_id="r2")), pytest.raises(ConnectionResetError):
            await both.get("a").call(other)
        assert other.calls == 3

    run_virtual(main)


@pytest.mark.parametrize(
    ("answer", "reason", "least_s"),
    [
        (ProviderError(429, {"retry-after": "20"}), "cooldown", 20),
        (ProviderError(503, {"retry-after": "40"}), "cooldown", 40),
        (ProviderError(500, {"retry-after": "7"}), "retry_wait", 7),
    ],
)
def test_inside_a_run_a_long_wait_is_left_to_the_run(answer: Exception, reason: str, least_s: float) -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry={"attempts": 3})
        provider = broken(answer)
        with ambient(RUN), pytest.raises(Overloaded) as refused:
            await github.call(provider)
        assert clock.monotonic() < 0.2
        assert refused.value.reason == reason
        assert refused.value.retry_after_s is not None
        assert least_s <= refused.value.retry_after_s <= 1.2 * least_s
        assert refused.value.__cause__ is answer
        assert provider.calls == 1
        assert at_rest(github)

    run_virtual(main)


def test_a_short_wait_is_sat_through_and_so_is_a_long_one_outside_of_runs() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry={"attempts": 2})
        for whose, hint in ((RUN, "3"), (Ambient(), "20")):
            provider = Provider(
                seconds=0.1,
                answer=lambda number, hint=hint: "ok" if number else ProviderError(500, {"retry-after": hint}),  # type: ignore[misc]
            )
            with ambient(whose):
                assert await github.call(provider) == "ok"

    run_virtual(main)


def test_what_must_not_be_repeated_does_not_suspend_a_run_either() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry={"attempts": 3})
        for error, once in (
            (ProviderError(400, {"retry-after": "20"}), False),
            (ProviderError(429, {"retry-after": "20"}, code="insufficient_quota"), False),
            (ProviderError(500, {"retry-after": "20"}), True),
        ):
            with ambient(RUN), pytest.raises(ProviderError):
                await github.with_options(once=once).call(broken(error))

    run_virtual(main)


def test_few_retries_are_under_way_at_once_and_the_others_wait_for_their_turn() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=50, retry={"attempts": 2, "base": "200ms"})
        state: dict[str, int] = {"retrying": 0, "peak": 0}

        async def flaky(tries: list[int]) -> str:
            tries.append(1)
            if len(tries) == 1:
                await asyncio.sleep(0.1)
                raise ConnectionResetError
            state["retrying"] += 1
            state["peak"] = max(state["peak"], state["retrying"])
            await asyncio.sleep(0.3)
            state["retrying"] -= 1
            return "ok"

        results = await asyncio.gather(*(github.call(flaky, []) for _ in range(8)), return_exceptions=True)
        assert results.count("ok") >= 6
        assert all(one == "ok" or (isinstance(one, Overloaded) and one.reason == "retry_budget") for one in results)
        assert state["peak"] == 1
        assert at_rest(github)
        assert github.turnstile._retries.active == 0

    run_virtual(main)


def test_cancelled_while_waiting_for_its_turn_gives_everything_back() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=50, retry={"attempts": 2, "base": "1s"})
        before = github.turnstile.evidence.retry_budget.balance(0.0)
        started = asyncio.Event()

        async def fails_then_hangs(tries: list[int]) -> None:
            tries.append(1)
            if len(tries) == 1:
                raise ConnectionResetError
            started.set()
            await asyncio.sleep(1000)

        tasks = [asyncio.create_task(github.call(fails_then_hangs, [])) for _ in range(2)]
        await started.wait()
        await asyncio.sleep(1.2)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert at_rest(github)
        assert github.turnstile._retries.active == 0
        assert github.turnstile.evidence.retry_budget.balance(0.0) == pytest.approx(
            before - 1, abs=0.1
        )  # one was made

    run_virtual(main)


@pytest.mark.parametrize("how", ["cancelled", "too slow by then"])
def test_a_retry_that_is_never_made_costs_nothing(how: str) -> None:
    async def main(clock: LoopClock) -> None:
        models = {
            "large": {"retry": {"attempts": 3, "base": "5s"}, "breaker": None, "fallback": "small"},
            "small": {},
        }
        both = resources(clock, models=models)
        large = both.get("large")
        for _ in range(8):
            await large.call(asyncio.sleep, 4)
        budget = large.turnstile.evidence.retry_budget
        full = budget.balance(clock.monotonic())

        async def fails() -> str:
            if current_resource() == "small":
                return "small"
            await asyncio.sleep(0.1)
            raise ProviderError(500, {"retry-after": "4"})

        for _ in range(5):
            if how == "cancelled":
                task = asyncio.create_task(large.call(fails))
                await asyncio.sleep(0.1)
                await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            else:
                with ambient(Ambient(deadline=clock.monotonic() + 7)):
                    assert await large.call(fails) == "small"
        assert budget.balance(clock.monotonic()) == full
        assert all(at_rest(one) for one in both.all())

    run_virtual(main)


class Naive:
    """The control: three tries at once, whatever happens."""

    async def call(self, fn: Any) -> Any:
        for left in (2, 1, 0):
            try:
                return await fn()
            except ConnectionResetError:
                if not left:
                    raise
        return None


def amplification(make: Any) -> float:
    """Calls that reach a dependency which fails everything, per call made, in minutes two to five."""

    async def main(clock: LoopClock) -> float:
        guarded = make(clock)
        provider = broken()
        made = 0

        async def ask(number: int) -> None:
            with ambient(Ambient(run_id=f"r{number % 40}")):
                try:
                    await guarded.call(provider)
                except (ConnectionResetError, Overloaded):
                    return

        tasks = []
        for made in range(5 * 60 * 5):
            tasks.append(asyncio.create_task(ask(made)))
            await asyncio.sleep(0.2)
        await asyncio.gather(*tasks)
        reached = sum(moment >= 60 for moment in provider.started_at)
        return reached / (4 * 60 * 5)

    return run_virtual(main)


def test_retries_add_little_while_everything_fails_for_five_minutes() -> None:
    def guard(clock: LoopClock) -> Any:
        return tool(clock, concurrency=50, retry={"attempts": 5}, breaker=None)

    assert 1.0 <= amplification(guard) <= 1.02


def test_the_naive_control_fails_the_same_check() -> None:
    assert amplification(lambda _clock: Naive()) > 2.9


def test_with_the_breaker_hardly_anything_reaches_the_dependency() -> None:
    def guard(clock: LoopClock) -> Any:
        return tool(clock, concurrency=50, retry={"attempts": 5}, breaker={})

    assert amplification(guard) <= 0.02


class Request:
    def __init__(self, **headers: str) -> None:
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@pytest.mark.parametrize(("count", "retries"), [("2", 2), ("0", 0), ("-1", 0), ("many", 0), ("100000", 100)])
def test_an_sdk_says_how_often_it_retried(count: str, retries: int) -> None:
    assert provider_headers.sdk_retries({"X-Stainless-Retry-Count": count}) == retries
    error = ProviderError(500)
    error.response.request = Request(x_stainless_retry_count=count)
    assert classify.of_error(error, now_ms=0).sdk_retries == retries


def test_retries_of_an_sdk_are_counted_and_paid_for() -> None:
    class Response:
        status_code = 200
        headers = {"content-type": "application/json"}  # noqa: RUF012  a response's, never changed
        request = Request(x_stainless_retry_count="2")

    async def main(clock: LoopClock) -> None:
        github = tool(clock)
        await github.call(Provider(answer=lambda _: Response()))
        assert github.statistics().retries == 2
        assert github.turnstile.evidence.retry_budget.balance(0.0) == pytest.approx(8.0, abs=0.2)

    run_virtual(main)
