"""What opens, keeps open and closes the breaker of a resource, and what it does to the line and the limit."""

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

import pytest

from headgate.errors import Overloaded, UnusableResult
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.observe.bus import Event

from .workshop import Provider, ProviderError, at_rest, resources, told, tool, usage_answer

THREE = {"attempts": 3, "base": "1s"}


def failing_first(times: int, error: Exception | None = None) -> Provider:
    broken = error or ConnectionResetError("reset")
    return Provider(seconds=0.1, answer=lambda number: broken if number < times else "done")


def test_an_answer_that_is_not_healthy_counts_as_a_failure_and_is_repeated() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, retry=THREE).with_options(healthy=bool)
        provider = Provider(seconds=0.01, answer=lambda number: "" if number < 2 else "content")
        assert await github.call(provider) == "content"
        assert provider.calls == 3
        empty = Provider(seconds=0.01, answer=lambda _: "")
        with pytest.raises(UnusableResult, match="3 answers"):
            await github.call(empty)
        assert empty.calls == 3
        with pytest.raises(UnusableResult):
            github.with_options(retry=False).call_sync(lambda: "")
        assert await github.with_options(fallback_value="none").call(empty) == "none"

    run_virtual(main)


def test_the_breaker_opens_probes_and_closes_at_a_quarter() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        github = tool(
            clock,
            heard=heard,
            concurrency=8,
            breaker={"consecutive": 5, "open_for": "10s", "kind": "hard"},
            retry={"attempts": 1},
        )
        broken = Provider(seconds=0.1, answer=lambda _: ProviderError(500))
        for _ in range(5):
            with pytest.raises(ProviderError):
                await github.call(broken)
        with pytest.raises(Overloaded) as refused:
            await github.call(broken)
        assert refused.value.reason == "breaker_open"
        assert refused.value.retry_after_s is not None
        assert refused.value.retry_after_s >= 7.5
        assert github.statistics().pressure == 1.0
        await asyncio.sleep(13)
        well = Provider(seconds=1)
        await asyncio.gather(*(github.call(well) for _ in range(8)))
        assert github.statistics().breaker == "closed"
        assert well.started_at[0] == well.started_at[1] - 1  # a single probe first
        assert well.started_at.count(well.started_at[1]) == 2  # then a quarter of eight
        moves = [(fields["old"], fields["new"]) for fields in told(heard, "breaker_changed")]
        assert moves == [("closed", "open"), ("open", "probing"), ("probing", "closed")]
        assert told(heard, "limit_changed")[0]["new"] == 2
        assert at_rest(github)

    run_virtual(main)


def test_an_opening_breaker_turns_the_line_away() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1, breaker={"consecutive": 2}, queue={"depth": 50, "max_age": "1h"})
        broken = Provider(seconds=1, answer=lambda _: ProviderError(500))
        results = await asyncio.gather(*(github.call(broken) for _ in range(20)), return_exceptions=True)
        assert broken.calls == 2
        assert sum(isinstance(one, Overloaded) and one.reason == "breaker_open" for one in results) == 18
        assert clock.monotonic() == pytest.approx(2.0)
        assert at_rest(github)

    run_virtual(main)


def test_too_many_requests_never_open_the_breaker() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=50, breaker={"consecutive": 2})
        full = Provider(seconds=0.1, answer=lambda _: ProviderError(429))
        for _ in range(30):
            with pytest.raises(ProviderError):
                await github.call(full)
        assert github.statistics().breaker == "closed"

    run_virtual(main)


