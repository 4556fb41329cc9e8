"""What a caller may say about its calls, and what is told when it is nonsense."""

import asyncio
import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from headgate.errors import Overloaded, UnknownResource
from headgate.guard.ambient import Ambient, ambient, at_step, current
from headgate.lab.virtual_time import LoopClock, run_virtual

from .workshop import at_rest, tool


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timeout", "5s"),
        ("timeout", 0),
        ("timeout", -1),
        ("timeout", True),
        ("timeout", math.nan),
        ("timeout", math.inf),
        ("max_wait", "5s"),
        ("max_wait", -0.1),
        ("model_tokens", 0),
        ("stale_for", 0),
        ("size", -1),
        ("retry", "no"),
        ("once", 1),
        ("stale", "yes"),
        ("healthy", True),
        ("fallback_fn", "small"),
        ("fallback", 5),
        ("fallback", True),
        ("fallback", [5]),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(name: str, value: Any) -> None:
    async def main(clock: LoopClock) -> None:
        with pytest.raises(ValueError, match=name):
            tool(clock).with_options(**{name: value})

    run_virtual(main)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tenant", None),
        ("run_id", 7),
        ("rank", "first"),
        ("rank", None),
        ("rank", math.nan),
        ("deadline", "10s"),
        ("deadline", math.nan),
        ("remaining_s", -1),
        ("progress", 1.5),
        ("progress", True),
    ],
)
def test_circumstances_that_make_no_sense_are_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=name):
        Ambient(**{name: value})


def test_what_cannot_be_called_is_refused_at_once() -> None:
    async def fetch() -> None: ...

    async def main(clock: LoopClock) -> None:
        github: Any = tool(clock)
        with pytest.raises(TypeError, match=r"call\(.*fetch, x\), not call"):
            github.call(fetch())
        for use in (github.call, github.call_sync, github.guard):
            with pytest.raises(TypeError, match="needs a function, not 5"):
                use(5)
        with pytest.raises(TypeError, match="needs a function"):
            await github.perform(None)

    run_virtual(main)


def test_whatever_breaks_at_the_start_of_a_call_gives_its_slot_back() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1)
        broken = github.with_options(timeout=5.0)
        object.__setattr__(broken._options, "timeout", "5s")
        for _ in range(3):
            with pytest.raises(TypeError):
                await broken.call(asyncio.sleep, 1)
        assert await github.call(lambda: "works") == "works"
        assert at_rest(github)

    run_virtual(main)


@pytest.mark.parametrize("fallback", ["githbu", ("github", "githbu")])
def test_an_unknown_fallback_is_named_before_it_is_needed(fallback: str | tuple[str, ...]) -> None:
    async def main(clock: LoopClock) -> None:
        with pytest.raises(UnknownResource, match="did you mean 'github'"):
            tool(clock).with_options(fallback=fallback)

    run_virtual(main)


class Unreadable(Exception):
    @property
    def response(self) -> object:
        raise RuntimeError("no response was set")


@pytest.mark.parametrize("how", ["call", "call_sync", "slot"])
def test_an_error_that_cannot_be_read_gives_its_slot_back(how: str) -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(clock, concurrency=1)

        def fails() -> None:
            raise Unreadable

        async def use() -> None:
            if how == "call":
                await github.call(fails)
            elif how == "call_sync":
                github.call_sync(fails)
            else:
                async with github.slot():
                    fails()

        for _ in range(3):
            with pytest.raises(RuntimeError, match="no response") as raised:
                await use()
            assert isinstance(raised.value.__context__, Unreadable)
        assert at_rest(github)

    run_virtual(main)


def test_an_async_function_from_a_plain_thread_is_a_mistake_that_is_named() -> None:
    async def main(clock: LoopClock) -> None:
        async def answer() -> None: ...

        with pytest.raises(TypeError, match="async"):
            tool(clock).call_sync(answer)  # type: ignore[unused-coroutine]

    run_virtual(main)


def test_a_refused_retry_does_not_say_that_nothing_was_executed() -> None:
    async def main(clock: LoopClock) -> None:
        github = tool(
            clock,
            concurrency=1,
            breaker={"kind": "hard", "consecutive": 2, "minimum_calls": 2, "failure_rate": "100%"},
            retry={"attempts": 5},
        )

        def broken() -> None:
            raise ConnectionError("boom")

        with pytest.raises(Overloaded) as caught:
            await github.call(broken)
        assert caught.value.reason == "breaker_open"
        assert isinstance(caught.value.__cause__, ConnectionError)
        assert json.loads(caught.value.as_tool_result())["executed"] == "unknown"
        with pytest.raises(Overloaded) as refused:
            await github.call(broken)
        assert json.loads(refused.value.as_tool_result())["executed"] is False

    run_virtual(main)


def test_circumstances_dress_a_block_once_and_a_function_at_every_call() -> None:
    here, there = current(), Ambient(tenant="acme")
    block = ambient(there)
    with block:
        assert current() is there
        with pytest.raises(RuntimeError, match="entered once"), block:
            pass
        assert current() is there
    assert current() is here

    def plain(depth: int) -> list[str]:
        return [current().tenant, *(whose(depth - 1) if depth else [])]

    dress: Any = ambient(there)
    whose: Callable[[int], list[str]] = dress(plain)
    assert whose(2) == ["acme"] * 3
    assert current() is here


def test_a_step_of_a_run_keeps_its_circumstances() -> None:
    run = Ambient(tenant="acme", user="ann", lane="background", rank=3, workflow="w", run_id="r", deadline=9.0)
    step = at_step(run, "key", remaining_s=2.0, progress=0.5)
    assert step == replace(run, idempotency_key="key", remaining_s=2.0, progress=0.5)
    assert run.idempotency_key is None
