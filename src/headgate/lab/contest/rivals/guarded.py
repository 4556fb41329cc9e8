"""One dependency with the rules of one policy around it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from headgate.clock import Clock
from headgate.guard import classify
from headgate.guard.ambient import enter_resource, leave_resource
from headgate.lab.contest.rivals.line import Line, NoPlace, Order
from headgate.lab.contest.rivals.rules import ClientThrottle, Pacer, RetryAllowance, VolumeBreaker
from headgate.model.outcome import CallResult, Outcome
from headgate.policy.backoff import delay_s
from headgate.policy.concurrency.protocol import CallLimiter

BASE_S, MOST_S = 0.5, 30.0
"""Backoff before a retry: exponential with full jitter."""
REPEATED = frozenset({Outcome.FAILED, Outcome.TIMEOUT, Outcome.OVERLOADED})
UNUSABLE = CallResult(Outcome.FAILED)
TIMED_OUT = CallResult(Outcome.TIMEOUT)


class CallFailed(Exception):
    """A call that was made and did not bring a usable answer."""

    def __init__(self, result: CallResult, *, unusable: bool = False) -> None:
        self.result = result
        self.unusable = unusable
        """It was answered, with something that its check refused."""
        super().__init__(str(result.outcome))


@dataclass(frozen=True, slots=True)
class Rules:
    """What stands between a caller and a dependency; what a policy does not have is ``None``."""

    retries: RetryAllowance
    tries: int
    backoff: bool
    """Whether retries wait; otherwise they follow at once."""
    timeout_s: float
    limiter: CallLimiter | None = None
    order: Order | None = None
    """Of the line in front of the limiter."""
    depth: int = 500
    throttle: ClientThrottle | None = None
    breaker: VolumeBreaker | None = None
    pacer: Pacer | None = None


class Guarded:
    """Makes calls by these rules."""

    def __init__(self, name: str, rules: Rules, *, clock: Clock, rng: Random) -> None:
        self.name = name
        self._rules = rules
        self._clock = clock
        self._rng = rng
        self._active = 0
        self.line: Line | None = None
        limiter = rules.limiter
        if limiter is not None and rules.order is not None:
            self.line = Line(lambda: limiter.limit, rules.depth, rules.order, clock)

    @property
    def tries(self) -> int:
        """Of one call, at most."""
        return self._rules.tries

    @property
    def limit(self) -> float:
        """Calls that may be in flight now; NaN where there is no limit."""
        return math.nan if self._rules.limiter is None else self._rules.limiter.limit

    async def call(
        self, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], check: Any, *, until_s: float, rank: int
    ) -> Any:
        """Call, and repeat what fails as the rules allow. ``until_s`` is the run's deadline.

        Raises:
            NoPlace: refused on this side. CallFailed: it was made in vain.
        """
        retries = self._rules.retries
        retries.request(self._clock.monotonic())
        self._active += 1
        retry, counted = 0, False
        try:
            while True:
                try:
                    return await self._once(fn, args, check, until_s, rank)
                except (NoPlace, CallFailed) as failure:
                    if counted:
                        retries.ended()
                        counted = False
                    hint_s = failure.result.retry_after_s if isinstance(failure, CallFailed) else None
                    wait_s = self._wait_s(retry, hint_s)
                    now = self._clock.monotonic()
                    if not self._repeats(failure, retry) or now + wait_s >= until_s:
                        raise
                    counted = retries.allows(now, self._active)
                    if not counted:
                        raise
                    retry += 1
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
        finally:
            self._active -= 1
            if counted:
                retries.ended()

    async def _once(
        self, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], check: Any, until_s: float, rank: int
    ) -> Any:
        rules, now = self._rules, self._clock.monotonic()
        if rules.throttle is not None and rules.throttle.refuses(now, self._rng.random()):
            raise NoPlace("throttled")
        if rules.breaker is not None and rules.breaker.refuses(now):
            raise NoPlace("breaker_open")
        if self.line is not None:
            await self.line.turn(self.line.join(rank))
        try:
            if rules.pacer is not None:
                wait_s = rules.pacer.wait_s(self._clock.monotonic(), until_s)
                if wait_s is None:
                    raise NoPlace("rate_limited")
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
            return await self._made(fn, args, check, until_s)
        finally:
            if self.line is not None:
                self.line.leave()

    async def _made(
        self, fn: Callable[..., Awaitable[Any]], args: tuple[Any, ...], check: Any, until_s: float
    ) -> Any:
        limiter, line, begun = self._rules.limiter, self.line, self._clock.monotonic()
        inflight = 0 if line is None else line.inflight
        stamp = None if limiter is None else limiter.begin(inflight=inflight, size=None, now=begun)
        result, value = CallResult(Outcome.IGNORED), None
        token = enter_resource(self.name)
        try:
            async with asyncio.timeout(min(self._rules.timeout_s, until_s - begun)):
                value = await fn(*args)
            result = classify.OK if check is None or check(value) else UNUSABLE
        except TimeoutError:
            result = TIMED_OUT
        except Exception as error:  # noqa: BLE001 - whatever it is, it is classified
            result = classify.of_error(error, now_ms=self._clock.now_ms())
        finally:
            leave_resource(token)
            # limiters and breakers of the field look at the status, and an unusable 200 is fine to them
            self._learn(limiter, stamp, Outcome.OK if result is UNUSABLE else result.outcome)
        if result.outcome is not Outcome.OK:
            raise CallFailed(result, unusable=result is UNUSABLE)
        return value

    def _learn(self, limiter: CallLimiter | None, stamp: Any, outcome: Outcome) -> None:
        rules, now = self._rules, self._clock.monotonic()
        if limiter is not None:
            limiter.end(stamp, outcome, inflight=0 if self.line is None else self.line.inflight, now=now)
        if rules.breaker is not None:
            rules.breaker.end(outcome, now)
        if rules.throttle is not None:
            rules.throttle.end(outcome, now)

    def _repeats(self, failure: NoPlace | CallFailed, retry: int) -> bool:
        if retry + 1 >= self._rules.tries:
            return False
        return isinstance(failure, NoPlace) or failure.result.outcome in REPEATED

    def _wait_s(self, retry: int, hint_s: float | None) -> float:
        if not self._rules.backoff:
            return 0.0
        return delay_s(retry, base_s=BASE_S, most_s=MOST_S, jitter=self._rng.random(), hint_s=hint_s)
