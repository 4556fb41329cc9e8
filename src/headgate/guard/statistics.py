"""The snapshot of a resource: the only source for API, metrics and dashboard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, NoReturn, TypeVar

from headgate.config.settings import ResourceSettings
from headgate.guard.controls import Override, Pause
from headgate.guard.door import Door
from headgate.guard.evidence import Cooldown, Evidence
from headgate.guard.model_tokens import TokenHolds, TokenRoom
from headgate.guard.refusals import Refusals
from headgate.guard.retries import Retries
from headgate.policy.breaker import BreakerState

Picture = TypeVar("Picture")
"""What is made of a resource's state of one moment: its statistics, or how it stands."""


class Tally(dict[str, int]):
    """Numbers by name that nobody changes any more; still a ``dict``, so that it can be written as JSON."""

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("statistics are a picture of one moment; make a dict of it to change it")

    __setitem__ = __delitem__ = __ior__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse

    def __reduce__(self) -> tuple[type[Tally], tuple[dict[str, int]]]:
        return Tally, (dict(self),)


class Counts(NamedTuple):
    """Whose turnstile it is, and what it and its parts count themselves."""

    name: str
    kind: str
    calls: int
    inflight: int
    retries: Retries
    refusals: Refusals
    tokens: TokenHolds | None


@dataclass(frozen=True, slots=True)
class ResourceStatistics:
    """One moment of one resource. Latencies and error rate look back about a minute."""

    name: str
    kind: str
    """``tool``, ``model`` or ``stage``."""
    limit: int
    """Calls that may be in flight now."""
    base_limit: int
    """The same as configured or learned, without the override."""
    least: int
    most: int
    inflight: int
    waiting: int
    queue_limit: int
    oldest_wait_s: float
    p50_s: float | None
    """Of successful calls; ``None`` while there are none."""
    p95_s: float | None
    p99_s: float | None
    done: int
    """Calls that ended well, since the beginning."""
    busy_s: float
    """Seconds that these took."""
    error_rate: float
    """Failures, timeouts and overload answers as a share of the calls that ended."""
    breaker: str
    """``closed``, ``open`` or ``probing``; ``closed`` also when there is none."""
    rate_remaining: float | None
    """Calls that the rate over a window still allows now; ``None`` without such a rate."""
    calls: int
    """Calls started since the beginning, retries included."""
    refused: Mapping[str, int]
    """Refusals since the beginning, by reason. It cannot be changed."""
    retries: int
    pressure: float
    """0..1: 0 idle or paused by hand, up to 0.5 while nothing waits, towards 1 as the queue fills or ages, 1 with the
    breaker open."""
    override: Override | None = None
    """What somebody has set in place of the configured numbers."""
    pause: Pause | None = None
    """Nothing starts while there is one."""
    breaker_refuses: bool = False
    """The breaker turns calls away now; it is also ``open`` when its time has passed and nobody has probed yet."""
    at_s: float = 0.0
    """When this picture was taken, on the clock's monotonic scale; the moments in it are on the same."""
    would_refuse: Mapping[str, int] = field(default_factory=Tally)
    """Calls that were let through and that a limit in shadow mode would have refused, by reason."""
    cooldown: Cooldown | None = None
    """Nothing starts because the dependency asked for that (``Retry-After``, a used-up window)."""
    retry_budget: float = 0.0
    """Retries that could be paid for now; each costs 0.5 to 2 of it."""
    retries_active: int = 0
    """Retries that wait for their slot or run."""
    token_rooms: tuple[TokenRoom, ...] = ()
    """The ceilings of model tokens that all its calls share: its own and the fleet's. Those per tenant, user or
    workflow are not here."""


def pressure(
    *,
    inflight: int,
    limit: int,
    waiting: int,
    depth: int,
    oldest_s: float,
    max_age_s: float,
    broken: bool,
    paused: bool = False,
) -> float:
    """How far a resource is from keeping its promises, in 0..1. One that somebody has paused promises nothing: that
    it stands still is wanted, and no reason to do other work more cheaply."""
    if paused:
        return 0.0
    if broken:
        return 1.0
    if not waiting:
        return 0.5 * min(1.0, inflight / limit)
    return 0.5 + 0.5 * min(1.0, max(waiting / depth, oldest_s / max_age_s))


class Standing(NamedTuple):
    """What is asked of a resource several times a second; the names are those of `ResourceStatistics`."""

    limit: int
    inflight: int
    waiting: int
    oldest_wait_s: float
    p50_s: float | None
    error_rate: float
    pressure: float
    pause: Pause | None
    breaker_refuses: bool


def standing(evidence: Evidence, door: Door, settings: ResourceSettings, now: float, counts: Counts) -> Standing:
    """How a resource stands, read under its lock."""
    queue, limit, waiting = door.queue, door.limit(now), door.waiting
    oldest_s, pause = queue.oldest_age_s(now), door.controls.paused(now)
    broken = evidence.breaker is not None and evidence.breaker.refuses(now)
    pressed = pressure(
        inflight=counts.inflight,
        limit=limit,
        waiting=waiting,
        depth=queue.depth,
        oldest_s=oldest_s,
        max_age_s=settings.queue.max_age,
        broken=broken,
        paused=pause is not None,
    )
    p50_s, bad_share = evidence.latencies.quantile(0.5, now), evidence.outcomes.bad_share(now)
    return Standing(limit, counts.inflight, waiting, oldest_s, p50_s, bad_share, pressed, pause, broken)


def snapshot(
    evidence: Evidence, door: Door, settings: ResourceSettings, now: float, counts: Counts
) -> ResourceStatistics:
    """The statistics of a resource, read under its lock."""
    stands = standing(evidence, door, settings, now, counts)
    breaker, controls = evidence.breaker, door.controls
    rate = controls.rate(now)
    p95_s, p99_s = evidence.latencies.quantiles((0.95, 0.99), now)
    return ResourceStatistics(
        name=counts.name,
        kind=counts.kind,
        limit=stands.limit,
        base_limit=evidence.limiter.limit,
        least=settings.concurrency.least,
        most=settings.concurrency.most,
        inflight=stands.inflight,
        waiting=stands.waiting,
        queue_limit=door.queue.depth,
        oldest_wait_s=stands.oldest_wait_s,
        p50_s=stands.p50_s,
        p95_s=p95_s,
        p99_s=p99_s,
        done=evidence.done,
        busy_s=evidence.busy_s,
        error_rate=stands.error_rate,
        breaker=str(breaker.state if breaker is not None else BreakerState.CLOSED),
        rate_remaining=None if rate is None else rate.remaining(now),
        calls=counts.calls,
        refused=Tally(counts.refusals.counts),
        retries=counts.retries.count,
        pressure=stands.pressure,
        override=controls.overridden(now),
        pause=stands.pause,
        breaker_refuses=stands.breaker_refuses,
        at_s=now,
        would_refuse=Tally(counts.refusals.shadowed),
        cooldown=evidence.cooldown(now),
        retry_budget=evidence.retry_budget.balance(now),
        retries_active=counts.retries.active,
        token_rooms=() if counts.tokens is None else counts.tokens.room(now),
    )
