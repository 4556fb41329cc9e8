"""People of a scenario at a live service: the service over HTTP, here without sockets and in virtual time."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from pathlib import Path
from random import Random

import httpx2
import pytest

from headgate.client.async_client import AsyncClient
from headgate.errors import ConfigError
from headgate.gate import Gate
from headgate.lab.live import GAVE_UP, checked, drive
from headgate.lab.scenario.bound import bound
from headgate.lab.scenario.calls import Agent
from headgate.lab.scenario.description import Scenario, parse_scenario
from headgate.lab.scenario.play import Played, play
from headgate.lab.scenario.scores import score
from headgate.lab.scenario.traffic import wishes
from headgate.lab.scenario.users import WORKFLOW
from headgate.lab.scenario.world import World
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.server.app import build_app

SMALL = """
name: small
title: A small surge
seconds: 30s
dependencies:
  large: {kind: model, parallel: 4, most: 12, takes: 200ms, reads: 20000, writes: 600}
  desk: {kind: tool, parallel: 3, most: 10, takes: 200ms}
lanes:
  critical: {part: 0.2, deadline: 10s, value: 8}
  standard: {part: 0.8, deadline: 15s, value: 2}
tenants: {count: 3}
calls: {least: 3, most: 4}
users: {polite: 0.6, rude: 0.2, tries: 3, impatient: 0.1, patience: 50%}
traffic: {load: 0.6, changes: [{since: 10, until: 20, times: 6}]}
headgate:
  workers: {slots: 24}
  models: {large: {concurrency: 1..12}}
  tools: {desk: {concurrency: 1..10}}
  workflows: {agent: {queue: {depth: 30}}}
"""


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return parse_scenario(SMALL)


def driven(scenario: Scenario, folder: Path, *, until_s: float = 100.0, workflow: str = WORKFLOW) -> Played:
    async def main(clock: LoopClock) -> Played:
        world = World(scenario, clock=clock, seed=3)
        settings = scenario.headgate.model_copy(update={"store": f"sqlite:///{folder}/runs.db?synchronous=off"})
        gate = Gate(settings, clock=clock, rng=Random(3), store_mode="inline")
        gate.workflow(WORKFLOW)(Agent(world).__call__)
        async with gate:
            transport = httpx2.ASGITransport(build_app(gate, rng=Random(4)))
            async with AsyncClient("http://localhost:8400", transport=transport, clock=clock) as client:
                return await drive(scenario, client, seed=3, workflow=workflow, until_s=until_s, clock=clock)

    return run_virtual(main)


def test_a_service_that_is_driven_serves_as_many_as_in_the_lab(scenario: Scenario, tmp_path: Path) -> None:
    outside, inside = driven(scenario, tmp_path), play(scenario, seed=3)
    wanted = wishes(scenario, 3)
    assert [fate.wish for fate in outside.fates] == wanted
    could = bound(scenario, wanted)
    ours, theirs = score(outside, could).measures, score(inside, could).measures
    assert ours["goodput"] == pytest.approx(theirs["goodput"], abs=0.05)
    assert 0 < sum(not fate.admitted for fate in outside.fates) < len(wanted)
    assert math.isnan(ours["wasted-work"])
    assert math.isnan(ours["amplification"])
    taken = [fate for fate in outside.fates if fate.admitted]
    assert all(fate.finished_s is not None and fate.finished_s >= fate.wish.at_s for fate in taken)
    assert max(outside.timeline.columns["inflight:large"]) > 0
    assert max(outside.timeline.columns["limit:large"]) >= 1
    assert sum(outside.timeline.columns["on_time"]) == sum(fate.on_time for fate in outside.fates)


def test_what_has_not_ended_in_the_given_time_counts_as_not_done(scenario: Scenario, tmp_path: Path) -> None:
    cut = driven(scenario, tmp_path, until_s=18.0)
    assert cut.seconds == pytest.approx(18.0, abs=0.1)
    assert len(cut.fates) == len(wishes(scenario, 3))
    open_still = [fate for fate in cut.fates if fate.reason == GAVE_UP]
    assert open_still
    assert not any(fate.on_time for fate in open_still)
    assert any(fate.on_time for fate in cut.fates)


def test_a_service_without_the_workflow_is_not_driven(scenario: Scenario, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no workflow 'other'; it has agent"):
        driven(scenario, tmp_path, workflow="other")


def test_arrivals_do_not_wait_for_answers(scenario: Scenario) -> None:
    came: list[float] = []

    async def main(clock: LoopClock) -> Played:
        async def slow(request: httpx2.Request) -> httpx2.Response:
            if request.method == "POST":
                came.append(clock.monotonic())
                await asyncio.sleep(25)
                return httpx2.Response(503, json={"reason": "draining", "scope": "server"})
            return httpx2.Response(
                200, json={"workflows": [{"name": WORKFLOW}], "resources": [], "pressure": {"level": 0}}
            )

        transport = httpx2.MockTransport(slow)
        async with AsyncClient("http://localhost:8400", transport=transport, clock=clock, timeout_s=60) as client:
            return await drive(scenario, client, seed=3, until_s=60.0, clock=clock)

    played = run_virtual(main)
    first = [wish.at_s for wish in wishes(scenario, 3)]
    assert came[:50] == pytest.approx(first[:50], abs=0.01)  # those who come back are later than that
    assert not any(fate.admitted for fate in played.fates)
    assert {fate.reason for fate in played.fates} == {"draining"}


@pytest.mark.parametrize("url", ["http://127.0.0.1:8400", "http://localhost", "http://[::1]:1", "https://127.9.9.9"])
def test_this_machine_may_be_driven(url: str) -> None:
    checked(url, anywhere=False)


@pytest.mark.parametrize("url", ["http://example.com", "http://10.0.0.1:8400", "http://localhost.example.com"])
def test_other_machines_only_where_that_is_said(url: str) -> None:
    with pytest.raises(ConfigError, match="is not this machine"):
        checked(url, anywhere=False)
    checked(url, anywhere=True)


@pytest.mark.parametrize("url", ["localhost:8400", "ftp://127.0.0.1", "http://"])
def test_what_is_no_address_is_told(url: str) -> None:
    with pytest.raises(ConfigError, match="is no address of a service"):
        checked(url, anywhere=True)


def test_a_run_that_cannot_be_read_for_a_while_is_asked_for_again(scenario: Scenario, tmp_path: Path) -> None:
    reads = Counter[str]()

    async def main(clock: LoopClock) -> Played:
        world = World(scenario, clock=clock, seed=3)
        settings = scenario.headgate.model_copy(update={"store": f"sqlite:///{tmp_path}/runs.db?synchronous=off"})
        gate = Gate(settings, clock=clock, rng=Random(3), store_mode="inline")
        gate.workflow(WORKFLOW)(Agent(world).__call__)

        class Failing(httpx2.ASGITransport):
            async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
                if request.method == "GET" and "/runs/" in request.url.path:
                    reads[request.url.path] += 1
                    if reads[request.url.path] == 1:
                        return httpx2.Response(500, json={"title": "broken"}, request=request)
                return await super().handle_async_request(request)

        async with gate:
            transport = Failing(build_app(gate, rng=Random(4)))
            async with AsyncClient("http://localhost:8400", transport=transport, clock=clock) as client:
                return await drive(scenario, client, seed=3, until_s=100.0, clock=clock)

    played = run_virtual(main)
    assert reads
    assert all(fate.finished_s is not None for fate in played.fates if fate.admitted)
