"""When a dependency in trouble holds back the work that would make it worse.

Decides: whether the rule of a resource is in force, and how it changes from one look to the next.

Source: a Schmitt trigger (two thresholds, so that it does not flutter) behind a delay and a minimum of evidence.

Inputs: the resource's recent p95 and error rate, whether its breaker lets calls through, and how many calls it has
started in all; the last gives the number of calls that the recent figures rest on.

Invariants: it begins only after one of its signs has been there for ``after_s`` without a break, with at least
``least_calls`` calls in the last minute (an open breaker is evidence enough); it ends only after every sign has been
gone for as long. What is unknown is no sign: work that is held back makes no calls, so the figures of a minute run
out and the rule ends by itself, which tries the dependency again. For the same reason a breaker that waits for a
probe which nobody makes is no reason to go on, and after that it is no reason to begin before a call was made.

Trade-off: each process judges by the calls it makes itself, so a fleet holds back process by process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

WINDOW_S = 60.0
"""How far back the figures of a resource look."""
_MARK_S = 5.0


@dataclass(frozen=True, slots=True)
class PauseRule:
    """Thresholds; ``None`` means that this sign is not looked at. Rates are 0..1, times seconds."""

    p95_s: float | None = None
    until_p95_s: float | None = None
    """In force, it counts as gone only below this; half of ``p95_s`` by default."""
    error_rate: float | None = None
    until_error_rate: float | None = None
    breaker: bool = False
    """A breaker that is not closed is a sign."""
    after_s: float = 10.0
    least_calls: int = 8


@dataclass(frozen=True, slots=True)
class Seen:
    """One look at a resource."""

    p95_s: float | None
    error_rate: float
    broken: bool
    """Its breaker is not closed."""
    calls: int
    """Started since the beginning."""
    untried: bool = False
    """Its breaker would let a call through, and none is under way."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What is remembered from look to look."""

    on: bool = False
    """The rule is in force."""
    why: str = ""
    """The sign that began it, in words."""
    turning_since_s: float | None = None
    """Since when the looks say the opposite of ``on``."""
    marks: tuple[tuple[float, int], ...] = ()
    """(moment, calls started until then), one every few seconds of the last minute, oldest first."""
    left_at: int = -1
    """Calls that had been started when the rule ended last."""


@dataclass(frozen=True, slots=True)
class HeldBack:
    """Work that is not to be taken up."""

    lanes: Mapping[str, float] = field(default_factory=dict)
    """Lane → share of the worker slots that it may still use; 0 is a pause."""
    workflows: frozenset[str] = frozenset()
    tenants: frozenset[str] = frozenset()
    stopping: frozenset[str] = frozenset()
    """Targets (``lane:…``, ``workflow:…``, ``tenant:…``) whose running runs are to stop at their next step."""

    def stops(self, *, lane: str, workflow: str, tenant: str) -> bool:
        """Whether such a run is to stop at its next step."""
        return not self.stopping.isdisjoint((f"lane:{lane}", f"workflow:{workflow}", f"tenant:{tenant}"))

    def open_slots(self, lane: str, slots: int) -> int:
        """Of ``slots``, those that runs of the lane may use; a lane that is only thinned keeps at least one."""
        share = self.lanes.get(lane, 1.0)
        return max(1, int(share * slots)) if share > 0 else 0


NOTHING_HELD = HeldBack()


def nothing_held() -> HeldBack:
    """For whoever has no rules and no operators."""
    return NOTHING_HELD


def follow(watch: Watch, rule: PauseRule, seen: Seen, *, now_s: float) -> Watch:
    """The watch after one more look. Looks come about once a second, ``now_s`` never falls."""
    marks = _mark(watch.marks, seen.calls, now_s)
    broken = seen.broken and (not seen.untried if watch.on else seen.calls > watch.left_at)
    sign = _sign(rule, replace(seen, broken=broken), recent=seen.calls - marks[0][1], on=watch.on)
    if (sign is not None) == watch.on:
        return replace(watch, turning_since_s=None, marks=marks)
    since_s = now_s if watch.turning_since_s is None else watch.turning_since_s
    if now_s - since_s < rule.after_s:
        return replace(watch, turning_since_s=since_s, marks=marks)
    return Watch(on=not watch.on, why=sign or "", marks=marks, left_at=seen.calls if watch.on else -1)


def _mark(marks: tuple[tuple[float, int], ...], calls: int, now_s: float) -> tuple[tuple[float, int], ...]:
    if not marks:
        return ((now_s, calls),)
    if now_s - marks[-1][0] >= _MARK_S:
        marks = (*marks, (now_s, calls))
    while len(marks) > 1 and marks[1][0] <= now_s - WINDOW_S:
        marks = marks[1:]
    return marks


def _sign(rule: PauseRule, seen: Seen, *, recent: int, on: bool) -> str | None:
    """The sign of trouble that is there, in words. While the rule is in force the lower thresholds count."""
    if rule.breaker and seen.broken:
        return "its breaker is not closed"
    if recent < rule.least_calls and not on:
        return None
    if rule.p95_s is not None and seen.p95_s is not None:
        most_s = _lower(rule.p95_s, rule.until_p95_s) if on else rule.p95_s
        if seen.p95_s > most_s:
            return f"p95 {seen.p95_s:.3g} s, above {most_s:g} s"
    if rule.error_rate is not None:
        most = _lower(rule.error_rate, rule.until_error_rate) if on else rule.error_rate
        if seen.error_rate > most:
            return f"error rate {seen.error_rate:.0%}, above {most:.0%}"
    return None


def _lower(threshold: float, until: float | None) -> float:
    return threshold / 2 if until is None else until
