"""One remembered call: from memory if it was done, else held, guarded, made, written down."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from headgate.config.settings import ModelSettings
from headgate.errors import BudgetExhausted, StoreError, UnknownOutcome, UnusableResult
from headgate.guard import classify
from headgate.guard.ambient import ambient, at_step, current
from headgate.guard.guard import is_async
from headgate.guard.options import CallOptions, Performed
from headgate.guard.retry import surely_not_reached
from headgate.model.canonical import digest
from headgate.model.degradation import Degradation
from headgate.model.outcome import Outcome
from headgate.model.reason import Reason
from headgate.model.step import Effect, Step, StepState
from headgate.policy.run_budget import Hold
from headgate.runs.attempt import AttemptStopped
from headgate.runs.budget import follow_raise
from headgate.runs.journal import Place, arguments_text, function_name
from headgate.runs.looks import came_to
from headgate.runs.loops import Watched
from headgate.runs.postponing import Postponed, put_off
from headgate.runs.progress import Progress, whose
from headgate.runs.resource_time import ResourceTime
from headgate.runs.usage import NOTHING, reported
from headgate.runs.values import from_json, to_json

log = logging.getLogger("headgate.runs")

WINDOW_WARNS_AT = 0.8


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
    check: Callable[[Any], bool] | None = None
    postponable: tuple[str, ...] = ()
    """Names by which a rung may put it off."""
    repeats: bool = False
    """It is meant to be made again and again, with the same result: no loop."""


async def make_call(wish: CallWish, progress: Progress) -> Any:
    """Answer a wish. See `headgate.runs.context.Run.call`."""
    attempt, journal, loops = progress.attempt, progress.journal, progress.loops
    if loops is not None:
        loops.enter()
    await attempt.boundary()
    progress.equipment.resources.get(wish.resource)  # refuses unknown names, also on a resumed run
    identity = arguments_text(wish.args, wish.kwargs) if wish.key is None else f"key:{wish.key}"
    place = journal.place(wish.resource, function_name(wish.function), identity)
    call = hash((place.resource, place.function, identity))
    watched = Watched(call, place, wish.resource in progress.equipment.settings.models, wish.repeats)
    with attempt.call_open():
        later: Postponed | None = None
        if wish.postponable:
            with journal.tentative(place):
                later = await put_off(wish.postponable, place, progress)
            if later is not None and (not attempt.cheaper.is_follow_up or journal.done(place.key) is not None):
                return later
        known = journal.done(place.key)
        if known is not None:
            if loops is not None:
                loops.remembered(watched, known.result)
            came_to(place.key)
            _tell(progress, "step_replayed", place, known.effect)
            return from_json(known.result, wish.returns)
        with journal.tentative(place):
            if journal.begun(place.key):
                raise UnknownOutcome(f"{place.function} on {place.resource} (step {place.seq})")
            begun = 0 if loops is None else loops.begin(watched)
            await journal.write_choices()
            await attempt.may_call()
            account = await _hold(wish, progress)
            with attempt.performing_here(once=wish.effect is Effect.ONCE):
                try:
                    step = await _perform(wish, place, progress, account)
                except Exception as error:
                    if loops is not None and _is_failure(error, progress):
                        loops.failed(watched, error, begun)
                    # nobody is told to repeat what may have taken effect
                    if isinstance(error, UnusableResult) and wish.effect is not Effect.ONCE:
                        progress.equipment.repairs.ended_unusable(place.resource, error, progress.tell)
                    raise
                await journal.record(step)
        progress.equipment.repairs.answered(place.resource)
        if loops is not None:
            loops.succeeded(watched, step.result, begun)
        _tell(progress, "step_remembered", place, step.effect)
        if later is not None:
            return later  # as in the run that put it off
        came_to(place.key)
        return from_json(step.result, wish.returns)


def _is_failure(error: Exception, progress: Progress) -> bool:
    """Whether the call itself failed; refusals and overload answers are no sign of a loop."""
    if isinstance(error, UnusableResult):
        return True
    outcome = classify.of_error(error, now_ms=progress.equipment.clock.now_ms()).outcome
    return outcome in (Outcome.FAILED, Outcome.TIMEOUT, Outcome.CALLER_ERROR)


@dataclass(frozen=True, slots=True)
class _Account:
    """What a call has taken from its run's budget."""

    target: str
    """The resource that the ladder has chosen."""
    model: ModelSettings | None
    """Its settings, if it is a model."""
    held: Hold
    why: str
    """If that is another one than the workflow asked for."""


