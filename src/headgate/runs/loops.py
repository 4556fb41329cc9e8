"""Loop detection at work: what `headgate.policy.loops` thinks of an attempt's calls, told to whom it concerns."""

from __future__ import annotations

from collections.abc import Callable

from headgate.config.settings import LoopSettings
from headgate.errors import LoopDetected
from headgate.policy.loops import Judgement, Level, LoopDetector, Thresholds
from headgate.runs.attempt import Attempt, AttemptStopped, Stop
from headgate.runs.journal import Place

_WORDS = {
    "failing": "failed {count} times in a row with the same arguments",
    "repetition": "gave the same result {count} times and nothing else was learned meanwhile",
    "ping_pong": "is made in turn with another call, {count} times, and both give the same as before",
    "cycle": "is part of a cycle of calls that was gone through {count} times without a new result",
}
_REMEMBERED = -1
"""A result from memory: known, and not counted again."""


class LoopWatch:
    """The detector of one attempt. Its memory begins anew with every attempt, from the remembered results."""

    __slots__ = ("_attempt", "_detector", "_tell")

    def __init__(self, settings: LoopSettings, attempt: Attempt, tell: Callable[..., None]) -> None:
        """``tell`` emits an event about the attempt's run."""
        self._detector = LoopDetector(Thresholds(settings.warn, settings.refuse, settings.stop))
        self._attempt = attempt
        self._tell = tell

    def begin(self, call: int, place: Place, *, pure: bool) -> int:
        """The call may be made; hand the number to `failed` or `succeeded`.

        Raises:
            LoopDetected: it may not, and is not made.
            AttemptStopped: the run is to end.
        """
        judged = self._detector.ask(call, pure=pure)
        if judged.level is Level.FINE:
            return self._detector.begin()
        name = f"{place.function} on {place.resource}"
        words = f"{name} {_WORDS[judged.why].format(count=judged.count)}"
        if judged.level is Level.STOP:
            self._emit(place, judged, "stopped")
            self._attempt.loop = words
            self._attempt.request_stop(Stop.LOOP)
            self._attempt.signalled = True
            raise AttemptStopped
        self._emit(place, judged, "refused")
        self._attempt.warn(f"{words}; it was not made again")
        raise LoopDetected(name, why=judged.why, count=judged.count, stop_at=judged.stop_at)

    def remembered(self, call: int, result: str | None) -> None:
        """The call was answered from memory."""
        self._detector.succeeded(call, hash(result), _REMEMBERED)

    def succeeded(self, call: int, place: Place, result: str | None, begun: int, *, pure: bool) -> None:
        """It gave this result."""
        judged = self._detector.succeeded(call, hash(result), begun, pure=pure)
        if judged.level is not Level.FINE:
            self._warn(place, judged)

    def failed(self, call: int, place: Place, error: BaseException, begun: int) -> None:
        """It failed. From the warning threshold on, the error says that it is not the first time."""
        judged = self._detector.failed(call, begun)
        if judged.level is not Level.FINE:
            error.add_note(self._warn(place, judged))

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