def test_an_adaptive_limit_is_cut_once_by_a_wave_of_refusals() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        github = tool(clock, heard=heard, concurrency="1..64", queue={"depth": 10_000, "max_age": "1h"})
        capacity, rng, taken = 12, Random(3), 0

        async def provider() -> str:
            nonlocal taken
            if taken >= capacity:
                raise ProviderError(429)
            taken += 1
            try:
                await asyncio.sleep(rng.lognormvariate(0.0, 0.5))
            finally:
                taken -= 1
            return "ok"

        answers = await asyncio.gather(*(github.call(provider) for _ in range(3000)), return_exceptions=True)
        changes = told(heard, "limit_changed")
        cuts = [fields for fields in changes if fields["reason"] == "overload"]
        refused = sum(answer != "ok" for answer in answers[1000:])
        assert cuts
        assert all(set(fields) >= {"old", "new", "reason", "inputs"} for fields in changes)
        assert refused <= 0.02 * 2000
        assert 8 <= github.statistics().limit <= capacity + 1
        assert at_rest(github)

    run_virtual(main)


def test_a_dependency_that_stops_answering_is_noticed_before_any_timeout() -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Any] = []
        built = resources(
            clock, heard=heard, tools={"github": {"concurrency": "1..64", "timeout": "10m", "breaker": None}}
        )
        github = built.get("github")
        stalled = False

        async def answer() -> None:
            await asyncio.sleep(3600 if stalled else 1.0)

        async def caller() -> None:
            for _ in range(60):
                await github.call(answer)

        warm = [asyncio.create_task(caller()) for _ in range(6)]
        await asyncio.sleep(40)
        stalled = True
        before = github.statistics().limit
        for _ in range(30):
            await asyncio.sleep(1)
            built.watch(0.0)
        cuts = [fields for fields in told(heard, "limit_changed") if fields["reason"] == "stall"]
        assert cuts
        assert github.statistics().limit < before
        for task in warm:
            task.cancel()
        await asyncio.gather(*warm, return_exceptions=True)
        assert at_rest(github)

    run_virtual(main)


def test_a_check_of_the_resource_sees_every_answer_and_opens_the_breaker() -> None:
    """The server that answers 200 with nothing, in 18 ms, faster than any healthy one."""

    class Response:
        status_code = 200

        def __init__(self, content: str) -> None:
            self.content = content
            self.headers = {"x-request-id": "1"}

    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=4, breaker={}, retry={"attempts": 1})

        @github.healthy
        def has_content(answer: Response) -> bool:
            return bool(answer.content)

        full, empty = Provider(answer=lambda _: Response("text")), Provider(0.018, answer=lambda _: Response(""))
        for _ in range(4):
            await github.call(full)
        assert github.statistics().error_rate == 0.0
        for _ in range(8):
            with pytest.raises(UnusableResult):
                await github.call(empty)
        assert github.statistics().breaker == "open"
        with pytest.raises(Overloaded):
            await github.call(empty)
        await asyncio.sleep(1.3)
        async with github.slot() as slot:
            slot.result(Response(""))
        assert github.statistics().breaker == "open"
        await asyncio.sleep(2.6)
        assert (await github.call(full)).content == "text"
        assert (await github.call(full)).content == "text"
        assert github.statistics().breaker == "closed"

    run_virtual(main)


def test_what_one_caller_cannot_use_is_no_sign_that_the_resource_is_broken() -> None:
    """A tool whose output has to be repaired four times in five is worth calling; its breaker stayed open."""

    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=4, breaker={}, retry={"attempts": 1})
        useless = Provider(0.018, answer=lambda _: "{")
        for _ in range(40):
            with pytest.raises(UnusableResult):
                await github.with_options(healthy=lambda text: text.endswith("}")).call(useless)
        assert github.statistics().breaker == "closed"
        assert github.statistics().error_rate == 1.0
        github.healthy(lambda text: text.endswith("}"))
        for _ in range(8):
            with pytest.raises(UnusableResult):
                await github.call(useless)
        assert github.statistics().breaker == "open"

    run_virtual(main)


def test_a_check_that_raises_comes_out_and_leaks_nothing() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1)
        github.healthy(lambda answer: answer["missing"])
        for _ in range(3):
            with pytest.raises(KeyError):
                await github.call(Provider(answer=lambda _: {}))
        assert at_rest(github)

    run_virtual(main)


