"""Durable intake and refusals per second, as ratios to a bare FastAPI echo in the same run.

    python -m bench.intake_http [--seconds 3] [--rounds 5] [--connections 64]

The rounds alternate between the three servers, so that a noisy machine disturbs all of them alike; the medians are
compared. Goals: accepted ≥ 0.4, refused ≥ 0.8 of the echo.
"""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

KINDS = {"echo": 202, "accept": 202, "refuse": 429}
"""Server → the status that counts."""


def measure(port: int, seconds: float, connections: int) -> dict[str, Any]:
    """One round of load in its own process."""
    command = [sys.executable, "-m", "bench.intake_http.load", str(port), str(seconds), str(connections)]
    told: dict[str, Any] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=64)
    arguments = parser.parse_args()
    rates: dict[str, list[float]] = {kind: [] for kind in KINDS}
    servers: dict[str, subprocess.Popen[str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        try:
            ports = {}
            for kind in KINDS:
                own = Path(folder, kind)
                own.mkdir()
                command = [sys.executable, "-m", "bench.intake_http.servers", kind, str(own)]
                servers[kind] = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
                line = servers[kind].stdout
                assert line is not None
                ports[kind] = int(line.readline())
                measure(ports[kind], 0.5, arguments.connections)  # warm up
            for number in range(arguments.rounds):
                for kind, status in KINDS.items():
                    told = measure(ports[kind], arguments.seconds, arguments.connections)
                    wrong = {one: count for one, count in told["statuses"].items() if int(one) != status}
                    if wrong:
                        raise SystemExit(f"{kind} answered {wrong}")
                    rates[kind].append(told["statuses"][str(status)] / told["seconds"])
                    print(
                        f"round {number + 1} {kind:7} {rates[kind][-1]:8,.0f}/s  "
                        f"p50 {told['p50_ms']:6.1f} ms  p99 {told['p99_ms']:6.1f} ms"
                    )
        finally:
            for server in servers.values():
                server.send_signal(signal.SIGTERM)
            for server in servers.values():
                server.wait(20)
    middle = {kind: statistics.median(values) for kind, values in rates.items()}
    for kind in ("accept", "refuse"):
        goal = {"accept": 0.4, "refuse": 0.8}[kind]
        print(f"{kind}: {middle[kind]:,.0f}/s = {middle[kind] / middle['echo']:.2f} of the echo (goal {goal})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
