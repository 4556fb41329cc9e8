"""Exact bounds and exact idempotency over real HTTP.

    python -m bench.intake_bounds

1. 64 concurrent clients submit to a workflow whose queue depth is 50 while nothing works: exactly 50 may get in,
   every other answer must be a 429 that carries every field and header a caller needs, and a sampler that reads
   the store all the while must never see more than 50 waiting.
2. 50 threads submit the same idempotency key, for 200 keys in turn: exactly one run for each key.

Two server processes share the store in both parts. Exits non-zero if a promise was broken.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

CONFIG = """
store: sqlite:///{folder}/runs.db
workflows:
  bounded: {{queue: {{depth: 50, max_age: 1h}}}}
  keyed: {{queue: {{depth: 100000, max_age: 1h}}}}
"""
FIELDS = ("type", "title", "status", "detail", "reason", "scope", "limit", "used", "retry_after_ms")
HEADERS = ("retry-after", "retry-after-ms", "x-should-retry", "ratelimit", "ratelimit-policy")
PORTS = (8497, 8498)


def start(folder: Path, port: int) -> subprocess.Popen[bytes]:
    (folder / "app.py").write_text(
        "from headgate import Gate\ngate = Gate.load('headgate.yaml')\n"
        "@gate.workflow('bounded')\nasync def bounded(run, plan):\n    return None\n"
        "@gate.workflow('keyed')\nasync def keyed(run, plan):\n    return None\n"
    )
    headgate = str(Path(sys.executable).parent / "headgate")
    return subprocess.Popen(
        [headgate, "serve", "app:gate", "--port", str(port), "--no-workers"],
        cwd=folder,
        env=os.environ.copy(),
        stdout=subprocess.DEVNULL,
    )


def wait_ready(port: int) -> None:
    for _ in range(300):
        try:
            if httpx2.get(f"http://127.0.0.1:{port}/readyz").status_code == 200:
                return
        except httpx2.HTTPError:
            time.sleep(0.1)
    raise SystemExit("the server did not come up")


def overload(folder: Path) -> dict[str, object]:
    """Part 1."""
    answers: Counter[int] = Counter()
    incomplete: list[str] = []
    deepest = 0
    over = threading.Event()

    def watch() -> None:
        nonlocal deepest
        store = sqlite3.connect(f"file:{folder}/runs.db?mode=ro", uri=True)
        while not over.is_set():
            (waiting,) = store.execute(
                "SELECT count(*) FROM runs WHERE state = 'queued' AND workflow = 'bounded'"
            ).fetchone()
            deepest = max(deepest, waiting)

    def client(number: int) -> None:
        with httpx2.Client(base_url=f"http://127.0.0.1:{PORTS[number % 2]}") as http:
            for _ in range(20):
                answer = http.post("/v1/runs", json={"workflow": "bounded", "input": {"n": number}})
                answers[answer.status_code] += 1
                if answer.status_code == 429:
                    missing = [field for field in FIELDS if field not in answer.json()]
                    missing += [header for header in HEADERS if header not in answer.headers]
                    wait = int(answer.headers.get("retry-after", 0))
                    if missing or not 1 <= wait <= 60:
                        incomplete.append(f"{missing} {wait}")

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(64) as pool:
        list(pool.map(client, range(64)))
    over.set()
    watcher.join()
    return {
        "answers": dict(answers),
        "deepest": deepest,
        "incomplete_429": len(incomplete),
        "examples": incomplete[:2],
    }


def same_keys(keys: int = 200, threads: int = 50) -> dict[str, object]:
    """Part 2."""
    runs: dict[str, set[str]] = {f"key-{n}": set() for n in range(keys)}
    statuses: Counter[int] = Counter()
    created: Counter[str] = Counter()
    gate = threading.Barrier(threads)
    lock = threading.Lock()

    def client(number: int) -> None:
        with httpx2.Client(base_url=f"http://127.0.0.1:{PORTS[number % 2]}") as http:
            for key in runs:
                gate.wait()
                answer = http.post(
                    "/v1/runs", json={"workflow": "keyed", "input": {"k": key}}, headers={"Idempotency-Key": key}
                )
                with lock:
                    statuses[answer.status_code] += 1
                    runs[key].add(answer.json().get("id", ""))
                    created[key] += answer.status_code == 202

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(client, range(threads)))
    return {
        "answers": dict(statuses),
        "keys_with_exactly_one_run": sum(len(ids) == 1 and "" not in ids for ids in runs.values()),
        "keys_created_exactly_once": sum(count == 1 for count in created.values()),
        "keys": keys,
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "headgate.yaml").write_text(CONFIG.format(folder=folder))
        servers = [start(folder, port) for port in PORTS]
        try:
            for port in PORTS:
                wait_ready(port)
            bounds, keyed = overload(folder), same_keys()
        finally:
            for server in servers:
                server.send_signal(signal.SIGTERM)
            for server in servers:
                server.wait(30)
    print(json.dumps({"bounds": bounds, "idempotency": keyed}, indent=1))
    kept = (
        bounds["answers"] == {202: 50, 429: 64 * 20 - 50}
        and bounds["deepest"] == 50
        and bounds["incomplete_429"] == 0
        and keyed["keys_with_exactly_one_run"] == keyed["keys_created_exactly_once"] == keyed["keys"]
    )
    raise SystemExit(0 if kept else 1)


if __name__ == "__main__":
    main()
