"""Chains of resources, answers of last resort, and short circuits around what is too slow."""

import asyncio
from typing import Any

import pytest

from headgate.errors import Expired, Overloaded
from headgate.guard.ambient import Ambient, ambient, current_resource
from headgate.guard.last_resort import StaleAnswers
from headgate.guard.registry import Resources
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import Provider, ProviderError, at_rest, resources, tool

QUIET: dict[str, Any] = {"retry": {"attempts": 1}, "breaker": None}


def chain(clock: LoopClock, **more: Any) -> Resources:
    models: dict[str, Any] = {
        "large": {**QUIET, "fallback": ["medium", "small"], **more},
        "medium": {**QUIET, "fallback": "tiny"},
        "small": QUIET,
        "tiny": QUIET,
    }
    return resources(clock, models=models)


def working_on(*names: str) -> tuple[Any, list[str | None]]:
    asked: list[str | None] = []

    async def ask(_text: str = "") -> str:
        asked.append(current_resource())
        if current_resource() not in names:
            raise ProviderError(500)
        return f"from {current_resource()}"

    return ask, asked


@pytest.mark.parametrize(
    ("works", "asked"),
    [
        (("small", "tiny"), ["large", "medium", "small"]),
        (("tiny",), ["large", "medium", "small", "tiny"]),
        ((), ["large", "medium", "small", "tiny"]),
    ],
)
def test_a_chain_is_asked_in_order_and_then_the_chains_of_its_links(works: tuple[str, ...], asked: list[str]) -> None:
    async def main(clock: LoopClock) -> None:
        models = chain(clock)
        ask, seen = working_on(*works)
        if works:
            done = await models.get("large").perform(ask)
            assert done.degraded == f"resource:{works[0]}"
        else:
            with pytest.raises(ProviderError):
                await models.get("large").call(ask)
        assert seen == asked
        assert all(at_rest(one) for one in models.all())

    run_virtual(main)


def test_the_callers_own_chain_replaces_the_configured_one() -> None:
    async def main(clock: LoopClock) -> None:
        large = chain(clock).get("large")
        ask, seen = working_on("tiny")
        done = await large.with_options(fallback=["small", "tiny"]).perform(ask)
        assert done.degraded == "resource:tiny"
        assert seen == ["large", "small", "tiny"]

    run_virtual(main)


def test_a_static_answer_stands_in_and_says_so() -> None:
    async def main(clock: LoopClock) -> None:
        large = chain(clock).get("large")
        ask, seen = working_on()
        done = await large.with_options(fallback_value=None).perform(ask)
        assert (done.value, done.degraded) == (None, "static")
        assert len(seen) == 4  # only after every resource was asked
        large.pause("x")
        done = await large.with_options(fallback=False, fallback_value="later").perform(ask)
        assert (done.value, done.degraded) == ("later", "static")

    run_virtual(main)


def test_a_computed_answer_gets_the_arguments_and_may_be_awaited() -> None:
    async def slowly(text: str) -> str:
        await asyncio.sleep(1)
        return text[::-1]

    async def main(clock: LoopClock) -> None:
        github = tool(clock)
        ask, _ = working_on()
        assert await github.with_options(fallback_fn=slowly).call(ask, "abc") == "cba"
        done = await github.with_options(fallback_fn=str.upper, fallback_value="unused").perform(ask, ("abc",))
        assert (done.value, done.degraded) == ("ABC", "computed")

    run_virtual(main)


@pytest.mark.parametrize("error", [ProviderError(400), ProviderError(404), TypeError("a bug")])
def test_our_own_mistakes_are_not_covered_up(error: Exception) -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock).with_options(fallback_value="nothing to see", stale=True)
        with pytest.raises(type(error)):
            await github.call(Provider(answer=lambda _: error))

    run_virtual(main)


def test_an_unknown_outcome_of_a_call_that_must_not_happen_twice_is_not_covered_up() -> None:
    async def main(clock: LoopClock) -> None:
        once = tool(clock).with_options(fallback_value="fine", once=True)
        with pytest.raises(ProviderError):
            await once.call(Provider(answer=lambda _: ProviderError(500)))
        assert await once.call(Provider(answer=lambda _: ProviderError(429))) == "fine"

    run_virtual(main)


def test_an_unhealthy_answer_is_replaced_and_never_remembered() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock)
        github.healthy(bool)
        view = github.with_options(stale=True, fallback_value="static")
        empty = Provider(answer=lambda _: "")
        assert await view.call(empty) == "static"
        assert len(github.stale) == 0

    run_virtual(main)


