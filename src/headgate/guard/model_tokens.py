"""Ceilings of model tokens as holds: taken on an estimate before a call, settled to reported usage after it.

Two kinds of bucket. *Shared* ones (a model's own ceiling, the fleet's budget) are taken when the call gets its slot,
so that whoever is first in line gets the tokens. *Keyed* ones (one per tenant, user or workflow, from the ``limits``
of the settings) are reserved before a call stands in line, first come first served within their key. All buckets
of a kind are taken together or none.

A reservation may lie in the future: it moves the bucket's arrival time on, and its call waits until then, so that
parallel calls never overshoot and nobody polls.
"""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

from headgate.config.settings import GateSettings, LimitRule, Mode
from headgate.config.units import Rate
from headgate.guard.ambient import Ambient
from headgate.guard.slot import Slot
from headgate.model.outcome import CallResult, Outcome
from headgate.policy.token_bucket import RateTake, Taken, arrival_if_room, give_back, take

KEYS_AT_MOST = 10_000
"""Keyed buckets that are remembered; the one unused for longest is forgotten first (and would start full again)."""


class TokenRoom(NamedTuple):
    """A bucket of model tokens that all calls of a resource share."""

    scope: str
    """``resource:large``, or ``fleet``."""
    limit: float
    """Model tokens that it holds when it is full."""
    window_s: float
    """Seconds in which it fills."""
    remaining: float
    """Model tokens that could be taken now."""


class Answer(NamedTuple):
    """What a take led to."""

    wait_s: float
    """0: taken, start now. More: seconds until the call may start (or, when refused, until it could)."""
    refused: RateTake | None = None
    """The bucket that has no room soon enough; nothing was taken."""
    never: bool = False
    """It asks for more than the whole bucket."""
    taken: Sequence[RateTake] = ()
    """The buckets that were taken from: what `Buckets.give_back` wants."""
    shadowed: RateTake | None = None
    """A bucket in shadow mode that would have refused; nothing was taken from it."""


_NOW = Answer(0.0)


class Buckets:
    """Arrival times by key, behind one lock."""

    def __init__(self, most: int = KEYS_AT_MOST) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._arrivals: OrderedDict[str, float] = OrderedDict()

    def take(self, wishes: Sequence[RateTake], amount: float, *, now: float, most_wait_s: float) -> Answer:
        """Take ``amount`` from every bucket for a start at most ``most_wait_s`` from now, or take nothing."""
        if not wishes:
            return _NOW
        now_ms = now * 1000
        longest = 0.0
        shadowed: RateTake | None = None
        after: list[tuple[RateTake, float]] = []
        with self._lock:
            for wish in wishes:
                arrival = self._arrivals.get(wish.key)
                taken = take(arrival, wish, now_ms=now_ms, amount=amount)
                wait_s = taken.wait_ms / 1000
                if taken.never or wait_s > most_wait_s:
                    if not wish.shadow:
                        return Answer(wait_s, wish, taken.never)
                    shadowed = wish
                    continue
                if not wish.shadow:
                    longest = max(longest, wait_s)
                start = now_ms if arrival is None else max(arrival, now_ms)
                after.append((wish, give_back(start, wish, amount=-amount)))
            for wish, moved in after:
                self._arrivals[wish.key] = moved
                self._arrivals.move_to_end(wish.key)
            while len(self._arrivals) > self._most:
                self._arrivals.popitem(last=False)
        return Answer(longest, taken=tuple(wish for wish, _ in after), shadowed=shadowed)

    def take_one(self, wish: RateTake, amount: float, now_ms: float) -> bool:
        """Take from one bucket that has room now: the usual case, without an account of it; else ask `take`."""
        if wish.shadow:
            return False
        key = wish.key
        with self._lock:
            after = arrival_if_room(self._arrivals.get(key), wish, now_ms=now_ms, amount=amount)
            if after is None:
                return False
            self._arrivals[key] = after
            self._arrivals.move_to_end(key)
            if len(self._arrivals) > self._most:
                self._arrivals.popitem(last=False)
        return True

    def look(self, wish: RateTake, amount: float, *, now: float) -> Taken:
        """What taking would lead to now, taking nothing."""
        with self._lock:
            return take(self._arrivals.get(wish.key), wish, now_ms=now * 1000, amount=amount)

    def give_back(self, wishes: Sequence[RateTake], amount: float) -> None:
        """Return ``amount`` to every bucket; negative charges more (usage was above the estimate)."""
        if not amount:
            return
        with self._lock:
            for wish in wishes:
                arrival = self._arrivals.get(wish.key)
                if arrival is not None:
                    self._arrivals[wish.key] = give_back(arrival, wish, amount=amount)

    def __len__(self) -> int:
        return len(self._arrivals)