async def _hold(wish: CallWish, progress: Progress) -> _Account:
    """Take the call from the run's budget. Near a ceiling it waits for what calls under way really take; at the
    ceiling the run is paused.

    Raises:
        BudgetExhausted: a ceiling is reached and the budget says ``at_ceiling: fail``.
        AttemptStopped: the run is paused.
    """
    attempt = progress.attempt
    target = progress.instead_of(wish.resource)
    model, why = progress.equipment.settings.models.get(target), progress.why(("model", wish.resource))
    while True:
        try:
            held = attempt.meter.hold(
                model=model is not None,
                model_tokens=wish.model_tokens,
                guess=0.0 if model is None else model.tokens_per_call,
                price_per_1k=None if model is None else model.price_per_1k,
                ran_s=attempt.ran_s,
            )
        except BudgetExhausted as ceiling:
            await at_ceiling(ceiling, progress)
            continue
        return _Account(target, model, held, why)


async def at_ceiling(ceiling: BudgetExhausted, progress: Progress) -> None:
    """A ceiling of the run has no room. Comes back if there may be some now.

    Raises:
        BudgetExhausted: there is none and the budget says ``at_ceiling: fail``.
        AttemptStopped: the run waits for sub-runs, or is paused.
    """
    attempt, children = progress.attempt, progress.children
    if await attempt.others_done() or await _raised_meanwhile(progress) or await children.freed():
        return
    children.wait_for_budget(ceiling.dimension)
    if progress.workflow.budget.at_ceiling == "fail":
        raise ceiling
    attempt.reach(ceiling, fails=False)
    attempt.signalled = True
    raise AttemptStopped from ceiling


async def _raised_meanwhile(progress: Progress) -> bool:
    """Whether somebody has raised the run's ceilings while it ran."""
    attempt = progress.attempt
    try:
        raised = await follow_raise(attempt, progress.equipment.store.runs)
    except StoreError:
        if progress.workflow.budget.at_ceiling == "fail":
            raise
        return False  # to pause it asks the store once more
    attempt.check()
    return raised


async def _perform(wish: CallWish, place: Place, progress: Progress, account: _Account) -> Step:
    """Make the call; the step as it is to be remembered."""
    equipment, attempt, target = progress.equipment, progress.attempt, account.target
    started_ms = equipment.clock.now_ms()
    entry = _Entry(attempt.resource_time, metered=account.model is not None)
    try:
        if wish.effect is Effect.ONCE:
            await progress.journal.begin(place, started_ms)
        worked_s = min(attempt.worked_s, attempt.ran_s)
        remaining_s, done = equipment.experience.outlook(
            attempt.run.workflow,
            calls=attempt.meter.used_calls - 1,
            ran_s=worked_s,
            now=equipment.clock.monotonic(),
        )
        key = digest(attempt.run.origin_id, place.key)
        circumstances = at_step(current(), key, remaining_s=remaining_s, progress=done)
        with ambient(circumstances):
            performed: Performed[Any] = await equipment.resources.get(target).perform(
                entry.around(wish.function), wish.args, wish.kwargs, _options(wish)
            )
    except BaseException as error:
        await _failed(error, wish, place, progress, entry, account)
        raise
    return _step(wish, place, progress, account, entry, performed, started_ms)


