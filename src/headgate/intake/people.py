"""What intake knows about the queues of people: what waits by lane, whether they fill, and how fast people are."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from headgate.config.settings import ApprovalSettings, GateSettings
from headgate.model.cost import ASKED
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.policy import people
from headgate.policy.cost_profile import LEAST_ENDS, Profile, mean_answers
from headgate.policy.people import Pace, Trend
from headgate.store.protocols import Store
from headgate.store.questions import QuestionLoad

SCOPE = "approval:"
"""How the scopes of refusals begin that people are the reason of."""


@dataclass(frozen=True, slots=True)
class Asker:
    """A run that may ask, as far as it is known at the door."""

    lane: str
    profile: Profile | None
    """Of runs like it, which tells how often they ask."""
    path_s: float
    """What it takes beside the answer."""
    left_s: float | None
    """Until its deadline."""


@dataclass(frozen=True, slots=True)
class Traffic:
    """Runs of one lane that may ask before it does."""

    unfinished: float
    """That wait or run, and do not wait for people."""
    per_s: float
    """That come in a second."""
    parts: Mapping[str, float]
    """Workflow → its part of these runs, as far as known."""


class PeopleOutlook:
    """The loads of the queues of people; without any nothing is read."""

    def __init__(self, settings: GateSettings, rng: Random) -> None:
        self._settings = settings
        self._rng = rng
        self._ranks = {name: rank for rank, name in enumerate(settings.lanes)}
        self._queues = tuple(settings.approvals)
        self._loads: dict[str, QuestionLoad] = {}
        self._paces: dict[str, Pace | None] = {}
        self._trends: dict[tuple[str, int], Trend] = {}
        self._at_ms = 0

    async def refresh(self, store: Store, now_ms: int) -> None:
        """Take one look.

        Raises:
            StoreError: the store cannot tell.
        """
        if not self._queues:
            return
        self._loads, self._at_ms = await store.approvals.loads(self._queues), now_ms
        for name, load in self._loads.items():
            self._paces[name] = people.pace(load.answers)
            for rank in range(len(self._ranks) + 1):
                before = self._trends.get((name, rank), Trend())
                self._trends[name, rank] = people.follow(before, waiting=_up_to(load, rank), now_ms=now_ms)

    def load(self, queue: str) -> QuestionLoad | None:
        """What waits in a queue, as of the latest look; ``None`` before the first."""
        return self._loads.get(queue)

    def refusal(
        self,
        queues: Sequence[str],
        asker: Asker,
        traffic: Mapping[str, Traffic],
        profile_of: Callable[[str], Profile | None],
    ) -> Refusal | None:
        """The refusal of a run that may ask these queues; ``None``: it may come in, as far as people go."""
        rank = self._ranks.get(asker.lane, len(self._ranks))
        for name in queues:
            settings, trend = self._settings.approvals[name], self._trends.get((name, rank))
            if trend is None:
                continue
            asks = _asks(name, asker.profile, 1.0)
            if self._rng.random() < people.likely(asks) * people.short_of_room(trend, depth=settings.depth):
                words = "is full" if trend.waiting >= settings.depth else "fills faster than people answer"
                return Refusal(
                    Reason.SHED,
                    f"{SCOPE}{name}",
                    f"the queue of questions {name!r} {words}",
                    limit=settings.depth,
                    used=trend.waiting,
                    unit="approvals",
                )
            wait_s, longest_s = self._wait_s(name, rank, traffic, profile_of), _longest_s(settings, asker)
            if wait_s is not None and settings.on_expiry != "deny":
                wait_s = min(wait_s, settings.max_age)  # then the run goes on, or somebody else is asked
            if wait_s is not None and people.would_fail(asks=asks, wait_s=wait_s, longest_s=longest_s):
                return Refusal(
                    Reason.SHED,
                    f"{SCOPE}{name}",
                    f"people would answer {name!r} in about {wait_s:.0f} s, and there are {longest_s:.0f} s",
                    limit=round(longest_s, 3),
                    used=round(wait_s, 3),
                    unit="seconds",
                )
        return None

    def over_ms(self, refusal: Refusal) -> float | None:
        """By how much the answer would come too late, where that is why."""
        if refusal.unit != "seconds" or refusal.used is None or refusal.limit is None:
            return None
        return 1000 * (refusal.used - refusal.limit)

    def rate(self, scope: str) -> float | None:
        """About how many questions of a refusal's scope are answered in a second."""
        name = scope.removeprefix(SCOPE)
        known = self._paces.get(name)
        return None if known is None else self._per_s(name, known)

    def _per_s(self, name: str, known: Pace) -> float:
        load = self._loads[name]
        if load.oldest_ms is None:
            return known.per_s
        since_ms = max(load.oldest_ms, max(one.decided_ms for one in load.answers))
        return people.slowed(known, silent_s=max(0.0, (self._at_ms - since_ms) / 1000))

    def _wait_s(
        self,
        name: str,
        rank: int,
        traffic: Mapping[str, Traffic],
        profile_of: Callable[[str], Profile | None],
    ) -> float | None:
        known = self._paces.get(name)
        if known is None:
            return None
        before = float(_up_to(self._loads[name], rank))
        comes = 0.0
        for lane, one in traffic.items():
            other = self._ranks.get(lane, len(self._ranks))
            asks = math.fsum(
                part * _asks(name, profile_of(workflow), self._said(workflow, name))
                for workflow, part in one.parts.items()
            )
            before += asks * one.unfinished if other <= rank else 0.0
            comes += asks * one.per_s if other < rank else 0.0
        return people.wait_s(known, per_s=self._per_s(name, known), before=before, comes_per_s=comes)

    def _said(self, workflow: str, queue: str) -> float:
        """Questions that a run of it is taken to ask while too few have ended to tell."""
        declared = self._settings.workflows.get(workflow)
        return 1.0 if declared is not None and queue in declared.asks else 0.0


def _up_to(load: QuestionLoad, rank: int) -> int:
    """Questions that do not give way to one of this rank."""
    return sum(count for one, count in load.waiting.items() if one <= rank)


def _asks(queue: str, profile: Profile | None, unknown: float) -> float:
    if profile is None or profile.ends < LEAST_ENDS:
        return unknown
    return mean_answers(profile).get(ASKED + queue, 0.0)


def _longest_s(settings: ApprovalSettings, asker: Asker) -> float:
    """How late an answer may come. A question that nobody answered fails its run only where silence is a no."""
    longest_s = settings.max_age if settings.on_expiry == "deny" else math.inf
    return longest_s if asker.left_s is None else min(longest_s, max(0.0, asker.left_s - asker.path_s))