def test_the_last_good_answer_stands_in_for_the_same_question() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, stale={"keep": 10, "max_age": "10m"})
        view = github.with_options(stale=True)
        works = True

        async def ask(text: str, *, depth: int = 1) -> str:
            if not works:
                raise ProviderError(503)
            return f"{text} {depth} at {clock.monotonic():g}"

        assert await view.call(ask, "a", depth=2) == "a 2 at 0"
        await asyncio.sleep(5)
        assert await view.call(ask, "a", depth=2) == "a 2 at 5"
        works = False
        done = await view.perform(ask, ("a",), {"depth": 2})
        assert (done.value, done.degraded) == ("a 2 at 5", "stale")
        for other in (("b", 2), ("a", 3)):
            with pytest.raises(ProviderError):
                await view.call(ask, other[0], depth=other[1])
        with ambient(Ambient(tenant="another")), pytest.raises(ProviderError):
            await view.call(ask, "a", depth=2)
        with pytest.raises(ProviderError):
            await github.call(ask, "a", depth=2)  # only for those who allow it
        await asyncio.sleep(60)
        with pytest.raises(ProviderError):
            await github.with_options(stale_for=30).call(ask, "a", depth=2)
        assert (await github.with_options(stale_for=90).perform(ask, ("a",), {"depth": 2})).degraded == "stale"
        await asyncio.sleep(600)
        with pytest.raises(ProviderError):
            await github.with_options(stale_for=9e9).call(ask, "a", depth=2)

    run_virtual(main)


def test_kept_answers_are_bounded_and_unknown_arguments_are_let_be() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, stale={"keep": 3})
        view = github.with_options(stale=True)

        async def echo(value: Any) -> Any:
            return value

        for number in range(10):
            await view.call(echo, number)
        assert len(github.stale) == 3
        thing = object()
        assert await view.call(echo, thing) is thing
        assert len(github.stale) == 3
        assert isinstance(github.stale, StaleAnswers)

    run_virtual(main)


def test_a_resource_that_usually_takes_too_long_is_passed_over_at_once() -> None:
    async def main(clock: LoopClock) -> None:
        models = chain(clock)
        large, slow = models.get("large"), Provider(seconds=10)
        await asyncio.gather(*(large.call(slow) for _ in range(8)))
        before = clock.monotonic()
        quick = Provider(seconds=0.5)
        done = await large.with_options(timeout=2).perform(quick)
        assert (done.degraded, clock.monotonic() - before) == ("resource:medium", 0.5)
        with ambient(Ambient(deadline=clock.monotonic() + 3)):
            done = await large.with_options(fallback=False, fallback_value="short").perform(quick)
        assert (done.value, done.degraded) == ("short", "static")
        assert (await large.with_options(timeout=20).perform(quick)).degraded is None
        alone = large.with_options(timeout=2, fallback=False)
        assert (await alone.perform(quick)).degraded is None  # nothing else could answer: it gets its try
        await asyncio.sleep(120)  # what is not known any more is tried again
        assert (await large.with_options(timeout=2).perform(quick)).degraded is None

    run_virtual(main)


def test_a_call_cut_at_its_own_limit_falls_back_also_while_nothing_is_known() -> None:
    async def main(clock: LoopClock) -> None:
        models = chain(clock)

        async def ask() -> str | None:
            if current_resource() == "large":
                await asyncio.sleep(20)
            return current_resource()

        done = await models.get("large").with_options(timeout=1).perform(ask)
        assert (done.value, done.degraded, done.tries) == ("medium", "resource:medium", 2)
        alone = models.get("large").with_options(timeout=1, fallback=False)
        assert (await alone.with_options(fallback_value="short").perform(ask)).degraded == "static"
        with pytest.raises(TimeoutError):
            await alone.with_options(fallback_value="short", once=True).perform(ask)
        with pytest.raises(TimeoutError):
            await alone.perform(ask)
        with ambient(Ambient(deadline=clock.monotonic() + 1)), pytest.raises(Expired):
            await models.get("large").perform(ask)
        assert models.get("large").statistics().error_rate == 0.0
        assert all(at_rest(one) for one in models.all())

    run_virtual(main)


@pytest.mark.parametrize("how", ["plain", "async", "thread"])
def test_a_fallback_that_fails_leaves_the_next_one_or_the_calls_own_error(how: str) -> None:
    def fails(_text: str) -> str:
        raise LookupError("no index")

    async def fails_later(_text: str) -> str:
        raise LookupError("no index")

    async def main(clock: LoopClock) -> None:
        github = tool(clock).with_options(fallback_fn=fails_later if how == "async" else fails)

        def broken(_text: str) -> str:
            raise ProviderError(500)

        async def call(view: Any) -> Any:
            return view.call_sync(broken, "a") if how == "thread" else await view.call(broken, "a")

        with pytest.raises(ProviderError) as failed:
            await call(github)
        assert failed.value.__notes__ == ["fallback_fn failed too: LookupError('no index')"]
        assert await call(github.with_options(fallback_value="static")) == "static"
        with pytest.raises(LookupError):  # nothing else was raised: the answer itself says 503
            await github.call(lambda _text: Unwell(), "a")

    run_virtual(main)


class Unwell:
    """An answer that is an error, not raised."""

    status_code = 503

    def __init__(self) -> None:
        self.headers = {"x-request-id": "1"}


def test_plain_threads_have_the_same_answers() -> None:
    github = tool()

    def broken(_text: str) -> str:
        raise ProviderError(500)

    async def later(text: str) -> str:
        return text

    assert github.with_options(fallback_value=7).call_sync(broken, "a") == 7
    assert github.with_options(fallback_fn=str.upper).call_sync(broken, "a") == "A"
    with pytest.raises(TypeError, match="coroutine"):
        github.with_options(fallback_fn=later).call_sync(broken, "a")
    github.pause("x")
    with pytest.raises(Overloaded):
        github.call_sync(broken, "a")
    assert at_rest(github)
