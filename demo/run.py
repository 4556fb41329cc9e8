"""One demo from beginning to end."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.live import Live

from demo.figures import MODELS, Figures, figures, spread
from demo.ledger import Asked, Audit, RunFacts, audit, facts, listed_ids
from demo.picture import Story, draw
from demo.plan import PATIENCE_S, Plan, make_plan
from demo.processes import Children
from demo.stage import Cast, begin_weather, provider_calls, python, set_stage
from demo.table import final_table
from demo.view import live_view

UNFINISHED = ("queued", "running", "suspended")
GRACE_S = 10.0
"""Beyond the longest patience, until every accepted run must have ended."""
READ_AT_ONCE = 8
SATURATED_LAG_S = 0.25


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    seconds: float
    seed: int
    keep: bool
    control: bool
    out: Path


@dataclass(slots=True)
class Pulse:
    """Whether the machine keeps up: how late short sleeps end in this process, in seconds."""

    lateness: list[float] = field(default_factory=list)

    async def feel(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(0.05)
            self.lateness.append(time.monotonic() - before - 0.05)


@dataclass(frozen=True, slots=True)
class Result:
    """One side, over."""

    cast: Cast
    records: list[RunFacts]
    checked: Audit
    figures: Figures


async def run_demo(options: Options, console: Console) -> int:
    """Play, report, and return the exit status: 0 only if every accepted run is accounted for."""
    out = _empty(options.out)
    plan = make_plan(seconds=options.seconds, seed=options.seed)
    real = os.environ.get("OPENAI_BASE_URL")
    console.print(
        f"{len(plan.users)} requests of the trace in {plan.arrivals_end_s:.0f} s, seed {plan.seed}; ", end=""
    )
    if real:
        console.print(f"provider: {real} (a real one gets no outage and no control beside)")
    else:
        console.print("simulated providers, one for each side")
    began, pulse = time.monotonic(), Pulse()
    async with Children(out / "logs") as children:
        casts = await set_stage(children, plan, out, control=options.control and not real, provider=real)
        results, end_s = await _play(casts, plan, children, console, pulse)
        statuses = [await children.stop(cast.process) for cast in casts]
    machine = _machine(time.monotonic() - began, pulse)
    _report(options, plan, results, machine, end_s, console)
    if not options.keep:
        shutil.rmtree(out / "service", ignore_errors=True)
    return _verdict(results, statuses[0], machine, console)


async def _play(
    casts: list[Cast], plan: Plan, children: Children, console: Console, pulse: Pulse
) -> tuple[list[Result], float]:
    start = time.monotonic()
    start_ms = time.time_ns() // 1_000_000
    await asyncio.gather(*(begin_weather(cast, plan) for cast in casts))
    background = [asyncio.create_task(cast.watch.follow(start)) for cast in casts]
    background.append(asyncio.create_task(pulse.feel()))
    try:
        with Live(console=console, refresh_per_second=4, transient=True) as live:
            background.append(asyncio.create_task(_show(live, casts, plan, start)))
            playing = asyncio.gather(
                *(cast.side.play(plan.users, start=start, until_s=plan.arrivals_end_s) for cast in casts)
            )
            while not playing.done():
                children.check()
                await asyncio.wait({playing}, timeout=0.5)
            await playing
            await _let_finish(casts, children, start=start)
        end_s = time.monotonic() - start
        return [await _result(cast, start_ms=start_ms, end_s=end_s) for cast in casts], end_s
    finally:
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await asyncio.gather(*(cast.side.http.aclose() for cast in casts))


async def _show(live: Live, casts: list[Cast], plan: Plan, start: float) -> None:
    while True:
        live.update(live_view(plan, [(cast.side, cast.watch) for cast in casts], time.monotonic() - start))
        await asyncio.sleep(0.25)


async def _let_finish(casts: list[Cast], children: Children, *, start: float) -> None:
    """Until the service has nothing unfinished, and nothing that the control still has could be on time."""
    service, *others = [cast.side for cast in casts]
    last_s = max((one.patience_ends_s for side in others for one in side.asked), default=0.0)
    by = time.monotonic() + max(PATIENCE_S.values()) + GRACE_S
    while time.monotonic() < by:
        children.check()
        service_busy = bool(await listed_ids(service.http, states=UNFINISHED))
        others_busy = time.monotonic() - start < last_s and any(cast.watch.last.running for cast in casts[1:])
        if not service_busy and not others_busy:
            return
        await asyncio.sleep(0.5)


async def _result(cast: Cast, *, start_ms: int, end_s: float) -> Result:
    side = cast.side
    turnstile = asyncio.Semaphore(READ_AT_ONCE)

    async def record(run_id: str) -> RunFacts:
        async with turnstile:
            answer = await side.http.get(f"/v1/runs/{run_id}")
            answer.raise_for_status()
            return facts(answer.json(), start_ms=start_ms)

    records = list(await asyncio.gather(*(record(run_id) for run_id in await listed_ids(side.http))))
    checked = audit(side.asked, records)
    received = await provider_calls(cast)
    if received is None:  # a real provider does not tell; the tries of remembered calls are what is known
        received = sum(step.tries for run in records for step in run.steps if step.resource in MODELS)
    counted = figures(
        side.asked,
        records,
        cast.watch.looks,
        withheld=side.withheld,
        provider_calls=received,
        checked=checked,
        end_s=end_s,
    )
    return Result(cast, records, checked, counted)


def _empty(out: Path) -> Path:
    """The output directory without what an earlier demo left there."""
    for name in ("logs", "service"):
        shutil.rmtree(out / name, ignore_errors=True)
    (out / "logs").mkdir(parents=True)
    return out


def _machine(wall_s: float, pulse: Pulse) -> dict[str, float]:
    """What all of it took of the machine, and whether that was too much for the figures to mean anything."""
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime
    late = spread(pulse.lateness)
    return {
        "cores": float(os.cpu_count() or 1),
        "wall_s": round(wall_s, 1),
        "cpu_s": round(cpu_s, 1),
        "cpu_share": round(cpu_s / wall_s / (os.cpu_count() or 1), 3),
        "lag_p99_s": round(late.p99 or 0.0, 4),
    }


def _report(
    options: Options, plan: Plan, results: list[Result], machine: dict[str, float], end_s: float, console: Console
) -> None:
    stories = [
        Story(one.cast.side.name, one.cast.side.asked, one.records, one.cast.watch.looks, one.figures)
        for one in results
    ]
    table = final_table({story.name: story.figures for story in stories})
    console.print(table)
    text = Console(file=(options.out / "table.txt").open("w", encoding="utf-8"), width=140)
    text.print(table)
    text.file.close()
    draw(stories, plan, options.out / "demo.png", end_s=min(end_s, plan.seconds * 1.3))
    raw = {
        "python": python(),
        "seed": plan.seed,
        "seconds": plan.seconds,
        "machine": machine,
        "spans": [{"name": span.name, "start_s": span.start_s, "end_s": span.end_s} for span in plan.spans],
        "sides": {one.cast.side.name: _raw(one) for one in results},
    }
    (options.out / "report.json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")
    console.print(f"picture: {options.out / 'demo.png'}   figures: {options.out / 'report.json'}")
    console.print(
        f"[dim]machine: {machine['cpu_share']:.0%} of {machine['cores']:.0f} cores, "
        f"timers late by {machine['lag_p99_s'] * 1000:.0f} ms (p99)[/]"
    )


def _raw(one: Result) -> dict[str, object]:
    known = {record.id: record for record in one.records}
    return {
        "figures": one.figures.as_json(),
        "accepted": one.checked.accepted,
        "lost": list(one.checked.lost),
        "unfinished": list(one.checked.unfinished),
        "looks_missed": one.cast.watch.missed,
        "requests": [_request(asked, known.get(asked.run_id or "")) for asked in one.cast.side.asked],
        "looks": [
            [look.at_s, look.waiting, look.running, look.oldest_s, look.calls] for look in one.cast.watch.looks
        ],
    }


def _request(asked: Asked, run: RunFacts | None) -> dict[str, object]:
    return {
        "index": asked.user.arrival.index,
        "tenant": asked.user.tenant,
        "lane": asked.user.lane,
        "offered_s": round(asked.offered_s, 3),
        "refusals": [[round(at_s, 3), reason] for at_s, reason in asked.refusals],
        "run": asked.run_id,
        "state": None if run is None else run.state,
        "reason": None if run is None else run.reason,
        "started_s": None if run is None else run.started_s,
        "finished_s": None if run is None else run.finished_s,
        "steps": 0 if run is None else len(run.steps),
    }


def _verdict(results: list[Result], status: int, machine: dict[str, float], console: Console) -> int:
    checked = results[0].checked
    if machine["lag_p99_s"] > SATURATED_LAG_S or any(one.cast.watch.missed for one in results):
        console.print("[yellow]The machine was too busy: part of what you see is its load, not the provider's.[/]")
    if not checked.kept:
        console.print(
            f"[red bold]Accepted runs are not accounted for: {len(checked.lost)} lost, {len(checked.unfinished)} "
            f"unfinished, {len(checked.twice)} twice, {len(checked.unasked)} that nobody asked for.[/]"
        )
        return 1
    if status != 0:
        console.print(f"[red bold]The service ended with status {status}; see demo-out/logs/headgate.log.[/]")
        return 1
    console.print(f"[green]All {checked.accepted} accepted runs ended in exactly one state; none was lost.[/]")
    return 0
