"""How a simulated model behaves under load. Pure: time comes in as ``now``, chance as a `random.Random`.

Model: processor sharing. A call is an amount of work in seconds (what it takes alone), from its model tokens and
a lognormal noise. Up to ``parallel`` calls advance at full speed; more of them share that capacity, and lose a
little of it to each other (``thrash``). At ``most`` calls in flight the answer is 429, or a place in a small queue.
Requests and model tokens per minute are limited too, and a call that was refused for another reason has used up
its place among the requests: naive retries hurt themselves, as they do with real providers. With ``goes_on`` a call
whose caller went away is worked on to its end, as many services do.

Invariants: work is conserved (between two events every call advances equally); at most ``most`` calls are held;
the same seed and the same calls at the same moments give the same answers.

Left out: prefix caches, batching effects within a call, and everything about the words themselves.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from headgate.lab.weather import FAIR, Spell, Weather, next_change, weather_at
from headgate.policy.token_bucket import RateTake, Taken, take

_NEVER = math.inf
_CLOSE = 1e-9
"""Work this small (seconds) is done: floating point, not physics."""
BURST_S = 5.0
"""Rates per minute may be spent this many seconds' worth at once."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model's capacity. Speeds are those of a call that is alone."""

    name: str
    parallel: int = 8
    """Calls that advance at full speed."""
    most: int = 32
    """Calls in flight beyond which calls are refused."""
    queue: int = 0
    """Calls that may wait for a place among ``most``."""
    first_s: float = 0.05
    """What every call takes, whatever its size."""
    read_tokens_s: float = 100_000.0
    """Prompt model tokens read per second."""
    write_tokens_s: float = 600.0
    """Model tokens written per second."""
    noise: float = 0.2
    """Sigma of the lognormal noise on a call's work."""
    thrash: float = 0.1
    """Speed lost per ``parallel`` calls too many: at twice ``parallel`` 0.1 means a tenth."""
    requests_per_min: float | None = None
    tokens_per_min: float | None = None
    goes_on: bool = False
    """Whether work goes on after its caller went away."""
    slow_start_s: float = 20.0
    """How late the work of a call begins that meets a ``slow_start``."""

    def __post_init__(self) -> None:
        sizes = (
            self.parallel,
            self.most,
            self.first_s,
            self.read_tokens_s,
            self.write_tokens_s,
            self.requests_per_min or 1,
            self.tokens_per_min or 1,
        )
        if min(sizes) <= 0 or min(self.queue, self.noise, self.thrash) < 0:
            raise ValueError(f"not a possible model: {self!r}")

    def work_s(self, call: Call) -> float:
        """Seconds that ``call`` takes alone, before noise."""
        return self.first_s + call.input_tokens / self.read_tokens_s + call.output_tokens / self.write_tokens_s


@dataclass(frozen=True, slots=True)
class Call:
    """What is asked of a model."""

    model: str
    input_tokens: int
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Answer:
    """How a call ended: an HTTP status (0: the connection broke), and what the provider says about it."""

    status: int
    code: str = ""
    """The error's code, or how the body of a 200 is unusable; empty when fine."""
    message: str = ""
    retry_after_s: float | None = None
    """Whole seconds, at least one, as ``Retry-After`` tells them."""


_AT_ONCE: Mapping[str | None, Answer] = {
    "503": Answer(503, "server_is_overloaded", "The server is overloaded; please try again later."),
    "529": Answer(529, "overloaded_error", "Overloaded."),
    "429": Answer(429, "rate_limit_exceeded", "Too many requests.", 1.0),
}
_HALF_WAY: Mapping[str | None, Answer] = {
    "500": Answer(500, "server_error", "The server had an error."),
    "reset": Answer(0, "connection_reset", "The connection broke."),
}


@dataclass(slots=True, eq=False)
class _Ticket:
    number: int
    work_s: float
    answer: Answer
    begun_at: float = 0.0
    """The pool's work clock when it began to advance."""
    withdrawn: bool = False
    held: bool = False
    """It has a place but does not advance: hanging, or not begun yet."""


@dataclass(slots=True)
class _Budget:
    """A rate per minute."""

    wish: RateTake
    arrival_ms: float | None = None
    last: Taken | None = None

    def spend(self, amount: float, now: float) -> Taken:
        wish = RateTake(
            self.wish.key, self.wish.name, self.wish.per_window, 60_000.0, amount, self.wish.burst, self.wish.unit
        )
        self.last = take(self.arrival_ms, wish, now_ms=now * 1000)
        if self.last.granted:
            self.arrival_ms = self.last.arrival_ms
        return self.last