class KeyedLimits:
    """The ``limits`` of the settings that concern model tokens."""

    def __init__(self, settings: GateSettings) -> None:
        self._rules = [
            (number, rule, rule.model_tokens)
            for number, rule in enumerate(settings.limits)
            if rule.model_tokens is not None and _judges_calls(rule)
        ]
        self.rate_of: Callable[[str | None, Rate, str | None], Rate] = lambda _name, declared, _tenant: declared
        """The model tokens in force of a named limit for a tenant, given those that are declared."""
        self.buckets = Buckets()

    def wishes(self, whose: Ambient) -> list[RateTake]:
        """The buckets that a call of these circumstances has to take from."""
        found: list[RateTake] = []
        if not self._rules:
            return found
        for number, rule, rate in self._rules:
            if rule.workflow not in (None, whose.workflow) or rule.tenant not in (None, whose.tenant):
                continue
            name = _scope(rule, whose)
            if name is not None:
                rate = self.rate_of(rule.name, rate, whose.tenant if rule.of_tenant else None)
                key = f"{number}:{whose.tenant}:{name}" if rule.per == "user" else f"{number}:{name}"
                found.append(wish(key, name, rate, burst=rule.burst, shadow=rule.mode is Mode.SHADOW))
        return found


def _judges_calls(rule: LimitRule) -> bool:
    """Whether a call knows the rule's key; other rules are judged at intake, on what runs are expected to take."""
    return rule.per in ("fleet", "workflow", "tenant", "user") and rule.lane is None and rule.resource is None


def wish(key: str, name: str, rate: Rate, *, burst: float | None = None, shadow: bool = False) -> RateTake:
    """A bucket of model tokens; the amount is filled in when it is taken from."""
    return RateTake(key, name, rate.amount, rate.window_s * 1000, burst=burst, unit="model_tokens", shadow=shadow)


def _scope(rule: LimitRule, whose: Ambient) -> str | None:
    if rule.per == "fleet":
        return "fleet"
    if rule.per == "workflow":
        return f"workflow:{whose.workflow}" if whose.workflow else None
    if rule.per == "tenant":
        return f"tenant:{whose.tenant}"
    return f"user:{whose.user}" if whose.user is not None else None


class TokenEstimate:
    """What a call of one model takes, learned from reported usage. Not thread-safe; its owner holds a lock.

    Without the caller's own estimate the guess is the running mean plus the mean deviation (the rule of TCP's
    round-trip timer, RFC 6298), conservative by about one deviation. A caller's estimate is multiplied by the running
    ratio of reported to estimated, within 1/4 to 4.
    """

    __slots__ = ("_deviation", "_mean", "_ratio")

    _GAIN = 0.125

    def __init__(self, first_guess: float) -> None:
        self._mean = first_guess
        self._deviation = 0.0
        self._ratio = 1.0

    def guess(self, given: float | None) -> float:
        """Model tokens to hold for the next call; ``given`` is the caller's estimate."""
        if given is not None:
            return given * self._ratio
        return self._mean + self._deviation

    def learn(self, used: float, given: float | None) -> None:
        """A call reported that it used so many."""
        if given:
            ratio = self._ratio + self._GAIN * (used / given - self._ratio)
            self._ratio = min(4.0, max(0.25, ratio))
            return
        error = used - self._mean
        self._mean += self._GAIN * error
        self._deviation += 2 * self._GAIN * (abs(error) - self._deviation)


