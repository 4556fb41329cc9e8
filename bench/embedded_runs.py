"""No-op runs per second through the library: submit → claim → execute → finished, durable, in one process.

    python bench/embedded_runs.py [--runs 50000] [--callers 200] [--slots 200]

Prints runs per second and the ratio to a bare loop of the same inserts, claims and completions on SQLite
(one row at a time per statement, 200 rows per transaction) in the same run.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from pathlib import Path

import apsw

from headgate.config.settings import GateSettings, RunQueueSettings, WorkerSettings, WorkflowSettings
from headgate.gate import Gate
from headgate.runs.context import Run


async def headgate_rate(folder: Path, *, runs: int, callers: int, slots: int) -> float:
    """Runs per second from the first submit to the last one finished."""
    settings = GateSettings(
        store=f"sqlite:///{folder}/runs.db",
        workers=WorkerSettings(slots=slots),
        workflows={"noop": WorkflowSettings(queue=RunQueueSettings(depth=runs))},
    )
    gate = Gate(settings)
    finished = 0
    done = asyncio.Event()

    def count(event: object) -> None:
        nonlocal finished
        if getattr(event, "name", "") == "run_finished":
            finished += 1
            if finished == runs:
                done.set()

    @gate.workflow("noop")
    async def noop(run: Run, number: int) -> int:
        return number

    async with gate:
        gate.bus.subscribe(count)
        numbers = iter(range(runs))

        async def caller() -> None:
            for number in numbers:
                await gate.submit("noop", number)

        begin = time.perf_counter()
        await asyncio.gather(*(caller() for _ in range(callers)))
        submitted = time.perf_counter() - begin
        async with asyncio.timeout(300):
            await done.wait()
        took = time.perf_counter() - begin
        overview = await gate.store.runs.overview()
    if any(overview.states.values()):
        raise SystemExit(f"runs were left unfinished: {dict(overview.states)}")
    print(f"submitted {runs} runs in {submitted:.2f} s ({runs / submitted:,.0f}/s)")
    return runs / took


def bare_rate(folder: Path, *, runs: int, batch: int = 200) -> float:
    """The same three statements per run with nothing around them."""
    connection = apsw.Connection(str(folder / "bare.db"))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(
        "CREATE TABLE runs(id TEXT PRIMARY KEY, state TEXT, lane TEXT, v REAL, input TEXT, result TEXT) WITHOUT ROWID"
    )
    connection.execute("CREATE INDEX ready ON runs(lane, v) WHERE state='queued'")
    begin = time.perf_counter()
    for first in range(0, runs, batch):
        numbers = range(first, min(first + batch, runs))
        with connection:
            for number in numbers:
                connection.execute(
                    "INSERT INTO runs VALUES(?,'queued','standard',?,'{}',NULL)", (f"{number:036}", number)
                )
        with connection:
            claimed = connection.execute(
                "SELECT id FROM runs WHERE state='queued' AND lane='standard' ORDER BY v LIMIT ?", (batch,)
            ).fetchall()
            for (run_id,) in claimed:
                connection.execute("UPDATE runs SET state='running' WHERE id=?", (run_id,))
        with connection:
            for (run_id,) in claimed:
                connection.execute("UPDATE runs SET state='succeeded', result='1' WHERE id=?", (run_id,))
    return runs / (time.perf_counter() - begin)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50_000)
    parser.add_argument("--callers", type=int, default=200)
    parser.add_argument("--slots", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bare = bare_rate(Path(folder), runs=options.runs)
        rate = asyncio.run(
            headgate_rate(Path(folder), runs=options.runs, callers=options.callers, slots=options.slots)
        )
    print(f"headgate: {rate:,.0f} runs/s   bare SQLite: {bare:,.0f}/s   ratio {rate / bare:.2f}")


if __name__ == "__main__":
    main()