@dataclass(slots=True)
class PoolCounts:
    """What a pool has seen since it began."""

    received: int = 0
    by_status: dict[int, int] = field(default_factory=dict)
    peak: int = 0
    """Most calls in flight at once."""
    input_tokens: int = 0
    output_tokens: int = 0


class Pool:
    """One model at work."""

    def __init__(self, spec: ModelSpec, *, rng: random.Random, spells: Sequence[Spell] = ()) -> None:
        self.spec = spec
        self.on_spent: Callable[[int, float], None] | None = None
        """Told of every ticket that leaves: its number, and the seconds of work that went into it."""
        self._spells = tuple(spells)
        self._known = FAIR
        self._known_until = -1.0
        """The weather up to (not including) this moment is ``_known``."""
        self.counts = PoolCounts()
        self._rng = rng
        self._now = 0.0
        self._work_clock = 0.0
        self._tickets: dict[int, _Ticket] = {}
        self._ends: list[tuple[float, int]] = []
        self._active = 0
        self._held = 0
        self._late: list[tuple[float, int]] = []
        """(when it begins, ticket) of calls that begin late."""
        self._queue: deque[_Ticket] = deque()
        self._ended: list[tuple[int, Answer]] = []
        self._issued = 0
        self._requests = _budget("requests", spec.requests_per_min)
        self._tokens = _budget("tokens", spec.tokens_per_min)

    @property
    def spells(self) -> tuple[Spell, ...]:
        return self._spells

    @spells.setter
    def spells(self, spells: Sequence[Spell]) -> None:
        self._spells, self._known_until = tuple(spells), -1.0

    @property
    def inflight(self) -> int:
        """Calls that have a place."""
        return self._active + self._held

    @property
    def waiting(self) -> int:
        return sum(not ticket.withdrawn for ticket in self._queue)

    def weather(self, now: float) -> Weather:
        return weather_at(self._spells, now, self.spec.name)

    def offer(self, call: Call, now: float) -> int | Answer:
        """A ticket number whose answer `collect` will bring, or the answer at once."""
        self.advance(now)
        self.counts.received += 1
        noise = math.exp(self._rng.gauss(0.0, self.spec.noise))
        fails, at_once = self._rng.random(), self._rng.random() < 0.5
        fault = self._weather_now().fault(fails)
        if fault == "mixed":
            fault = "503" if at_once else "500"
        refusal = self._rate_refusal(call, now)
        if refusal is None and fault in _AT_ONCE:
            refusal = _AT_ONCE[fault]
        if refusal is None and self.inflight >= self.spec.most and self.waiting >= self.spec.queue:
            refusal = Answer(429, "slow_down", "Too many requests at once for this model.", 1.0)
        if refusal is not None:
            self._count(refusal)
            return refusal
        work_s = self.spec.work_s(call) * noise
        answer = Answer(200)
        if fault in _HALF_WAY:  # it takes a place, and breaks half way
            work_s, answer = work_s / 2, _HALF_WAY[fault]
        else:
            answer = Answer(200, fault) if fault in ("empty", "malformed") else answer
            self.counts.input_tokens += call.input_tokens
            self.counts.output_tokens += call.output_tokens
        self._issued += 1
        ticket = _Ticket(self._issued, work_s, answer)
        self._tickets[ticket.number] = ticket
        if fault in ("hang", "slow_start"):
            ticket.held = True
            self._held += 1
            if fault == "slow_start":
                heapq.heappush(self._late, (now + self.spec.slow_start_s, ticket.number))
        elif self.inflight < self.spec.most:
            self._begin(ticket)
        else:
            self._queue.append(ticket)
        return ticket.number

    def withdraw(self, number: int, now: float) -> None:
        """The caller went away: its call stops and frees its place, or goes on unseen (``goes_on``)."""
        self.advance(now)
        ticket = self._tickets.get(number)
        if ticket is None or ticket.withdrawn:
            return
        ticket.withdrawn = True
        self._count(Answer(499))
        if ticket.held:
            self._held -= 1
        elif ticket not in self._queue:
            if self.spec.goes_on:
                return
            self._active -= 1
            self._spent(ticket)
        del self._tickets[number]
        self._refill()

    def progress(self, number: int, now: float) -> float:
        """How much of a call is done, 0..1."""
        self.advance(now)
        ticket = self._tickets.get(number)
        if ticket is None:
            return 1.0
        if ticket.held or ticket in self._queue:
            return 0.0
        return min(1.0, (self._work_clock - ticket.begun_at) / ticket.work_s)

    def next_event(self) -> float | None:
        """When something changes by itself next: a call ends, or the weather turns."""
        if not self._active and not self._late:
            return None
        self._weather_now()
        due = min(self._next_end(), self._known_until, self._next_late())
        return None if due == _NEVER else due

    def collect(self, now: float) -> list[tuple[int, Answer]]:
        """The calls that ended until ``now``, in order."""
        self.advance(now)
        ended, self._ended = self._ended, []
        return ended

    def advance(self, now: float) -> None:
        """Let time pass until ``now``; earlier moments change nothing."""
        while self._now < now:
            speed = self._speed()  # and with it the weather
            until = min(now, self._next_end(), self._known_until, self._next_late())
            self._work_clock += (until - self._now) * speed
            self._now = max(until, math.nextafter(self._now, _NEVER))
            while self._late and self._late[0][0] <= self._now:
                self._begin_late(heapq.heappop(self._late)[1])
            self._end_due()

    def headers(self, now: float) -> dict[str, str]:
        """The provider's ``x-ratelimit-*`` fields as they stand."""
        told: dict[str, str] = {}
        for unit, budget in (("requests", self._requests), ("tokens", self._tokens)):
            if budget is not None:
                last = budget.last
                remaining = budget.wish.size if last is None else last.remaining
                reset_s = 0.0 if last is None else last.reset_ms / 1000
                told[f"x-ratelimit-limit-{unit}"] = f"{budget.wish.per_window:.0f}"
                told[f"x-ratelimit-remaining-{unit}"] = f"{remaining:.0f}"
                told[f"x-ratelimit-reset-{unit}"] = f"{reset_s:.3f}s"
        return told

    def _rate_refusal(self, call: Call, now: float) -> Answer | None:
        tokens = call.input_tokens + call.output_tokens
        for budget, amount in ((self._requests, 1), (self._tokens, tokens)):
            if budget is None:
                continue
            taken = budget.spend(min(amount, budget.wish.size), now)
            if not taken.granted:
                words = f"Rate limit reached for {budget.wish.name} per minute."
                wait_s = max(1.0, math.ceil(taken.wait_ms / 1000 - _CLOSE))
                return Answer(429, "rate_limit_exceeded", words, wait_s)
        return None

    def _speed(self) -> float:
        """Work done per second by each active call."""
        weather = self._weather_now()
        if weather.stalled:
            return 0.0
        capacity = self.spec.parallel * weather.capacity
        crowding = max(0.0, self._active / capacity - 1)
        return min(1.0, capacity / max(1, self._active)) / (1 + self.spec.thrash * crowding) / weather.slow

    def _next_end(self) -> float:
        while self._ends and self._ends[0][1] not in self._tickets:
            heapq.heappop(self._ends)  # withdrawn
        if not self._ends:
            return _NEVER
        speed = self._speed()
        return self._now + max(0.0, self._ends[0][0] - self._work_clock) / speed if speed else _NEVER

    def _next_late(self) -> float:
        while self._late and self._late[0][1] not in self._tickets:
            heapq.heappop(self._late)  # withdrawn
        return self._late[0][0] if self._late else _NEVER

    def _weather_now(self) -> Weather:
        if self._now >= self._known_until:
            self._known = weather_at(self._spells, self._now, self.spec.name)
            turn = next_change(self._spells, self._now)
            self._known_until = _NEVER if turn is None else turn
        return self._known

    def _spent(self, ticket: _Ticket) -> None:
        if self.on_spent is not None:
            self.on_spent(ticket.number, min(ticket.work_s, self._work_clock - ticket.begun_at))

    def _end_due(self) -> None:
        while self._ends and self._ends[0][0] <= self._work_clock + _CLOSE:
            ticket = self._tickets.pop(heapq.heappop(self._ends)[1], None)
            if ticket is not None:
                self._active -= 1
                self._spent(ticket)
                if not ticket.withdrawn:
                    self._ended.append((ticket.number, ticket.answer))
                    self._count(ticket.answer)
        self._refill()

    def _refill(self) -> None:
        while self._queue and self.inflight < self.spec.most:
            ticket = self._queue.popleft()
            if not ticket.withdrawn:
                self._begin(ticket)

    def _begin_late(self, number: int) -> None:
        ticket = self._tickets.get(number)
        if ticket is not None:
            ticket.held = False
            self._held -= 1
            self._begin(ticket)

    def _begin(self, ticket: _Ticket) -> None:
        ticket.begun_at = self._work_clock
        self._active += 1
        self.counts.peak = max(self.counts.peak, self.inflight)
        heapq.heappush(self._ends, (self._work_clock + ticket.work_s, ticket.number))

    def _count(self, answer: Answer) -> None:
        self.counts.by_status[answer.status] = self.counts.by_status.get(answer.status, 0) + 1


def _budget(unit: str, per_min: float | None) -> _Budget | None:
    if per_min is None:
        return None
    return _Budget(RateTake(unit, unit, per_min, 60_000.0, burst=max(1.0, per_min * BURST_S / 60), unit=unit))
