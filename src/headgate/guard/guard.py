"""The order around a call.

    model tokens per tenant, user, workflow → bounded queue → breaker → slot → rate, model tokens, fleet → the call

under a timeout that is the least of the resource's, the caller's and what is left until the deadline. Whatever was
taken is given back in reverse on any failure, and the slot ends exactly once. A try that failed and may be repeated
has given its slot back before it waits, and competes again as new work. A refusal, or a failure after the last try,
moves on to the fallback resource where there is one.

The function runs in the caller's own task (or thread), so context variables and cancellation work as without a
guard. A plain function called from a coroutine runs in a thread of the resource; when its time runs out its caller is
told at once, but its slot stays taken until the thread has really come back. In plain threads a running function
cannot be stopped: there the timeout only counts as evidence.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headgate.errors import Overloaded
from headgate.guard import ambient, classify, last_resort
from headgate.guard.call import Call
from headgate.guard.cutoff import Cutoff, cut_error, time_for_one_try
from headgate.guard.slot import Slot, SlotState
from headgate.guard.turnstile import Turnstile
from headgate.guard.waiting import wait_in_thread, wait_on_loop

if TYPE_CHECKING:
    from headgate.guard.resource import Resource

Args = Sequence[Any]
Kwargs = Mapping[str, Any]


def perform(call: Call, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Coroutine[Any, Any, Any]:
    """Carry ``fn(*args, **kwargs)`` through the guard and return its value, or an answer of last resort.

    Raises:
        Overloaded: refused.
        Expired: the deadline passed during the call.
        TimeoutError: no answer within the timeout.
        BaseException: what the function itself raised, when it is not repeated.
    """
    if last_resort.offered(call.options):
        return _perform_somehow(call, fn, args, kwargs)
    return _perform(call, fn, args, kwargs)


async def _perform_somehow(call: Call, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    asked, error, value = call.resource, None, None
    try:
        value = await _perform(call, fn, args, kwargs)
    except Exception as failed:
        if not call.replaceable:
            raise
        error = failed
    if not call.replaceable:
        _keep(call, asked, fn, args, kwargs, value)
        return value
    for offer in _offers(call, asked, fn, args, kwargs):
        try:
            made = offer.make()
            made = await made if inspect.isawaitable(made) else made
        except Exception as failed:  # noqa: BLE001  it is raised below, or noted on what is
            error = _noted(error, failed)
        else:
            call.replaced = offer.degraded
            return made
    if error is not None:
        raise error
    return value


def perform_sync(call: Call, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    """As `perform`, in the calling thread.

    Raises:
        TypeError: the caller's ``fallback_fn`` is a coroutine function, or ``fn`` makes a generator.
    """
    _refuse_generator(fn)
    if not last_resort.offered(call.options):
        return _perform_sync(call, fn, args, kwargs)
    asked, error, value = call.resource, None, None
    try:
        value = _perform_sync(call, fn, args, kwargs)
    except Exception as failed:
        if not call.replaceable:
            raise
        error = failed
    if not call.replaceable:
        _keep(call, asked, fn, args, kwargs, value)
        return value
    for offer in _offers(call, asked, fn, args, kwargs):
        try:
            made = offer.make()
        except Exception as failed:  # noqa: BLE001  as above
            error = _noted(error, failed)
            continue
        if inspect.iscoroutine(made):
            made.close()
            raise TypeError("fallback_fn is a coroutine function; a call without an event loop needs a plain one")
        call.replaced = offer.degraded
        return made
    if error is not None:
        raise error
    return value


def _offers(
    call: Call, asked: Resource, fn: Callable[..., Any], args: Args, kwargs: Kwargs
) -> list[last_resort.Offer]:
    """The answers of last resort, in the order in which they are tried."""
    offers = last_resort.own_offers(call.options, args, kwargs)
    if call.options.stale and (key := last_resort.key_of(fn, args, kwargs, call.whose)) is not None:
        stale = asked.stale.get(key, call.clock.monotonic(), max_age_s=call.options.stale_for)
        if stale is not None:
            offers.insert(0, stale)
    return offers


def _noted(error: Exception | None, failed: Exception) -> Exception:
    """What the caller is to get: the call's own error, which says that the fallback failed too; that of the fallback
    where the call had raised nothing."""
    if error is None:
        return failed
    error.add_note(f"fallback_fn failed too: {failed!r}")
    return error


def _keep(call: Call, asked: Resource, fn: Callable[..., Any], args: Args, kwargs: Kwargs, value: Any) -> None:
    """Remember a good answer of the resource that was asked, if the caller wants stale ones."""
    if call.options.stale and call.resource is asked:
        key = last_resort.key_of(fn, args, kwargs, call.whose)
        if key is not None:
            asked.stale.put(key, value, call.clock.monotonic())


async def _perform(call: Call, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    while True:
        try:
            if call.too_slow():
                call.skip_slow()
            slot, wait_s = _ask(call)
            slot = _begun(call, slot) if slot.state is SlotState.HELD else await _wait(call, slot, wait_s)
        except Overloaded as refusal:
            if call.fall_back(refusal):
                continue
            refusal.executed = call.maybe_done
            raise refusal from call.last_error
        try:
            value = await _run(call, slot, fn, args, kwargs)
        except BaseException as error:
            again = call.raised(slot, error)
            if again.delay_s is None:
                raise
        else:
            verdict = call.returned(slot, value)
            if verdict is None or verdict.delay_s is None:
                return value
            again = verdict
        if again.delay_s:
            try:
                await asyncio.sleep(again.delay_s)
            except BaseException:
                call.drop_retry()
                raise


def _perform_sync(call: Call, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    while True:
        try:
            if call.too_slow():
                call.skip_slow()
            slot = acquire_sync(call)
        except Overloaded as refusal:
            if call.fall_back(refusal):
                continue
            refusal.executed = call.maybe_done
            raise refusal from call.last_error
        token = ambient.enter_resource(call.resource.name)
        try:
            value = fn(*args, **kwargs)
        except BaseException as error:
            again = call.raised(slot, error)
            if again.delay_s is None:
                raise
        else:
            overran = call.clock.monotonic() - slot.started_at > call.limit_s
            verdict = call.returned(slot, value, overran=overran)
            if verdict is None or verdict.delay_s is None:
                return value
            again = verdict
        finally:
            ambient.leave_resource(token)
        if again.delay_s:
            try:
                threading.Event().wait(again.delay_s)
            except BaseException:
                call.drop_retry()
                raise


def reap(turnstile: Turnstile, now: float) -> None:
    """End the slots whose holders have vanished without ending them."""
    while turnstile.abandoned:
        slot = turnstile.abandoned.popleft()
        slot.task = None  # its timer must not cancel what that task does by now
        turnstile.leave(slot, classify.IGNORED, now)


async def acquire(call: Call) -> Slot:
    """A slot that is held, ready for its call.

    Raises:
        Overloaded: refused.
    """
    slot, wait_s = _ask(call)
    return _begun(call, slot) if slot.state is SlotState.HELD else await _wait(call, slot, wait_s)


def _ask(call: Call) -> tuple[Slot, float]:
    """A slot, which is held if it can start at once (then it costs no coroutine), and the seconds that it has to wait
    for its reserved model tokens."""
    now = call.clock.monotonic()
    turnstile = call.turnstile
    if turnstile.abandoned:
        reap(turnstile, now)
    slot, wait_s = call.new_slot(now), 0.0
    if slot.paid is None:
        if turnstile.tokens is not None:
            wait_s = call.reserve_tokens(slot, now)
        if wait_s <= 0:
            turnstile.try_enter(slot, now)
    return slot, wait_s


async def _wait(call: Call, slot: Slot, wait_s: float) -> Slot:
    turnstile = call.turnstile
    asked = slot.paid is None and wait_s <= 0
    if slot.paid is not None:
        try:
            while (pause_s := turnstile.enter_retry(slot)) > 0:  # noqa: ASYNC110  nobody tells when there is room
                await asyncio.sleep(pause_s)
        except BaseException:
            turnstile.withdraw(slot)
            raise
        if turnstile.tokens is not None:
            wait_s = call.reserve_tokens(slot, call.clock.monotonic())
    if wait_s > 0:
        turnstile.reserve_place(slot, call.clock.monotonic())
        try:
            await asyncio.sleep(wait_s)
        except BaseException:
            turnstile.withdraw(slot)
            raise
        finally:
            turnstile.release_place()
    if asked or not turnstile.try_enter(slot, call.clock.monotonic()):
        await wait_on_loop(slot, turnstile, call.clock)
    return _begun(call, slot)


def acquire_sync(call: Call) -> Slot:
    """As `acquire`, blocking the calling thread."""
    now = call.clock.monotonic()
    turnstile = call.turnstile
    if turnstile.abandoned:
        reap(turnstile, now)
    slot = call.new_slot(now)
    if slot.paid is not None:
        try:
            while (wait_s := turnstile.enter_retry(slot)) > 0:
                threading.Event().wait(wait_s)
        except BaseException:
            turnstile.withdraw(slot)
            raise
        now = call.clock.monotonic()
    if turnstile.tokens is not None and (wait_s := call.reserve_tokens(slot, now)) > 0:
        turnstile.reserve_place(slot, now)
        try:
            threading.Event().wait(wait_s)
        except BaseException:
            turnstile.withdraw(slot)
            raise
        finally:
            turnstile.release_place()
        now = call.clock.monotonic()
    if not turnstile.try_enter(slot, now):
        wait_in_thread(slot, turnstile, call.clock)
    return _begun(call, slot)


async def _run(call: Call, slot: Slot, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    token = ambient.enter_resource(call.resource.name)
    try:
        cutoff = Cutoff(slot, time_for_one_try(call, slot))
        try:
            if is_async(fn):
                value = await fn(*args, **kwargs)
            else:
                value = await _run_in_thread(call, slot, fn, args, kwargs)
        except BaseException as error:
            if cutoff.over(error):
                raise cut_error(call) from error
            raise
        cutoff.over(None)
        return value
    finally:
        ambient.leave_resource(token)


async def _run_in_thread(call: Call, slot: Slot, fn: Callable[..., Any], args: Args, kwargs: Kwargs) -> Any:
    _refuse_generator(fn)
    turnstile = call.turnstile
    context = contextvars.copy_context()

    def body() -> Any:
        try:
            if slot.state is not SlotState.HELD:
                return None  # given up before the thread came to it; nobody reads this
            return context.run(fn, *args, **kwargs)
        except StopIteration as stop:  # a future cannot carry it, and its caller would wait for ever
            raise RuntimeError("a guarded function raised StopIteration") from stop
        finally:
            turnstile.thread_over(slot)

    slot.thread_over = False
    try:
        future = asyncio.get_running_loop().run_in_executor(call.resource.threads(), body)
    except BaseException:
        slot.thread_over = True
        raise
    value = await asyncio.shield(future)
    if inspect.isawaitable(value):  # a plain function that made a coroutine, such as a lambda
        value = await value
    return value


def _refuse_generator(fn: Callable[..., Any]) -> None:
    """Calling it would only make the generator, and end the slot before anything is done."""
    code = getattr(inspect.unwrap(fn), "__code__", None)
    if code is not None and code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR):
        raise TypeError(
            f"{fn!r} makes a generator; decorate it with resource.guard, or hold a slot around its iteration"
        )


def _begun(call: Call, slot: Slot) -> Slot:
    try:
        call.begin(slot)
    except BaseException:  # whatever it is, nobody is going to use the slot
        call.turnstile.withdraw(slot)
        raise
    return slot


def is_async(fn: Callable[..., Any]) -> bool:
    """Whether calling ``fn`` makes a coroutine, looking through decorators that keep ``__wrapped__``."""
    code = getattr(fn, "__code__", None)
    if code is not None and code.co_flags & inspect.CO_COROUTINE:
        return True
    inner = inspect.unwrap(fn)
    while hasattr(inner, "func") and not hasattr(inner, "__code__"):  # functools.partial
        inner = inspect.unwrap(inner.func)
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__)
