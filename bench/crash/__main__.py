"""kill -9 at random moments under load, judged by an outside ledger.

    python -m bench.crash [--kills 100] [--stops 0] [--workers 2] [--per-second 10] [--seed 1]

Starts the real service and worker processes on one SQLite store, submits runs over HTTP all the while, and kills
a randomly chosen process at random moments (it is started again at once, as a supervisor would). Afterwards every
accepted run must have ended, no finished ``idempotent`` or ``once`` step may have begun again, and no ``once``
step may have begun twice. Exits non-zero if a promise was broken.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import httpx2

from headgate.client import Client
from headgate.errors import HeadgateError

HERE = Path(__file__).parent
CONFIG = """
store: sqlite:///{folder}/runs.db
workers: {{slots: 12}}
tools:
  api: {{concurrency: 64, queue: {{depth: 1000, max_age: 60s}}, timeout: 30s, breaker: null, retry: {{attempts: 1}}}}
workflows:
  work: {{queue: {{depth: 5000, max_age: 10m}}, deadline: 15m}}
"""
FROZEN_S = 20.0
"""Longer than a lease of 15 s: others take over what a stopped process holds, and it must notice."""
STEPS = ("look", "write-a", "send-a", "parallel-0", "parallel-1", "parallel-2", "send-b", "write-b")
"""What a run of ``app.py`` does in the world."""
EXPECTED = frozenset({"succeeded/succeeded", "failed/unknown_outcome", "failed/crash_loop"})
"""How runs may end: well, in the middle of a ``once`` step, or with the third worker gone that held them."""


class Fleet:
    """The processes, restarted whenever they are gone."""

    def __init__(self, folder: Path, *, workers: int, port: int) -> None:
        self.folder = folder
        headgate = str(Path(sys.executable).parent / "headgate")
        serve = [headgate, "serve", "app:gate", "--port", str(port)]
        self.commands = {"server": serve} | {f"worker-{n}": [headgate, "worker", "app:gate"] for n in range(workers)}
        self.environment = {
            **os.environ,
            "CRASH_LEDGER": str(folder / "ledger.jsonl"),
            "CRASH_CONFIG": str(folder / "headgate.yaml"),
        }
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        for name in self.commands:
            self.start(name)

    def start(self, name: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                self.commands[name], cwd=HERE, env=self.environment, stdout=log, stderr=log
            )

    def kill(self, name: str) -> tuple[int, int]:
        """(pid, wall milliseconds) of a kill -9, followed by a restart."""
        process = self.running[name]
        at_ms = time.time_ns() // 1_000_000
        process.send_signal(signal.SIGKILL)
        process.wait()
        self.start(name)
        return process.pid, at_ms

    def freeze(self, name: str, seconds: float) -> None:
        """Stand a process still for longer than its leases, then let it go on as if nothing had been."""
        process = self.running[name]
        process.send_signal(signal.SIGSTOP)
        try:
            time.sleep(seconds)
        finally:
            process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for process in self.running.values():
            process.send_signal(signal.SIGTERM)
        for process in self.running.values():
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()


class Load:
    """Submits at a steady pace from one thread, each with an idempotency key, until told to stop."""

    def __init__(self, url: str, per_second: float, rng: random.Random) -> None:
        self.accepted: dict[str, str] = {}
        self.unanswered = 0
        self._client = Client(url)
        self._gap_s = 1 / per_second
        self._rng = rng
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(60)

    def _run(self) -> None:
        number = 0
        while not self._stop.wait(self._gap_s):
            number += 1
            self._submit(f"key-{number}", {"seconds": round(self._rng.uniform(0.05, 0.4), 3)})

    def _submit(self, key: str, plan: dict[str, float]) -> None:
        for _ in range(20):
            try:
                self.accepted[key] = self._client.submit("work", plan, idempotency_key=key)["id"]
                return
            except (HeadgateError, httpx2.HTTPError):  # the server is being killed; the key makes trying again safe
                if self._stop.wait(0.25):
                    break
        self.unanswered += 1


def wait_ready(url: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            Client(url).capacity()
            return
        except (HeadgateError, httpx2.HTTPError):
            if time.monotonic() > deadline:
                raise SystemExit("the server did not come up") from None
            time.sleep(0.1)


def percentile(values: list[float], share: float) -> float | None:
    return sorted(values)[min(len(values) - 1, int(share * len(values)))] if values else None


def judge(folder: Path, accepted: dict[str, str], kills: list[tuple[int, int]]) -> dict[str, Any]:
    """Compare the ledger with the store."""
    lines = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    store = sqlite3.connect(f"file:{folder}/runs.db?mode=ro", uri=True)
    states = dict(store.execute("SELECT id, state FROM runs"))
    reasons = Counter(store.execute("SELECT state || '/' || coalesce(reason, '') FROM runs").fetchall())
    finished: dict[tuple[str, str], int] = {}
    for run_id, result, effect, finished_ms in store.execute(
        "SELECT runs.id, steps.result, effect, steps.finished_ms FROM steps JOIN runs ON runs.seq = steps.run"
        " WHERE steps.state = 'done'"
    ):
        if effect != "pure":
            finished[run_id, json.loads(result)] = finished_ms
    begun: dict[tuple[str, str], list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        if line["kind"] == "begin":
            begun[line["run"], line["step"]].append(line)
    repeated = sum(
        begin["at_ms"] > finished[step] for step, begins in begun.items() if step in finished for begin in begins
    )
    once_twice = sum(len(begins) > 1 for (_, step), begins in begun.items() if step.startswith("send"))
    ended = {(line["run"], line["step"]) for line in lines if line["kind"] == "end"}
    hollow = sum(
        state == "succeeded" and any((run_id, step) not in ended for step in STEPS)
        for run_id, state in states.items()
    )
    changed_keys = sum(len({begin["key"] for begin in begins}) > 1 for begins in begun.values())
    recovery, hit = recoveries(lines, kills)
    terminal = {"succeeded", "failed", "cancelled", "expired"}
    return {
        "kills": len(kills),
        "kills_that_hit_running_work": hit,
        "accepted": len(accepted),
        "lost": sum(states.get(run_id) not in terminal for run_id in accepted.values()),
        "two_runs_for_one_key": len(accepted) - len(set(accepted.values())),
        "states": {str(key[0]): count for key, count in reasons.items()},
        "finished_steps_repeated": repeated,
        "once_steps_begun_twice": once_twice,
        "succeeded_without_every_effect": hollow,
        "idempotency_keys_changed": changed_keys,
        "attempts_cut_short": len(recovery),
        "recovery_s": {
            name: percentile(recovery, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("max", 1.0))
        },
    }


def recoveries(lines: list[dict[str, Any]], kills: list[tuple[int, int]]) -> tuple[list[float], int]:
    """Seconds from each kill until each run it cut short was at work again, and how many kills hit something."""
    by_run: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines:
        if line["kind"] in ("attempt", "done"):
            by_run[line["run"]].append(line)
    waits, hits = [], set()
    for events in by_run.values():
        for index, event in enumerate(events[:-1]):
            after = events[index + 1]
            if event["kind"] != "attempt" or after["kind"] != "attempt":
                continue
            for pid, at_ms in kills:
                if pid == event["pid"] and event["at_ms"] <= at_ms <= after["at_ms"]:
                    waits.append((after["at_ms"] - at_ms) / 1000)
                    hits.add((pid, at_ms))
    return waits, len(hits)


def settle(folder: Path, accepted: dict[str, str], seconds: float) -> None:
    """Wait until every accepted run has ended, or the time is over (the judge will say)."""
    store = sqlite3.connect(f"file:{folder}/runs.db?mode=ro", uri=True)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        (open_runs,) = store.execute(
            "SELECT count(*) FROM runs WHERE state IN ('queued', 'running', 'suspended')"
        ).fetchone()
        if open_runs == 0:
            return
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--stops", type=int, default=0, help="after the kills: processes stopped for 20 s")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--per-second", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--port", type=int, default=8499)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    url = f"http://127.0.0.1:{options.port}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "headgate.yaml").write_text(CONFIG.format(folder=folder))
        fleet = Fleet(folder, workers=options.workers, port=options.port)
        try:
            wait_ready(url)
            load = Load(url, options.per_second, rng)
            kills = []
            for number in range(options.kills):
                time.sleep(rng.uniform(1.0, 4.0))
                kills.append(fleet.kill(rng.choice(sorted(fleet.commands))))
                print(f"\rkills {number + 1}/{options.kills}  accepted {len(load.accepted)}", end="", flush=True)
            for number in range(options.stops):
                time.sleep(rng.uniform(1.0, 4.0))
                fleet.freeze(rng.choice(sorted(fleet.commands)), FROZEN_S)
                print(f"\rstops {number + 1}/{options.stops}  accepted {len(load.accepted)}", end="", flush=True)
            load.stop()
            print()
            settle(folder, load.accepted, 120)
        finally:
            fleet.stop()
        verdict = judge(folder, load.accepted, kills)
    verdict["submissions_without_answer"] = load.unanswered
    verdict["stops"] = options.stops
    verdict["seed"] = options.seed
    print(json.dumps(verdict, indent=1))
    p95 = verdict["recovery_s"]["p95"]
    broken = (
        verdict["lost"]
        or verdict["finished_steps_repeated"]
        or verdict["once_steps_begun_twice"]
        or verdict["idempotency_keys_changed"]
        or verdict["two_runs_for_one_key"]
        or verdict["succeeded_without_every_effect"]
        or verdict["states"].keys() - EXPECTED
        or (options.kills > 0 and (p95 is None or p95 > 20))
    )
    raise SystemExit(1 if broken else 0)


if __name__ == "__main__":
    main()
