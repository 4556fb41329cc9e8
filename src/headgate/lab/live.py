"""A scenario's people at the door of a live service, over HTTP and in real time.

The load is open: whoever wants something comes at their moment, however long others wait for their answers. What
became of the runs is read from the service. What happened at its dependencies is not seen from here, so measures of
calls (wasted work, amplification, money) are not a number; a scenario's troubles do not happen by themselves either.

By default only services on this machine are driven: this is load, and somebody else's service has not asked for it.
"""

from __future__ import annotations

import asyncio
import ipaddress
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import httpx2

from headgate.client.answers import ENDED
from headgate.client.async_client import AsyncClient
from headgate.clock import REAL_CLOCK, Clock
from headgate.errors import ApiError, ConfigError, Rejected
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.play import AFTER_DEADLINE_S, Fate, Played
from headgate.lab.scenario.timeline import Sight, Watcher
from headgate.lab.scenario.traffic import Wish, wishes
from headgate.lab.scenario.users import WORKFLOW, Asked, Promise, Taken, Turned, Users

LOOK_S = 1.0
AT_ONCE = 16
"""Runs that are read side by side."""
GAVE_UP = "no_answer"
"""Reason of a wish whose service could not be reached, or did not say in time what became of the run."""


class SinceStart:
    """A clock that begins at 0 now, as virtual ones do."""

    __slots__ = ("_clock", "_start")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._start = clock.monotonic()

    def now_ms(self) -> int:
        return self._clock.now_ms()

    def monotonic(self) -> float:
        return self._clock.monotonic() - self._start


def live(
    scenario: Scenario,
    url: str,
    *,
    seed: int,
    api_key: str | None = None,
    workflow: str = WORKFLOW,
    at_most_s: float | None = None,
    anywhere: bool = False,
    on_second: Callable[[float, float], None] | None = None,
) -> Played:
    """Drive the service at ``url`` with the wishes of the scenario, and say what became of them.

    Args:
        workflow: what is asked for; its input is a wish's ticket, with ``number`` and ``plan``.
        at_most_s: when to stop at the latest; what has not ended by then counts as not done. By default a minute
            after the last deadline.
        anywhere: also drive services on other machines.
        on_second: is told about every second how much of the time has passed: seconds, of how many.

    Raises:
        ConfigError: the address is no HTTP address, or that of another machine; or the service has no such workflow.
        Rejected, ApiError, httpx2.TransportError: the service does not say what it has.
    """
    checked(url, anywhere=anywhere)
    longest = scenario.seconds + max(lane.deadline for lane in scenario.lanes.values()) + AFTER_DEADLINE_S
    until_s = longest if at_most_s is None else min(longest, at_most_s)

    async def main() -> Played:
        async with AsyncClient(url, api_key) as client:
            return await drive(scenario, client, seed=seed, workflow=workflow, until_s=until_s, on_second=on_second)

    return asyncio.run(main())


