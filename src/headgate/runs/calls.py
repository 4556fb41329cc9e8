"""One remembered call: from memory if it was done, else held, guarded, made, written down."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from headgate.errors import StoreError, UnknownOutcome
from headgate.guard import classify
from headgate.guard.ambient import ambient, current
from headgate.guard.guard import is_async
from headgate.guard.options import CallOptions, Performed
from headgate.guard.retry import surely_not_reached
from headgate.model.canonical import digest
from headgate.model.outcome import Outcome
from headgate.model.step import Effect, Step, StepState
from headgate.runs.journal import Place, arguments_text, function_name
from headgate.runs.progress import Progress, whose
from headgate.runs.values import from_json, to_json

log = logging.getLogger("headgate.runs")


@dataclass(frozen=True, slots=True)
class CallWish:
    """What a workflow asks for."""

    resource: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    effect: Effect
    key: str | None
    returns: Any
    model_tokens: int | None


async def make_call(wish: CallWish, progress: Progress) -> Any:
    """Answer a wish. See `headgate.runs.context.Run.call`."""
    attempt, journal = progress.attempt, progress.journal
    await attempt.boundary()
    progress.equipment.resources.get(wish.resource)  # refuses unknown names, also on a resumed run
    identity = arguments_text(wish.args, wish.kwargs) if wish.key is None else f"key:{wish.key}"
    place = journal.place(wish.resource, function_name(wish.function), identity)
    with attempt.call_open():
        known = journal.done(place.key)
        if known is not None:
            _tell(progress, "step_replayed", place, known.effect)
            return from_json(known.result, wish.returns)
        if journal.begun(place.key):
            raise UnknownOutcome(f"{place.function} on {place.resource} (step {place.seq})")
        await journal.write_choices()
        await attempt.may_call()
        step = await _perform(wish, place, progress)
        await journal.record(step)
        _tell(progress, "step_remembered", place, step.effect)
        return from_json(step.result, wish.returns)


async def _perform(wish: CallWish, place: Place, progress: Progress) -> Step:
    """Make the call within the run's budget; the step as it is to be remembered."""
    equipment, meter = progress.equipment, progress.meter
    target = progress.active.models.get(wish.resource, wish.resource)
    held = wish.model_tokens or 0
    meter.hold(held, model=target in equipment.settings.models)
    started_ms = equipment.clock.now_ms()
    entry = _Entry(wish.function)
    try:
        if wish.effect is Effect.ONCE:
            await progress.journal.begin(place, started_ms)
        circumstances = replace(current(), idempotency_key=digest(progress.attempt.run.origin_id, place.key))
        with ambient(circumstances):
            performed: Performed[Any] = await equipment.resources.get(target).perform(
                entry.function, wish.args, wish.kwargs, _options(wish)
            )
    except BaseException as error:
        await _failed(error, wish, place, progress, entry, held)
        raise
    meter.settle(held, tries=performed.tries, model_tokens=performed.model_tokens or held)
    instead = None if performed.degraded is None else performed.degraded.removeprefix("resource:")
    degraded = instead or (target if target != wish.resource else None)
    if degraded is not None:
        words = f"{wish.resource} -> {degraded}"
        progress.note_degraded(words, what=wish.resource, old=wish.resource, new=degraded)
        degraded = words
    return Step(
        key=place.key,
        seq=place.seq,
        resource=place.resource,
        function=place.function,
        nth=place.nth,
        effect=wish.effect,
        state=StepState.DONE,
        result=to_json(performed.value, what=f"what {place.function} returned"),
        queued_ms=round(1000 * performed.queued_s),
        ran_ms=round(1000 * performed.ran_s),
        tries=performed.tries,
        degraded=degraded,
        model_tokens=performed.model_tokens or held,
        started_ms=started_ms,
        finished_ms=equipment.clock.now_ms(),
    )


def _options(wish: CallWish) -> CallOptions:
    return CallOptions(
        model_tokens=None if wish.model_tokens is None else float(wish.model_tokens),
        once=wish.effect is Effect.ONCE,
    )


async def _failed(
    error: BaseException, wish: CallWish, place: Place, progress: Progress, entry: _Entry, held: int
) -> None:
    """Settle a call that raised: what it cost, and whether a ``once`` step is known not to have taken effect."""
    if entry.entered:
        progress.meter.settle(held, tries=1, model_tokens=held)
    else:
        progress.meter.give_back(held)
    if isinstance(error, Exception):
        progress.attempt.note_error(error)
    now_ms = progress.equipment.clock.now_ms()
    if wish.effect is Effect.ONCE and (not entry.entered or _certainly_refused(entry.error, now_ms)):
        try:
            await progress.journal.forget(place)
        except StoreError as failure:  # it stays begun, which is the safe side
            log.warning("the unused intent of a step could not be removed: %s", failure)


def _certainly_refused(error: BaseException | None, now_ms: int) -> bool:
    """Whether the dependency itself says that it did nothing: the request was wrong, or over a limit.

    Earlier tries need no look: a guard retries a ``once`` call only after such an answer.
    """
    if error is None:
        return False
    result = classify.of_error(error, now_ms=now_ms)
    told = result.status is not None and result.outcome in (Outcome.CALLER_ERROR, Outcome.QUOTA)
    return told or surely_not_reached(result)


class _Entry:
    """A function that tells whether it was entered (else nothing can have taken effect), and how it failed."""

    __slots__ = ("entered", "error", "function")

    def __init__(self, function: Callable[..., Any]) -> None:
        self.entered = False
        self.error: BaseException | None = None
        """What the latest call of it raised."""
        self.function = self._async(function) if is_async(function) else self._sync(function)

    def _async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function, updated=())
        async def entered(*args: Any, **kwargs: Any) -> Any:
            self.entered, self.error = True, None
            try:
                return await function(*args, **kwargs)
            except BaseException as error:
                self.error = error
                raise

        return entered

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function, updated=())
        def entered(*args: Any, **kwargs: Any) -> Any:
            self.entered, self.error = True, None
            try:
                return function(*args, **kwargs)
            except BaseException as error:
                self.error = error
                raise

        return entered


def _tell(progress: Progress, name: str, place: Place, effect: Effect) -> None:
    if progress.equipment.bus.active:
        progress.equipment.bus.emit(name, **whose(progress.attempt), resource=place.resource, effect=effect)
