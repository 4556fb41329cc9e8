"""Real traffic, ready to be replayed: the hour of ``traces/conversation_1h.csv.gz`` as arrivals.

The trace is played at a speed that changes over time (`Phase`): ten times the rate is the same hour, played ten
times as fast. Its order, its sizes and its bursts stay as they were; only the clock runs faster.

Arrivals come on 3-second ticks. They are spread evenly at random over their three seconds, from a seed.
"""

from __future__ import annotations

import csv
import gzip
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.resources import files

TICK_S = 3.0
"""Arrivals of the trace are known to this precision."""
MEAN_RATE = 3.40
"""Requests per second over the whole hour, as its README states."""


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the trace, spread over its tick. ``at_s`` is on the trace's own clock."""

    at_s: float
    session: int
    turn: int
    input_tokens: int
    output_tokens: int
    prefix_tokens_seen: int


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a replay: the trace is played so that ``rate`` requests come per second on average."""

    name: str
    seconds: float
    rate: float

    def __post_init__(self) -> None:
        if self.seconds <= 0 or self.rate <= 0:
            raise ValueError(f"a phase needs positive seconds and rate: {self!r}")


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request of a replay."""

    index: int
    """Place in the replay, from 0."""
    at_s: float
    """Seconds after the start of the replay; for a follow-up the earliest moment."""
    phase: str
    session: int
    turn: int
    input_tokens: int
    output_tokens: int
    follows: int | None = None
    """``index`` of the earlier turn of the same session in this replay, if there is one."""
    gap_s: float = 0.0
    """Seconds between that earlier turn and this one, as replayed: kept when the earlier one ends late."""


def load_trace(*, seed: int) -> list[Request]:
    """All requests of the hour in order of time, each tick spread over its 3 s by ``seed``."""
    rng = random.Random(seed)
    requests = [_spread(row, rng) for row in _rows()]
    requests.sort(key=lambda request: (request.at_s, request.session, request.turn))
    return requests


def _rows() -> Iterator[dict[str, str]]:
    packed = (files("headgate.lab") / "traces" / "conversation_1h.csv.gz").read_bytes()
    with io.TextIOWrapper(gzip.GzipFile(fileobj=io.BytesIO(packed)), encoding="utf-8", newline="") as text:
        yield from csv.DictReader(text)


def _spread(row: dict[str, str], rng: random.Random) -> Request:
    return Request(
        at_s=int(row["t_ms"]) / 1000 + rng.random() * TICK_S,
        session=int(row["session"]),
        turn=int(row["turn"]),
        input_tokens=int(row["input_tokens"]),
        output_tokens=int(row["output_tokens"]),
        prefix_tokens_seen=int(row["prefix_tokens_seen"]),
    )


def replay(trace: Sequence[Request], phases: Sequence[Phase], *, start_s: float = 0.0) -> list[Arrival]:
    """The slice of ``trace`` from ``start_s`` that the phases play, as arrivals in order of time.

    A phase of rate r plays the trace at speed r / 3.40, so rates hold on average and bursts remain.

    Raises:
        ValueError: the trace ends before the phases do.
    """
    arrivals: list[Arrival] = []
    latest: dict[int, Arrival] = {}
    requests = iter([request for request in trace if request.at_s >= start_s])
    pending = next(requests, None)
    trace_from, replay_from = start_s, 0.0
    for phase in phases:
        speed = phase.rate / MEAN_RATE
        trace_to = trace_from + phase.seconds * speed
        while pending is not None and pending.at_s < trace_to:
            at_s = replay_from + (pending.at_s - trace_from) / speed
            arrival = _arrival(len(arrivals), at_s, phase.name, pending, latest.get(pending.session))
            latest[pending.session] = arrival
            arrivals.append(arrival)
            pending = next(requests, None)
        if pending is None:
            raise ValueError(f"the trace ends before phase {phase.name!r} does; start earlier or play slower")
        trace_from, replay_from = trace_to, replay_from + phase.seconds
    return arrivals


def _arrival(index: int, at_s: float, phase: str, request: Request, earlier: Arrival | None) -> Arrival:
    return Arrival(
        index=index,
        at_s=at_s,
        phase=phase,
        session=request.session,
        turn=request.turn,
        input_tokens=request.input_tokens,
        output_tokens=request.output_tokens,
        follows=None if earlier is None else earlier.index,
        gap_s=0.0 if earlier is None else at_s - earlier.at_s,
    )