def test_while_a_soft_breaker_is_open_a_trickle_of_probes_goes_through() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=16, breaker={}, retry={"attempts": 1})
        provider = Provider(0.1)
        provider.answer = lambda _: ProviderError(500) if clock.monotonic() < 60 else "well"
        ended: list[Any] = []

        async def ask() -> None:
            try:
                ended.append((clock.monotonic(), await github.call(provider)))
            except (ProviderError, Overloaded) as error:
                ended.append((clock.monotonic(), error))

        tasks = []
        for _ in range(1200):
            tasks.append(asyncio.create_task(ask()))
            await asyncio.sleep(0.1)
        await asyncio.gather(*tasks)
        during = [moment for moment in provider.started_at if 2 < moment < 60]
        assert 3 <= len(during) <= 8
        assert provider.peak <= 3
        first_well = min(moment for moment, one in ended if one == "well")
        assert first_well <= 60 + 1.25 * 30 + 1
        after = [one for moment, one in ended if moment > first_well + 1]
        assert sum(one == "well" for one in after) >= 0.95 * len(after)

    run_virtual(main)


def test_an_answer_that_is_no_good_was_paid_for() -> None:
    async def main(clock: LoopClock) -> None:
        models = {"large": {"retry": {"attempts": 3, "base": "100ms"}, "model_tokens": "100k/min"}}
        large = resources(clock, models=models).get("large")
        answers = Provider(0.1, lambda number: {**usage_answer(1000), "number": number})
        done = await large.with_options(healthy=lambda answer: answer["number"] >= 2).perform(answers)
        assert (done.tries, done.model_tokens) == (3, 3000)

    run_virtual(main)


def test_a_refusal_by_status_stays_one_whatever_the_check_says() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, breaker={"consecutive": 3})
        full = SimpleNamespace(status_code=429, headers={"retry-after": "1"}, content=b"")
        for _ in range(10):
            assert await github.with_options(healthy=lambda answer: bool(answer.content)).call(lambda: full) is full
        assert github.statistics().breaker == "closed"

    run_virtual(main)


@pytest.mark.parametrize("error", [ProviderError(503), ConnectionResetError("reset")])
def test_after_an_outage_the_limit_restarts_at_a_quarter_of_the_last_good_one(error: Exception) -> None:
    async def main(clock: LoopClock) -> None:
        heard: list[Event] = []
        github = tool(clock, heard=heard, concurrency="1..64", breaker={})
        broken = False
        provider = Provider(0.5, lambda number: error if broken else number)

        async def calls() -> None:
            while clock.monotonic() < 150:
                try:
                    await github.call(provider)
                except (ProviderError, ConnectionResetError, Overloaded):
                    await asyncio.sleep(0.3)

        tasks = [asyncio.create_task(calls()) for _ in range(40)]
        await asyncio.sleep(40)
        good, broken = github.statistics().limit, True
        await asyncio.sleep(70)
        assert github.statistics().breaker != "closed"
        broken = False
        await asyncio.gather(*tasks)
        restarts = [change for change in told(heard, "limit_changed") if change["reason"] == "restart"]
        assert [change["new"] for change in restarts] == [pytest.approx(good / 4, abs=1)]
        assert good >= 16
        assert at_rest(github)

    run_virtual(main)


def test_a_mistake_of_ours_is_no_evidence_about_the_dependency() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, breaker={"consecutive": 3})

        async def ours() -> None:
            raise TypeError("ours")

        for _ in range(3):
            with pytest.raises(ProviderError):
                await github.call(Provider(0.1, lambda _: ProviderError(500)))
        for _ in range(5):
            await asyncio.sleep(5)
            with pytest.raises(TypeError):
                await github.call(ours)
        seen = github.statistics()
        assert (seen.breaker, seen.error_rate) == ("probing", 1.0)
        for _ in range(2):
            with pytest.raises(ProviderError):
                await github.call(Provider(0.1, lambda _: ProviderError(404)))
        assert github.statistics().breaker == "closed"

    run_virtual(main)