def checked(url: str, *, anywhere: bool, say: str = "anywhere=True") -> None:
    """``say``: how the caller can say that other machines may be driven too.

    Raises:
        ConfigError: the address is no HTTP address, or (unless ``anywhere``) that of another machine.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError([f"{url!r} is no address of a service; write for example http://127.0.0.1:8400"])
    if not anywhere and not _is_here(parts.hostname):
        there = f"{parts.hostname} is not this machine"
        raise ConfigError([f"{there}; load goes elsewhere only if that is said: {say}"])


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


async def drive(
    scenario: Scenario,
    client: AsyncClient,
    *,
    seed: int,
    workflow: str = WORKFLOW,
    until_s: float,
    on_second: Callable[[float, float], None] | None = None,
    clock: Clock = REAL_CLOCK,
) -> Played:
    """As `live`, through an open client. ``clock`` has to go with the running event loop.

    Raises:
        ConfigError: the service has no such workflow. Rejected, ApiError, httpx2.TransportError: it does not say.
    """
    written = [one["name"] for one in (await client.capacity())["workflows"]]
    if workflow not in written:
        raise ConfigError([f"the service has no workflow {workflow!r}; it has {', '.join(written) or 'none'}"])
    since = SinceStart(clock)
    users = Users([HttpDesk(client, since, workflow)], since, tries=scenario.users.tries)
    outside = _Outside(client, list(scenario.dependencies))
    watcher = Watcher(list(scenario.dependencies), outside.inflight.__getitem__, outside.sight, now=since.monotonic)
    beside = [asyncio.create_task(outside.look()), asyncio.create_task(watcher.watch())]
    if on_second is not None:
        beside.append(asyncio.create_task(_tell(on_second, since, until_s)))
    endings = _Endings(client, users)
    wanted = wishes(scenario, seed)
    try:
        async with asyncio.timeout(until_s):
            reading = asyncio.create_task(endings.follow())
            beside.append(reading)
            await users.come(wanted)
            endings.no_more = True
            await asyncio.shield(reading)
    except TimeoutError:
        endings.no_more = True  # what has not ended by now counts as not done
    finally:
        watcher.end()
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
    fates = _fates(wanted, users.asked, endings.found)
    nothing = dict.fromkeys(scenario.dependencies, math.nan)
    return Played(scenario, seed, fates, [], nothing, since.monotonic(), timeline=watcher.timeline(fates, ()))


class HttpDesk:
    """A live service as its users see it: a `headgate.lab.scenario.users.Desk`."""

    def __init__(self, client: AsyncClient, clock: Clock, workflow: str) -> None:
        self._client = client
        self._clock = clock
        self._workflow = workflow

    async def ask(self, wish: Wish, ticket: dict[str, Any], left_s: float) -> Taken | Turned:
        try:
            told = await self._client.submit(
                self._workflow, ticket, tenant=wish.tenant, user=wish.user, lane=wish.lane, deadline=left_s
            )
        except Rejected as refusal:
            return Turned(refusal.reason, refusal.retry_after_s, final=refusal.retry_after_s is None)
        except ApiError as error:  # such as a run that could not be done in time even alone
            return Turned(str(error.problem.get("reason", f"http_{error.status}")), final=True)
        except httpx2.TransportError:
            return Turned(GAVE_UP)
        now_s = self._clock.monotonic()
        return Taken(told["id"], Promise(now_s, told.get("eta_s"), told.get("finish_s"), told.get("finish_p90_s")))

    async def leave(self, run_id: str) -> None:
        with suppress(Rejected, ApiError, httpx2.TransportError):  # then the run goes on, as its fate will show
            await self._client.cancel(run_id, detail="the user went away")


class _Endings:
    """Reads from the service what became of the runs that it took in."""

    def __init__(self, client: AsyncClient, users: Users) -> None:
        self._client = client
        self._users = users
        self._few = asyncio.Semaphore(AT_ONCE)
        self.found: dict[str, Mapping[str, Any]] = {}
        """Run → how the service shows it, ended."""
        self.no_more = False
        """Nobody comes any more."""

    async def follow(self) -> None:
        """Until every run that was taken in has ended."""
        while True:
            last = self.no_more
            left = [run_id for run_id in self._users.by_run if run_id not in self.found]
            if last and not left:
                return
            await asyncio.gather(*(self._read(run_id) for run_id in left))
            await asyncio.sleep(LOOK_S)

    async def _read(self, run_id: str) -> None:
        async with self._few:
            try:
                told = await self._client.run(run_id)
            except (Rejected, ApiError, httpx2.TransportError):
                told = {"state": "unknown"}  # it is asked again in a moment
        if told["state"] in ENDED:
            self.found[run_id] = told


class _Outside:
    """What the service says about itself, for the timeline."""

    def __init__(self, client: AsyncClient, names: Sequence[str]) -> None:
        self._client = client
        self.inflight = dict.fromkeys(names, 0)
        self._sight = Sight()

    def sight(self) -> Sight:
        return self._sight

    async def look(self) -> None:
        """About every second, until cancelled. A service that does not answer shows what it showed last."""
        while True:
            try:
                told = await self._client.capacity()
            except (Rejected, ApiError, httpx2.TransportError):
                told = None
            if told is not None:
                resources = {one["name"]: one for one in told["resources"]}
                here = {n: one["concurrency"]["inflight"] for n, one in resources.items() if n in self.inflight}
                self.inflight.update(here)
                limits = {name: float(one["concurrency"]["limit"]) for name, one in resources.items()}
                lines = [one["queue"] for one in resources.values()]
                self._sight = Sight(
                    limits,
                    sum(int(one["depth"]) for one in lines),
                    max((float(one["oldest_age_s"]) for one in lines), default=0.0),
                    float(told["pressure"]["level"]),
                )
            await asyncio.sleep(LOOK_S)


async def _tell(on_second: Callable[[float, float], None], clock: Clock, until_s: float) -> None:
    while True:
        on_second(clock.monotonic(), until_s)
        await asyncio.sleep(LOOK_S)


def _fates(wanted: Sequence[Wish], asked: Sequence[Asked], found: Mapping[str, Mapping[str, Any]]) -> list[Fate]:
    known = {one.wish.number: one for one in asked}
    return [_fate(known.get(wish.number) or Asked(wish), found) for wish in wanted]


def _fate(asked: Asked, found: Mapping[str, Mapping[str, Any]]) -> Fate:
    last = asked.refusals[-1] if asked.refusals else GAVE_UP
    refusals, refused_s = tuple(asked.refusals), tuple(asked.refused_s)
    promise = asked.promise
    if asked.run_id is None or promise is None:
        return Fate(asked.wish, asked.tries, False, refusals, reason=last, returns=asked.returns, refused_s=refused_s)
    run = found.get(asked.run_id, {})
    # by the service's own clock between two of its moments: the clocks of two machines need not agree
    finished_s = _after(run, "finished_at", promise.at_s)
    return Fate(
        asked.wish,
        asked.tries,
        admitted=True,
        refusals=refusals,
        succeeded=run.get("state") == "succeeded",
        finished_s=finished_s,
        started_s=_after(run, "started_at", promise.at_s),
        reason=str(run.get("reason", GAVE_UP)),
        went_away=asked.went_away(finished_s),
        degraded=bool(run.get("degraded")),
        returns=asked.returns,
        returns_admitted=asked.returns_admitted,
        promised_start_s=promise.start_s,
        promised_p50_s=promise.finish_p50_s,
        promised_p90_s=promise.finish_p90_s,
        admitted_s=promise.at_s,
        refused_s=refused_s,
    )


def _after(run: Mapping[str, Any], what: str, admitted_s: float) -> float | None:
    moment, submitted = run.get(what), run.get("submitted_at")
    if moment is None or submitted is None:
        return None
    return admitted_s + (datetime.fromisoformat(moment) - datetime.fromisoformat(submitted)).total_seconds()