class TokenHolds:
    """The model tokens of one resource: its estimate, its own and the fleet's bucket, and the keyed limits.

    Not thread-safe by itself: apart from `reserve`, everything is called under the resource's lock.
    """

    __slots__ = ("_buckets", "_keyed", "_shared", "_smallest", "estimate")

    def __init__(
        self, first_guess: float, *, shared: Sequence[RateTake], buckets: Buckets, keyed: KeyedLimits
    ) -> None:
        self.estimate = TokenEstimate(first_guess)
        self._buckets = buckets
        self._keyed = keyed
        self.use(shared)

    def use(self, shared: Sequence[RateTake]) -> None:
        """From now on, with these shared buckets; what was taken from them stays taken."""
        self._shared = tuple(shared)
        self._smallest = min((one.size for one in self._shared if not one.shadow), default=math.inf)

    def reserve(self, slot: Slot, now: float) -> Answer:
        """Estimate what the slot's call takes, and reserve it in the keyed buckets of its circumstances, before it
        stands in line."""
        wishes = self._keyed.wishes(slot.whose)
        slot.tokens = self._estimate(slot.given_tokens, wishes)
        if not wishes:
            return _NOW
        answer = self._keyed.buckets.take(wishes, slot.tokens, now=now, most_wait_s=max(0.0, slot.wait_until - now))
        slot.keyed_hold = answer.taken
        return answer

    def _estimate(self, given: float | None, wishes: Sequence[RateTake]) -> float:
        """What was learned never asks for more than a whole bucket: such a call would be refused for good, and with
        it every later one, for nothing would be learned any more. What the caller itself says stands."""
        guess = self.estimate.guess(given)
        smallest = self._smallest
        for wish in wishes:
            if not wish.shadow and wish.size < smallest:
                smallest = wish.size
        return guess if guess <= smallest else max(smallest, given or 0.0)

    def never_fits(self, slot: Slot) -> RateTake | None:
        """The shared bucket that is smaller than the slot's estimate, if there is one."""
        return next((wish for wish in self._shared if slot.tokens > wish.size), None)

    def wait(self, slot: Slot, now: float, *, ahead: float) -> tuple[float, RateTake | None]:
        """Seconds until the shared buckets have room for the slot's call and for ``ahead`` model tokens before it,
        and the bucket that makes it wait so long."""
        longest: tuple[float, RateTake | None] = (0.0, None)
        for wish in self._shared if slot.tokens else ():
            wait_s = self._buckets.look(wish, ahead + slot.tokens, now=now).wait_ms / 1000
            if wait_s > longest[0]:
                longest = wait_s, wish
        return longest

    def room(self, now: float) -> tuple[TokenRoom, ...]:
        """The state of the shared buckets."""
        return tuple(
            TokenRoom(one.name, one.size, one.window_ms / 1000, self._buckets.look(one, 0.0, now=now).remaining)
            for one in self._shared
        )

    def take(self, slot: Slot, now: float, *, anyway: bool = False) -> float:
        """Take the slot's estimate from the shared buckets: 0, or the seconds until there is room."""
        shared = self._shared
        if not shared or not slot.tokens:
            return 0.0
        if len(shared) == 1 and self._buckets.take_one(shared[0], slot.tokens, now * 1000):
            slot.shared_hold = shared
            return 0.0
        most_wait_s = math.inf if anyway else 0.0
        answer = self._buckets.take(self._shared, slot.tokens, now=now, most_wait_s=most_wait_s)
        slot.shared_hold = answer.taken
        return answer.wait_s if answer.refused is not None else 0.0

    def give_back_shared(self, slot: Slot) -> None:
        """Undo `take`."""
        self._buckets.give_back(slot.shared_hold, slot.tokens)
        slot.shared_hold = ()

    def refund(self, slot: Slot) -> None:
        """The call was refused or never made: everything goes back."""
        self._settle(slot, 0.0)

    def settle(self, slot: Slot, result: CallResult) -> None:
        """Correct the hold to what the call took.

        Reported usage counts; answers that refuse the call cost nothing; without a report (also: failed, timed out,
        cancelled) the estimate stands, because the provider may have done the work.
        """
        if result.model_tokens is not None:
            self.estimate.learn(result.model_tokens, slot.given_tokens)
            self._settle(slot, result.model_tokens)
        elif result.outcome in (Outcome.OVERLOADED, Outcome.QUOTA, Outcome.CALLER_ERROR):
            self._settle(slot, 0.0)

    def _settle(self, slot: Slot, used: float) -> None:
        over = slot.tokens - used
        self._buckets.give_back(slot.shared_hold, over)
        self._keyed.buckets.give_back(slot.keyed_hold, over)
        slot.shared_hold = slot.keyed_hold = ()
