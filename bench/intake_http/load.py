"""A closed-loop HTTP/1.1 load generator on raw sockets, so that the client costs little of the two cores.

    python -m bench.intake_http.load PORT SECONDS CONNECTIONS

Every connection keeps one POST /v1/runs in flight. Prints one JSON object: answers by status, seconds, p50 and p99.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from typing import cast

BODY = json.dumps(
    {
        "workflow": "noop",
        "input": {"ticket": {"title": "printer on fire", "body": "x" * 300, "labels": ["a", "b"], "number": 17}},
        "tenant": "acme",
        "user": "ann",
    }
).encode()
REQUEST = (
    b"POST /v1/runs HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\n\r\n%b" % (len(BODY), BODY)
)


class Connection(asyncio.Protocol):
    """Sends again as soon as an answer is complete."""

    def __init__(self, statuses: Counter[int], latencies: list[float], until: float, closed: asyncio.Event) -> None:
        self.statuses = statuses
        self.latencies = latencies
        self.until = until
        self.closed = closed
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in everything but name
        self._send()

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, rest = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.index(b"content-length:") + 15
        length = int(lower[at:].partition(b"\r")[0])
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        now = time.perf_counter()
        self.statuses[int(head[9:12])] += 1
        self.latencies.append(now - self.begin)
        if now < self.until:
            self._send()
        else:
            self.transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed.set()

    def _send(self) -> None:
        self.begin = time.perf_counter()
        self.transport.write(REQUEST)


async def load(port: int, seconds: float, connections: int) -> dict[str, object]:
    """Load the server and say what it answered."""
    statuses: Counter[int] = Counter()
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    begin = time.perf_counter()
    closed = [asyncio.Event() for _ in range(connections)]
    for event in closed:
        await loop.create_connection(
            lambda event=event: Connection(statuses, latencies, begin + seconds, event),  # type: ignore[misc]
            "127.0.0.1",
            port,
        )
    await asyncio.gather(*(event.wait() for event in closed))
    took = time.perf_counter() - begin
    latencies.sort()
    return {
        "statuses": dict(statuses),
        "seconds": took,
        "p50_ms": 1000 * latencies[len(latencies) // 2],
        "p99_ms": 1000 * latencies[len(latencies) * 99 // 100],
    }


if __name__ == "__main__":
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        print(json.dumps(runner.run(load(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])))))