def _step(
    wish: CallWish,
    place: Place,
    progress: Progress,
    account: _Account,
    entry: _Entry,
    performed: Performed[Any],
    started_ms: int,
) -> Step:
    """Settle a call that answered, and write down what it was."""
    equipment, attempt, target = progress.equipment, progress.attempt, account.target
    answered = (performed.degraded or "").removeprefix("resource:") or target
    model = equipment.settings.models.get(answered)
    usage = reported(performed.value) if model is not None else NOTHING
    tokens = performed.model_tokens or wish.model_tokens or 0
    if not tokens and model is not None:
        tokens = round(account.held.model_tokens)  # silence is no proof that it cost nothing
    money = None if usage.money is None else max(entry.money, usage.money)
    if money is None:
        money = tokens * (model.price_per_1k or 0.0) / 1000 if model is not None else 0.0
    attempt.meter.settle(
        account.held, tries=performed.tries, model_tokens=tokens, money=money, model=account.model is not None
    )
    attempt.note_use(answered, calls=performed.tries, busy_s=performed.ran_s, model_tokens=tokens)
    attempt.queued_s += performed.queued_s
    if wish.check is not None and not wish.check(performed.value):
        error = UnusableResult(f"{place.function} on {place.resource}", performed.tries)
        attempt.note_error(error)
        raise error
    if model is not None and model.context_window is not None and usage.input_tokens is not None:
        _watch_window(progress, answered, usage.input_tokens, model.context_window)
    instead = None if performed.degraded is None else performed.degraded.removeprefix("resource:")
    degraded, degradation = instead or (target if target != wish.resource else None), None
    if degraded is not None:
        why = account.why if instead is None else Reason.FALLBACK.value
        degradation = Degradation(wish.resource, wish.resource, degraded, why)
        degraded = f"{wish.resource} -> {degraded}"
        progress.note_degraded(degraded, degradation)
    return Step(
        key=place.key,
        seq=place.seq,
        resource=place.resource,
        function=place.function,
        nth=place.nth,
        effect=wish.effect,
        state=StepState.DONE,
        result=to_json(
            performed.value,
            what=f"what {place.function} returned",
            at_most=progress.workflow.budget.step_payload,
        ),
        queued_ms=round(1000 * performed.queued_s),
        ran_ms=round(1000 * performed.ran_s),
        tries=performed.tries,
        degraded=degraded,
        model_tokens=tokens,
        started_ms=started_ms,
        finished_ms=equipment.clock.now_ms(),
        money=money,
        input_tokens=usage.input_tokens,
        degradation=None if degradation is None else degradation.text(),
    )


def _watch_window(progress: Progress, resource: str, used: int, window: float) -> None:
    """Warn of a prompt that nearly fills the model's context window."""
    if used < WINDOW_WARNS_AT * window:
        return
    progress.attempt.warn(
        f"the last prompt to {resource} took {used} of the {window:g} model tokens of its context window; make "
        "the next one shorter, for example by a summary"
    )
    progress.tell("context_window", resource=resource, used=used, limit=int(window))


def _options(wish: CallWish) -> CallOptions:
    return CallOptions(
        model_tokens=None if wish.model_tokens is None else float(wish.model_tokens),
        once=wish.effect is Effect.ONCE,
        healthy=wish.check,
    )


async def _failed(
    error: BaseException, wish: CallWish, place: Place, progress: Progress, entry: _Entry, account: _Account
) -> None:
    """Settle a call that raised: what it cost, and whether a ``once`` step is known not to have taken effect."""
    if entry.entered:
        tokens, model = entry.model_tokens or wish.model_tokens or 0, account.model
        price = 0.0 if model is None else model.price_per_1k or 0.0
        money = entry.money or tokens * price / 1000
        progress.meter.settle(account.held, tries=entry.entered, model_tokens=tokens, money=money)
    else:
        progress.meter.give_back(account.held)
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
    """How often the function of a call was entered (if never, nothing can have taken effect), how it failed, and what
    its answers cost, also those that were not usable."""

    __slots__ = ("_metered", "_time", "entered", "error", "model_tokens", "money")

    def __init__(self, time: ResourceTime, *, metered: bool) -> None:
        """``time`` counts how long it is carried out; ``metered``: its answers may say what they cost."""
        self._metered = metered
        self._time = time
        self.entered = 0
        self.error: BaseException | None = None
        """What the latest call of it raised."""
        self.model_tokens = 0
        self.money = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` as the guard is to call it. It is not kept here: each would keep the other alive."""
        return self._async(function) if is_async(function) else self._sync(function)

    def _answered(self, value: Any) -> Any:
        if self._metered:
            self.model_tokens += classify.reported_model_tokens(value) or 0
            self.money += reported(value).money or 0.0
        return value

    def _async(self, function: Callable[..., Any]) -> Callable[..., Any]:
        # not dressed up as ``function``, which would cost more than the call of it; nobody looks at it but the guard
        async def entered(*args: Any, **kwargs: Any) -> Any:
            self.entered, self.error = self.entered + 1, None
            try:
                with self._time.inside():
                    value = await function(*args, **kwargs)
                    return self._answered(value) if self._metered else value
            except BaseException as error:
                self.error = error
                raise

        return entered

    def _sync(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function, updated=())
        def entered(*args: Any, **kwargs: Any) -> Any:
            self.entered, self.error = self.entered + 1, None
            try:
                with self._time.inside():
                    return self._answered(function(*args, **kwargs))
            except BaseException as error:
                self.error = error
                raise

        return entered


def _tell(progress: Progress, name: str, place: Place, effect: Effect) -> None:
    if progress.equipment.bus.active:
        progress.equipment.bus.emit(name, **whose(progress.attempt), resource=place.resource, effect=effect)
