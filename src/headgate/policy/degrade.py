"""A workflow's degrade ladder: what to do more cheaply at which pressure, and for which run.

Decides: which rungs are taken now, and what they add up to: knob values, models in place of others, parts to skip,
to postpone, to ask people about.

Source: brownout (optional work given up under load), with hysteresis against flutter. The rule about slack is that of
a discrete-event study of agent runs with deadlines: choosing the cheap model at the call, once wait and remaining
path exceed a third of the time left, was worth 20 points of goodput in a surge with an outage.

Rule: by pressure, each rung for itself: taken at its ``at`` and left only below ``at - MARGIN`` (a rung too low for
that margin is left below half of its ``at``). By slack, run by run: at each decision one more rung, the lowest that
is not taken, while the run's need (expected wait and remaining path) exceeds ``share`` of the time to its deadline;
one less once it is below ``EASE`` of that. A run that was admitted on the cheaper path has the whole ladder applied.

Invariants: a run whose need stays within its share takes no rung for its slack; a need that stays the same moves its
rungs in one direction only; a higher rung's values win over a lower's; skips only add up; where every rung sees the
same pressure, the taken ones have no gaps. Replacements are not chained: ``large: small`` and ``small: tiny`` send a
call on *large* to *small*.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

MARGIN = 0.10
"""Ten points of pressure."""
SHARE = 0.33
"""Of the time that a run has left; what it still needs may take so much of it."""
EASE = 0.75
"""A rung taken for slack is given back once the need is below this part of the share."""

LEAST_GOOD = 0.1
"""A resource is never taken to need more than ten tries for a good answer."""

Knob = float | int | str | bool


class Rung(Protocol):
    """The part of a rung that the decision needs."""

    @property
    def at(self) -> float: ...
    @property
    def knobs(self) -> Mapping[str, Knob]: ...
    @property
    def models(self) -> Mapping[str, str]: ...
    @property
    def skip(self) -> Sequence[str]: ...
    @property
    def postpone(self) -> Sequence[str]: ...
    @property
    def require_approval(self) -> Mapping[str, str]: ...


@dataclass(frozen=True, slots=True)
class Active:
    """What the taken rungs add up to."""

    rungs: int = 0
    knobs: Mapping[str, Knob] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    skip: frozenset[str] = frozenset()
    postpone: frozenset[str] = frozenset()
    """Resources and parts whose postponable calls are done later."""
    require_approval: Mapping[str, str] = field(default_factory=dict)
    """Parts that people are asked about first, with the queue that they are asked through."""
    hurried: frozenset[tuple[str, str]] = frozenset()
    """(kind, name) of what applies only because of the run's slack."""


NOTHING = Active()


def leave_below(at: float) -> float:
    """The pressure below which a rung taken at ``at`` is left."""
    return max(at - MARGIN, at / 2)


def rungs_taken(ladder: Sequence[Rung], pressures: Sequence[float], *, before: Collection[int]) -> frozenset[int]:
    """The rungs (by number, from 0) that are taken, given the pressure that each of them goes by and those that were
    taken ``before``."""
    return frozenset(
        number
        for number, (rung, pressure) in enumerate(zip(ladder, pressures, strict=True))
        if pressure >= rung.at or (number in before and pressure >= leave_below(rung.at))
    )


def for_slack(own: int, *, rungs: int, taken: Collection[int], need_s: float, slack_s: float, share: float) -> int:
    """How many rungs, from the lowest up, a run takes for its slack from now on.

    ``own``: how many it took before, 0..``rungs``; ``taken``: rungs that pressure has taken. ``need_s``: seconds that
    the run is expected to wait and to work; ``slack_s``: seconds to its deadline; ``share``: in 0..1.
    """
    if need_s > share * slack_s:
        # A rung that pressure has taken already is no relief.
        following = own
        while following in taken:
            following += 1
        return min(rungs, following + 1) if following < rungs else own
    if need_s < EASE * share * slack_s:
        return max(0, own - 1)
    return own


def expected_wait_s(*, waiting: int, inflight: int, limit: int, usual_s: float | None, oldest_s: float) -> float:
    """Seconds until a call that joins the line now is started: what is ahead of it, at the rate of ``limit`` calls
    that take ``usual_s`` each. Where that is not known, as long as the oldest has waited."""
    if not waiting and inflight < limit:
        return 0.0
    if usual_s is None:
        return oldest_s
    return usual_s * (waiting + 1) / max(1, limit)


def expected_answer_s(*, wait_s: float, usual_s: float | None, error_rate: float, refuses: bool) -> float:
    """Seconds until a call that comes now has a good answer, with the tries that fail before it (``error_rate`` in
    0..1); infinite while the resource ``refuses`` all."""
    if refuses:
        return math.inf
    return (wait_s + (usual_s or 0.0)) / max(LEAST_GOOD, 1.0 - error_rate)


def remaining_path_s(*, path_s: float, calls: float, done_calls: int, worked_s: float) -> float:
    """Seconds of work that a run has left, of an ordinary ``path_s`` in ``calls``."""
    if path_s <= 0:
        return 0.0
    part = 1.0 - min(1.0, done_calls / calls) if calls >= 1 else 1.0
    return max(0.0, min(path_s - worked_s, path_s * part))


def in_order(ladder: Sequence[Rung]) -> tuple[Rung, ...]:
    """The ladder from its lowest rung up; rungs at the same pressure keep their order."""
    return tuple(sorted(ladder, key=lambda rung: rung.at))


def add_up(ladder: Sequence[Rung], taken: Collection[int], *, own: int = 0) -> Active:
    """What the ``taken`` rungs of a ladder (in order of ``at``) and the lowest ``own`` of a run come to."""
    if not taken and own <= 0:
        return NOTHING
    knobs: dict[str, Knob] = {}
    models: dict[str, str] = {}
    approval: dict[str, str] = {}
    skip: set[str] = set()
    postpone: set[str] = set()
    hurried: set[tuple[str, str]] = set()
    pressed: set[tuple[str, str]] = set()
    count = 0
    for number, rung in enumerate(ladder):
        if number not in taken and number >= own:
            continue
        count += 1
        values = {("knob", name) for name in rung.knobs} | {("model", name) for name in rung.models}
        values |= {("confirm", name) for name in rung.require_approval}
        parts = {("allows", name) for name in rung.skip} | {("postpone", name) for name in rung.postpone}
        if number in taken:  # a value is that of the latest rung, a part stays what any rung has made of it
            pressed |= parts
            hurried -= values
        else:
            hurried |= values | parts
        knobs.update(rung.knobs)
        models.update(rung.models)
        approval.update(rung.require_approval)
        skip.update(rung.skip)
        postpone.update(rung.postpone)
    return Active(count, knobs, models, frozenset(skip), frozenset(postpone), approval, frozenset(hurried - pressed))
