"""Loop detection at work: what `headgate.policy.loops` thinks of an attempt's calls, told to whom it concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from headgate.config.settings import LoopSettings
from headgate.errors import LoopDetected
from headgate.policy.loops import Judgement, Level, LoopDetector, Thresholds
from headgate.runs.attempt import Attempt, AttemptStopped, Stop
from headgate.runs.journal import Place

_WORDS = {
    "failing": "failed {count} times in a row with the same arguments",
    "repetition": "gave the same result {count} times and nothing new was learned meanwhile",
    "ping_pong": "is made in turn with another call, {count} times, and both give the same as before",
    "cycle": "is part of a cycle of calls that was gone through {count} times without a new result",
}
_REMEMBERED = -1
"""A result from memory: known, and not counted again."""


@dataclass(frozen=True, slots=True)
class Watched:
    """A call as the detection sees it."""

    call: int
    """Hash of resource, function and arguments."""
    place: Place
    model: bool
    repeats: bool
    """It is meant to be made again and again."""


class LoopWatch:
    """The detector of one attempt. Its memory begins anew with every attempt, from the remembered results."""

    __slots__ = ("_attempt", "_aware", "_detector", "_readable", "_tell")

    def __init__(self, settings: LoopSettings, attempt: Attempt, tell: Callable[..., None]) -> None:
        """``tell`` emits an event about the attempt's run."""
        self._detector = LoopDetector(Thresholds(settings.warn, settings.refuse, settings.stop))
        self._attempt = attempt
        self._tell = tell
        self._readable = 0
        """Refusals that somebody can have read."""
        self._aware: WeakKeyDictionary[asyncio.Task[Any], int] = WeakKeyDictionary()
        """By branch of the workflow: how many refusals there were when it began or was last refused itself."""

    def enter(self) -> None:
        """A branch of the workflow comes to a call. What was refused after its first one is no news that it was
        started with, so a batch that runs into the same refusal does so once."""
        branch = asyncio.current_task()
        if branch is not None and branch not in self._aware:
            self._aware[branch] = self._readable

    def begin(self, watched: Watched) -> int:
        """The call may be made; hand the number to `failed` or `succeeded`.

        Raises:
            LoopDetected: it may not, and is not made.
            AttemptStopped: the run is to end.
        """
        branch = asyncio.current_task()
        aware = None if branch is None else self._aware.get(branch)
        judged = self._detector.ask(watched.call, model=watched.model, repeats=watched.repeats, aware=aware)
        if judged.level is Level.FINE:
            return self._detector.begin()
        place = watched.place
        name = f"{place.function} on {place.resource}"
        words = f"{name} {_WORDS[judged.why].format(count=judged.count)}"
        if judged.level is Level.STOP:
            self._emit(place, judged, "stopped")
            self._attempt.loop = words
            self._attempt.request_stop(Stop.LOOP)
            self._attempt.signalled = True
            raise AttemptStopped
        self._refused(branch)
        self._emit(place, judged, "refused")
        if judged.counted:
            self._attempt.warn(f"{words}; it was not made again")
        raise LoopDetected(name, why=judged.why, count=judged.count, stop_at=judged.stop_at)

    def remembered(self, watched: Watched, result: str | None) -> None:
        """The call was answered from memory."""
        self._detector.succeeded(
            watched.call, hash(result), _REMEMBERED, model=watched.model, repeats=watched.repeats
        )

    def succeeded(self, watched: Watched, result: str | None, begun: int) -> None:
        """It gave this result."""
        judged = self._detector.succeeded(
            watched.call, hash(result), begun, model=watched.model, repeats=watched.repeats
        )
        if judged.level is not Level.FINE:
            self._warn(watched.place, judged)

    def failed(self, watched: Watched, error: BaseException, begun: int) -> None:
        """It failed. From the warning threshold on, the error says that it is not the first time."""
        judged = self._detector.failed(watched.call, begun, repeats=watched.repeats)
        if judged.level is not Level.FINE:
            error.add_note(self._warn(watched.place, judged))

    def _refused(self, branch: asyncio.Task[Any] | None) -> None:
        refusals = self._detector.refusals
        if branch is not None:
            self._aware[branch] = refusals
        # Branches that were started together are all ready to run before this is.
        asyncio.get_running_loop().call_soon(self._can_be_read, refusals)

    def _can_be_read(self, refusals: int) -> None:
        self._readable = max(self._readable, refusals)

    def _warn(self, place: Place, judged: Judgement) -> str:
        words = (
            f"{place.function} on {place.resource} {_WORDS[judged.why].format(count=judged.count)}. Try another way; "
            f"from {judged.refuse_at} times on it is refused."
        )
        self._attempt.warn(words)
        self._emit(place, judged, "warned")
        return words

    def _emit(self, place: Place, judged: Judgement, outcome: str) -> None:
        self._tell("loop_warned", resource=place.resource, outcome=outcome, reason=judged.why, count=judged.count)
