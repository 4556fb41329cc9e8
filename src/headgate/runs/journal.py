"""What a run remembers of its calls, so that a resumed or retried run repeats nothing that it finished.

A step is known by its key, the digest of (resource, function, arguments, nth time), never by its place in the
code: steps may be reordered or run in parallel. Everything is written behind the run's fence, and durably before
the workflow sees it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter
from collections.abc import Awaitable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from headgate.errors import StepNotSerializable
from headgate.model.canonical import digest, encode
from headgate.model.step import Effect, Step, StepState
from headgate.runs.attempt import Attempt
from headgate.store.protocols import Journal


@dataclass(frozen=True, slots=True)
class Place:
    """Which step a call is, decided when it is asked for."""

    key: str
    seq: int
    resource: str
    function: str
    nth: int
    kin: str
    """Digest of what it has in common with its repetitions: resource, function and arguments."""


def function_name(function: Any) -> str:
    """``module.qualname`` of a function; of what is inside, for partials; of the type, for callable objects."""
    while hasattr(function, "func") and callable(function.func):
        function = function.func
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}.{named.__qualname__}"


def arguments_text(args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """The arguments as canonical JSON.

    Raises:
        StepNotSerializable: one has no JSON form; the message names it and says what to do.
    """
    try:
        return encode([args, kwargs])
    except StepNotSerializable:
        named = [(f"argument {number}", value) for number, value in enumerate(args, start=1)]
        named += [(f"argument {name!r}", value) for name, value in kwargs.items()]
        for name, value in named:
            try:
                encode(value, what=name)
            except StepNotSerializable as error:
                raise StepNotSerializable(
                    f"{error}; pass JSON values, or name the step yourself with key=..."
                ) from error
        raise


class StepJournal:
    """The steps of one run as one attempt sees and extends them."""

    def __init__(self, attempt: Attempt, store: Journal) -> None:
        self._attempt = attempt
        self._store = store
        steps = attempt.claim.steps
        self.steps: dict[str, Step] = {step.key: step for step in steps}
        self._next_seq = max((step.seq for step in steps), default=-1) + 1
        self._nth: Counter[str] = Counter()
        self._given_back: dict[str, list[int]] = {}
        """Heaps of numbers below ``_nth`` whose calls are not remembered, by kin."""
        self._choices: list[Step] = []
        """Made and not yet known to be written."""
        self._writing = asyncio.Lock()

    def place(self, resource: str, function: str, identity: str) -> Place:
        """The place of the next call with this identity: the lowest number that no call of this attempt has."""
        kin = digest(resource, function, identity)
        given_back = self._given_back.get(kin)
        if given_back:
            nth = heapq.heappop(given_back)
        else:
            nth = self._nth[kin]
            self._nth[kin] += 1
        return self._placed(digest(kin, str(nth)), resource, function, nth, kin)

    def give_back(self, place: Place) -> None:
        """The call at this place ended and is not remembered. The next one with its identity takes its number, so
        that a workflow that repeats a failed call repeats the same step: with the same idempotency key, and not at
        all if it is a begun ``once`` step. A number of its own would shift those of later calls on a resumed run.
        """
        heapq.heappush(self._given_back.setdefault(place.kin, []), place.nth)

    def tentative(self, place: Place) -> AbstractContextManager[None]:
        """What is done inside ends with the step remembered, or gives its place back."""
        return _Tentative(self, place)

    def fixed_place(self, resource: str, function: str, identity: str) -> Place:
        """The one place with this identity."""
        return self._placed(digest(resource, function, identity), resource, function, 0, "")

    def _placed(self, key: str, resource: str, function: str, nth: int, kin: str) -> Place:
        known = self.steps.get(key)
        if known is not None:
            return Place(key, known.seq, resource, function, nth, kin)
        self._next_seq += 1
        return Place(key, self._next_seq - 1, resource, function, nth, kin)

    def done(self, key: str) -> Step | None:
        """The step, if it is remembered as done."""
        step = self.steps.get(key)
        return step if step is not None and step.state is StepState.DONE else None

    def begun(self, key: str) -> bool:
        """Whether an attempt began the step and nobody knows how it ended."""
        step = self.steps.get(key)
        return step is not None and step.state is StepState.BEGUN

    @property
    def unknown(self) -> Step | None:
        """A ``once`` step that began and whose outcome is unknown, if there is one."""
        return next((step for step in self.steps.values() if step.state is StepState.BEGUN), None)

    async def begin(self, place: Place, now_ms: int) -> None:
        """Write the intent of a ``once`` step.

        Raises:
            AttemptStopped: the lease is lost.
        """
        step = _step(place, Effect.ONCE, StepState.BEGUN, now_ms)
        await self._fenced(self._store.begin(*self._fence, step))
        self.steps[place.key] = step

    async def forget(self, place: Place) -> None:
        """The call of a begun step certainly did not take effect."""
        if await self._store.forget(*self._fence, place.key):
            self.steps.pop(place.key, None)

    async def record(self, step: Step) -> None:
        """Remember a step as done.

        Raises:
            AttemptStopped: the lease is lost.
        """
        await self._fenced(self._store.record(*self._fence, step))
        self.steps[step.key] = step
        self._attempt.safe_point.passed()

    def choose(
        self, place: Place, result: str, now_ms: int, *, degraded: str | None, degradation: str | None = None
    ) -> None:
        """Remember a choice that was made without a call (a knob's value). It is written before the next call."""
        step = _step(
            place, Effect.PURE, StepState.DONE, now_ms, result=result, degraded=degraded, degradation=degradation
        )
        self.steps[place.key] = step
        self._choices.append(step)

    async def write_choices(self) -> None:
        """Return once all choices made so far are written: calls that follow may depend on them. Branches that come
        while another one writes wait for it; what could not be written stays to be written.

        Raises:
            AttemptStopped: the lease is lost. StoreError: they could not be written.
        """
        if not self._choices:
            return
        async with self._writing:
            choices = list(self._choices)
            await asyncio.gather(*(self.record(step) for step in choices))
            del self._choices[: len(choices)]

    @property
    def _fence(self) -> tuple[str, str, int]:
        run = self._attempt.run
        return run.id, run.owner or "", run.term

    async def _fenced(self, answer: Awaitable[bool]) -> None:
        if not await answer:
            raise self._attempt.lose()


class _Tentative:
    __slots__ = ("_journal", "_place")

    def __init__(self, journal: StepJournal, place: Place) -> None:
        self._journal, self._place = journal, place

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._journal.give_back(self._place)


def _step(
    place: Place,
    effect: Effect,
    state: StepState,
    now_ms: int,
    *,
    result: str | None = None,
    degraded: str | None = None,
    degradation: str | None = None,
) -> Step:
    """A step without a finished call."""
    return Step(
        key=place.key,
        seq=place.seq,
        resource=place.resource,
        function=place.function,
        nth=place.nth,
        effect=effect,
        state=state,
        result=result,
        queued_ms=0,
        ran_ms=0,
        tries=0,
        degraded=degraded,
        model_tokens=0,
        started_ms=now_ms,
        finished_ms=now_ms if state is StepState.DONE else None,
        degradation=degradation,
    )
