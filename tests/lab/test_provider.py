"""The provider on an event loop, and in the dialect that the openai SDK speaks."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import openai
import pytest

from headgate.clock import Clock
from headgate.lab.provider.physics import Answer, Call, ModelSpec
from headgate.lab.provider.server import ProviderApp
from headgate.lab.provider.service import Provider, UnknownModel
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.lab.weather import Spell

SPEC = ModelSpec("large", parallel=2, most=4, first_s=1.0, noise=0.0, thrash=0.0, requests_per_min=600.0)


def provider(clock: Clock, *spells: Spell) -> Provider:
    return Provider([SPEC], clock=clock, rng=random.Random(1), spells=spells)


@asynccontextmanager
async def sdk(tested: Provider, clock: Clock) -> AsyncIterator[openai.AsyncOpenAI]:
    """The official client, on the application itself instead of a socket."""
    transport = httpx2.ASGITransport(ProviderApp(tested, clock))
    async with httpx2.AsyncClient(transport=transport) as http:
        yield openai.AsyncOpenAI(
            base_url="http://provider/v1", api_key="any", max_retries=0, http_client=http, timeout=60
        )


async def ask(client: openai.AsyncOpenAI, **more: Any) -> Any:
    wanted: dict[str, Any] = {
        "model": "large",
        "messages": [{"role": "user", "content": "four words are here"}],
        "max_tokens": 60,
        "extra_headers": {"x-lab-input-tokens": "1000"},
    }
    return await client.chat.completions.create(**{**wanted, **more})


def test_calls_take_virtual_time_and_share_capacity() -> None:
    async def main(clock: LoopClock) -> list[float]:
        tested = provider(clock)

        async def one(delay: float) -> float:
            await asyncio.sleep(delay)
            assert (await tested.complete(Call("large", 0, 0))).status == 200
            return clock.monotonic()

        return list(await asyncio.gather(one(0.0), one(0.0), one(0.0), one(5.0)))

    assert run_virtual(main) == [pytest.approx(1.5), pytest.approx(1.5), pytest.approx(1.5), pytest.approx(6.0)]


def test_a_cancelled_call_gives_its_place_back() -> None:
    async def main(clock: LoopClock) -> dict[str, Any]:
        tested = provider(clock)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await tested.complete(Call("large", 0, 0))
        return tested.statistics()

    stats = run_virtual(main)
    assert stats["models"]["large"]["inflight"] == 0
    assert stats["models"]["large"]["by_status"] == {"499": 1}


def test_a_schedule_counts_from_when_it_is_told() -> None:
    async def main(clock: LoopClock) -> list[int]:
        tested = provider(clock)
        await asyncio.sleep(100)
        tested.schedule([Spell(10, 20, errors=1.0)])
        statuses = []
        for _ in range(3):
            statuses.append((await tested.complete(Call("large", 0, 0))).status)
            await asyncio.sleep(10)
        return statuses

    first, during, after = run_virtual(main)
    assert (first, after) == (200, 200)
    assert during in (500, 503)


def test_an_unknown_model_is_named() -> None:
    async def main(clock: LoopClock) -> Answer:
        return await provider(clock).complete(Call("huge", 0, 0))

    with pytest.raises(UnknownModel, match="no model 'huge'; there are large"):
        run_virtual(main)


def test_the_sdk_gets_completions_with_usage_and_rate_headers() -> None:
    async def main(clock: LoopClock) -> tuple[Any, float]:
        tested = provider(clock)
        async with sdk(tested, clock) as client:
            raw = await client.chat.completions.with_raw_response.create(
                model="large",
                messages=[{"role": "user", "content": "hello"}],
                max_tokens=60,
                extra_headers={"x-lab-input-tokens": "1000"},
            )
            return raw, clock.monotonic()

    raw, took = run_virtual(main)
    done = raw.parse()
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (1000, 60)
    assert done.choices[0].message.content
    assert took == pytest.approx(1.0 + 1000 / 100_000 + 60 / 600, rel=0.01)
    assert raw.headers["x-ratelimit-limit-requests"] == "600"


def test_the_sdk_streams() -> None:
    async def main(clock: LoopClock) -> list[tuple[float, Any]]:
        tested = provider(clock)
        async with sdk(tested, clock) as client:
            stream = await ask(client, stream=True)
            return [(clock.monotonic(), chunk) async for chunk in stream]

    chunks = run_virtual(main)
    words = "".join(chunk.choices[0].delta.content or "" for _, chunk in chunks if chunk.choices)
    assert len(words.split()) == 40
    assert chunks[-1][1].usage.completion_tokens == 60
    assert [chunk.choices[0].finish_reason for _, chunk in chunks if chunk.choices][-1] == "stop"


def test_the_sdk_sees_refusals_as_its_own_errors() -> None:
    async def main(clock: LoopClock) -> list[Any]:
        tested = provider(clock)
        async with sdk(tested, clock) as client:
            return await asyncio.gather(*(ask(client) for _ in range(5)), return_exceptions=True)

    *fine, refused = sorted(run_virtual(main), key=lambda one: isinstance(one, Exception))
    assert len(fine) == 4
    assert isinstance(refused, openai.RateLimitError)
    assert refused.code == "slow_down"
    assert refused.response.headers["retry-after"] == "1"


def test_the_sdk_sees_an_outage_as_server_errors() -> None:
    async def main(clock: LoopClock) -> list[Any]:
        tested = provider(clock, Spell(0, 100, errors=1.0))
        async with sdk(tested, clock) as client:
            return await asyncio.gather(*(ask(client) for _ in range(4)), return_exceptions=True)

    outcomes = run_virtual(main)
    assert all(isinstance(one, openai.InternalServerError) for one in outcomes)


def test_models_schedule_and_mistakes_over_http() -> None:
    async def main(clock: LoopClock) -> dict[str, tuple[int, Any]]:
        tested = provider(clock)
        transport = httpx2.ASGITransport(ProviderApp(tested, clock))
        async with httpx2.AsyncClient(transport=transport, base_url="http://provider") as http:
            chat = "/v1/chat/completions"
            talk = [{"role": "user", "content": "x"}]
            answers = {
                "models": await http.get("/v1/models"),
                "schedule": await http.post("/admin/schedule", json={"spells": [{"start_s": 0, "end_s": 9}]}),
                "bad spell": await http.post("/admin/schedule", json={"spells": [{"start_s": 9, "end_s": 0}]}),
                "not json": await http.post(chat, content=b"{"),
                "no messages": await http.post(chat, json={"model": "large"}),
                "no such model": await http.post(chat, json={"model": "huge", "messages": talk}),
                "negative": await http.post(chat, json={"model": "large", "messages": talk, "max_tokens": -1}),
                "nowhere": await http.get("/v2"),
                "stats": await http.get("/stats"),
            }
            return {name: (answer.status_code, json.loads(answer.content)) for name, answer in answers.items()}

    found = run_virtual(main)
    assert {name: status for name, (status, _) in found.items()} == {
        "models": 200,
        "schedule": 200,
        "bad spell": 400,
        "not json": 400,
        "no messages": 400,
        "no such model": 404,
        "negative": 400,
        "nowhere": 404,
        "stats": 200,
    }
    assert [one["id"] for one in found["models"][1]["data"]] == ["large"]
    assert found["no such model"][1]["error"]["code"] == "model_not_found"
    assert found["stats"][1]["received"] == 0


@pytest.mark.parametrize(
    ("fault", "status", "usable"), [("empty", 200, False), ("malformed", 200, False), ("reset", 502, True)]
)
def test_unusable_answers_are_so_over_http(fault: str, status: int, usable: bool) -> None:
    async def main(clock: LoopClock) -> tuple[int, bool]:
        app = ProviderApp(provider(clock, Spell(0, 100, errors=1.0, fault=fault)), clock)
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://provider") as http:
            body = {"model": "large", "messages": [{"role": "user", "content": "words"}], "max_tokens": 10}
            answer = await http.post("/v1/chat/completions", json=body)
        try:
            answer.json()
        except ValueError:
            return answer.status_code, False
        return answer.status_code, True

    assert run_virtual(main) == (status, usable)


def test_a_schedule_keeps_how_things_go_wrong() -> None:
    async def main(clock: LoopClock) -> int:
        tested = provider(clock)
        await asyncio.sleep(5)
        tested.schedule([Spell(10, 20, errors=1.0, fault="529")])
        await asyncio.sleep(11)
        return (await tested.complete(Call("large", 10, 10))).status

    assert run_virtual(main) == 529
