"""A resource as users hold it: anything with limited capacity that calls need."""

from __future__ import annotations

import contextlib
import functools
import inspect
import random
import threading
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import TracebackType
from typing import Any, Literal, ParamSpec, TypeVar, overload

from headgate.clock import Clock
from headgate.config.settings import ResourceSettings
from headgate.config.units import Rate
from headgate.guard import guard, streams
from headgate.guard.call import Call
from headgate.guard.controls import Pause, check_end, override_of
from headgate.guard.cutoff import Cutoff
from headgate.guard.last_resort import StaleAnswers
from headgate.guard.options import DEFAULTS, UNSET, CallOptions, Performed, check_callable, check_options
from headgate.guard.slot import Slot, SlotState
from headgate.guard.statistics import ResourceStatistics, Standing, snapshot, standing
from headgate.guard.turnstile import Turnstile
from headgate.guard.waiting import running_loop

__all__ = ["Guarded", "Resource", "ResourceStatistics", "SlotContext"]

P = ParamSpec("P")
T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
C = TypeVar("C", bound=Callable[[Any], bool])

_THREADS_AT_MOST = 1000


class Guarded:
    """A resource with options: what calls can be made through."""

    def __init__(self, resource: Resource, options: CallOptions) -> None:
        self._resource = resource
        self._options = options

    @overload
    def call(self, fn: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...
    @overload
    def call(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, T]: ...
    def call(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Await ``fn(*args, **kwargs)`` under the resource's limits. A plain function runs in a thread.

        Raises:
            Overloaded: refused; see its ``reason`` and ``retry_after_s``.
            Expired: the ambient deadline passed during the call.
            TimeoutError: no answer within the timeout.
        """
        check_callable(fn)
        return guard.perform(Call(self._resource, self._options), fn, args, kwargs)

    def call_sync(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """As `call`, for plain threads: no event loop is needed.

        The timeout cannot stop a running function; a call that overran returns its value and counts as a timeout. In
        a thread that runs an event loop it never waits (that would stop the loop): it starts now or is refused, and
        nothing is retried.

        Raises:
            TypeError: ``fn`` is async.
        """
        check_callable(fn)
        if guard.is_async(fn):
            raise TypeError(
                f"{fn!r} is async and cannot be called from a plain thread; await resource.call(...) instead"
            )
        value: T = guard.perform_sync(self._sync_call(), fn, args, kwargs)
        return value

    async def perform(
        self,
        fn: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: CallOptions | None = None,
    ) -> Performed[Any]:
        """As `call`, with the account of what it took."""
        check_callable(fn)
        call = Call(self._resource, self._options if options is None else options)
        value = await guard.perform(call, fn, args, kwargs or {})
        return call.performed(value)

    def slot(self) -> SlotContext:
        """A slot for a block of code: ``async with`` (the timeout applies) or ``with`` (it only counts).

        A block is not repeated and does not fall back: it is the caller's own code.
        """
        return SlotContext(self._resource, self._options)

    def guard(self, fn: F) -> F:
        """Decorator: every call of ``fn`` goes through the resource; ``async def`` stays async, ``def`` stays plain.

        A generator, async or plain, holds its slot from its first item until it is exhausted, closed or thrown away.
        The timeout bounds the wait for each item of an async one, and only counts in a plain one. It is not repeated
        and does not fall back, because items have been given out; values cannot be sent into it.
        """
        check_callable(fn)
        wrapper: Callable[..., Any]
        if inspect.isasyncgenfunction(fn):

            @functools.wraps(fn)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                call = Call(self._resource, self._options)
                async with contextlib.aclosing(streams.stream(call, fn, args, kwargs)) as items:
                    async for item in items:
                        yield item
        elif inspect.isgeneratorfunction(fn):

            @functools.wraps(fn)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                with self.slot(), contextlib.closing(fn(*args, **kwargs)) as items:
                    yield from streams.steps(self._resource.name, items)
        elif guard.is_async(fn):

            @functools.wraps(fn)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                return await guard.perform(Call(self._resource, self._options), fn, args, kwargs)
        else:

            @functools.wraps(fn)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                return guard.perform_sync(self._sync_call(), fn, args, kwargs)

        return wrapper  # type: ignore[return-value]  # same signature, by functools.wraps

    def with_options(
        self,
        *,
        timeout: float | None = None,
        max_wait: float | None = None,
        model_tokens: float | None = None,
        size: int | None = None,
        retry: bool | None = None,
        once: bool | None = None,
        fallback: str | Sequence[str] | Literal[False] | None = None,
        fallback_value: Any = UNSET,
        fallback_fn: Callable[..., Any] | None = None,
        stale: bool | None = None,
        stale_for: float | None = None,
        healthy: Callable[[Any], bool] | None = None,
    ) -> Guarded:
        """A view of the resource whose calls use these options; what is not given stays. See `CallOptions`.

        Raises:
            ValueError: ``timeout``, ``model_tokens`` or ``stale_for`` is not a positive number, ``max_wait`` or
                ``size`` not one of at least 0, a switch not True or False, ``healthy`` or ``fallback_fn`` not
                callable, or ``fallback`` no name, list of names or False. Times are seconds, as numbers.
            UnknownResource: there is no such fallback.
        """
        given: dict[str, Any] = {
            "timeout": timeout,
            "max_wait": max_wait,
            "model_tokens": model_tokens,
            "size": size,
            "retry": retry,
            "once": once,
            "fallback": fallback,
            "fallback_fn": fallback_fn,
            "stale": True if stale is None and stale_for is not None else stale,
            "stale_for": stale_for,
            "healthy": healthy,
        }
        chosen = {name: value for name, value in given.items() if value is not None}
        check_options(chosen)
        for name in (fallback,) if isinstance(fallback, str) else fallback or ():
            self._resource.lookup(name)
        if fallback_value is not UNSET:
            chosen["fallback_value"] = fallback_value
        return Guarded(self._resource, replace(self._options, **chosen))

    def _sync_call(self) -> Call:
        return Call(self._resource, _for_thread(self._options))


class Resource(Guarded):
    """One tool, model or stage. Made by `headgate.guard.registry.Resources`; safe to use from anywhere."""

    def __init__(
        self,
        turnstile: Turnstile,
        settings: ResourceSettings,
        *,
        clock: Clock,
        rng: random.Random,
        lookup: Callable[[str], Resource],
    ) -> None:
        super().__init__(self, DEFAULTS)
        self.name = turnstile.name
        self.kind = turnstile.kind
        """``tool``, ``model`` or ``stage``."""
        self.scope = f"resource:{turnstile.name}"
        self.settings = settings
        self.timeout_s = settings.timeout
        self.fallbacks = settings.fallback
        self.stale = StaleAnswers(settings.stale)
        self.turnstile = turnstile
        self.clock = clock
        self.rng = rng
        self.lookup = lookup
        self.checks: tuple[Callable[[Any], bool], ...] = ()
        """What every answer has to pass; see `healthy`."""
        self._threads: ThreadPoolExecutor | None = None
        self._threads_lock = threading.Lock()

    def statistics(self) -> ResourceStatistics:
        """One consistent snapshot."""
        self.reap()
        return self.turnstile.picture(snapshot)

    def standing(self) -> Standing:
        """The part of `statistics` that is asked for several times a second, for less."""
        self.reap()
        return self.turnstile.picture(standing)

    def reap(self) -> None:
        """End the slots whose holders were thrown away while they held them."""
        if self.turnstile.abandoned:
            guard.reap(self.turnstile, self.clock.monotonic())

    def healthy(self, check: C) -> C:
        """Judge every answer of this resource by ``check(value)``; usable as a decorator.

        An answer that does not pass counts as a failure of the dependency: against the breaker, and worth a retry or
        the fallback. So a 200 with no content, however quick, is not taken for health. Several checks must all pass,
        and a call's own ``healthy`` option, too. A check that raises ends the call with its error.
        """
        self.checks = (*self.checks, check)
        return check

    # by hand; moments are seconds on the clock's monotonic scale

    def pause(self, reason: str, until: float | None = None) -> None:
        """Let no call start until that moment, or until `resume`. Calls in flight go on.

        Calls that come, and those in line, wait for `resume` as long as ``queue.max_age_down`` lets them; without
        that setting they are refused at once, as ``paused``. In shadow mode they are only counted.

        Raises:
            ValueError: ``until`` has passed.
        """
        now = self.clock.monotonic()
        check_end(until, now)
        pause = Pause(reason, now, until)
        self.turnstile.control(lambda controls, _: controls.pause(pause))

    def resume(self) -> None:
        """End a pause, if there is one."""
        self.turnstile.control(lambda controls, _: controls.pause(None))

    def override(
        self, limit: float | None = None, rate: Rate | None = None, *, reason: str, until: float | None = None
    ) -> None:
        """Use this limit (at least 1) or rate in place of the configured or learned one until that moment, or until
        `reset`. Calls in flight above a smaller limit go on; a limiter keeps learning underneath.

        Raises:
            ValueError: nothing is overridden, a number is out of range, or ``until`` has passed.
        """
        override = override_of(limit, rate, reason=reason, now=self.clock.monotonic(), until=until)
        self.turnstile.control(lambda controls, _: controls.override(override))

    def reset(self) -> None:
        """Go back to the configured and learned numbers."""
        self.turnstile.control(lambda controls, _: controls.override(None))

    def end_cooldown(self) -> None:
        """Let calls start again although the dependency asked for a pause (``statistics().cooldown``), if it did."""
        self.turnstile.control(lambda _, evidence: evidence.end_cooldown())

    def threads(self) -> ThreadPoolExecutor:
        """Threads for plain functions: as many as the limit can ever ask for, made when needed."""
        with self._threads_lock:
            if self._threads is None:
                workers = min(_THREADS_AT_MOST, self.settings.concurrency.most)
                self._threads = ThreadPoolExecutor(workers, thread_name_prefix=f"headgate-{self.name}")
            return self._threads

    def close(self) -> None:
        """Let the threads end once they are idle; running calls are not stopped."""
        with self._threads_lock:
            threads, self._threads = self._threads, None
        if threads is not None:
            threads.shutdown(wait=False)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"


class SlotContext:
    """One slot around a block of code. Used once. Ends exactly once, whatever is called."""

    __slots__ = ("_call", "_cutoff", "_options", "_resource", "_slot")

    def __init__(self, resource: Resource, options: CallOptions) -> None:
        self._resource = resource
        self._options = options
        self._call: Call | None = None
        self._slot: Slot | None = None
        self._cutoff: Cutoff | None = None

    def __del__(self) -> None:
        """A slot that was entered and thrown away comes back in the next turn of its event loop, or with the next
        call or look. Not at once: this may run at any moment, also while the resource's lock is held."""
        if self._call is not None and self._slot is not None and self._slot.state is SlotState.HELD:
            self._call.turnstile.abandoned.append(self._slot)
            if self._slot.task is not None:
                loop = self._slot.task.get_loop()
                if not loop.is_closed():
                    loop.call_soon_threadsafe(self._resource.reap)

    def result(self, value: Any) -> None:
        """The block got this answer: end the slot now with what it says (usage, status, headers)."""
        call, slot = self._entered()
        call.ended_with(slot, value)

    def failed(self, error: BaseException) -> None:
        """The dependency failed with this, though the block does not raise: end the slot now."""
        call, slot = self._entered()
        call.ended_by(slot, error)

    async def __aenter__(self) -> SlotContext:
        call = self._begin(self._options)
        self._slot = slot = await guard.acquire(call)
        try:
            self._cutoff = Cutoff(slot, call.limit_s)
        except BaseException:
            call.turnstile.withdraw(slot)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        call, slot = self._entered()
        timed_out = self._cutoff is not None and self._cutoff.over(error)
        if timed_out:
            cut = call.cut_error()
            call.ended_by(slot, cut)
            raise cut from error
        self._finish(call, slot, error)

    def __enter__(self) -> SlotContext:
        call = self._begin(_for_thread(self._options))
        self._slot = guard.acquire_sync(call)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        call, slot = self._entered()
        if isinstance(error, GeneratorExit) and call.turnstile.busy:
            # The collector may be closing a forgotten generator in the middle of this very thread's work there.
            call.turnstile.abandoned.append(slot)
            return
        self._finish(call, slot, error)

    def _begin(self, options: CallOptions) -> Call:
        if self._call is not None:
            raise RuntimeError("a slot can be entered only once; ask the resource for another")
        self._call = Call(self._resource, options)
        return self._call

    def _entered(self) -> tuple[Call, Slot]:
        if self._call is None or self._slot is None:
            raise RuntimeError("the slot is not held; enter it with `async with` or `with` first")
        return self._call, self._slot

    def _finish(self, call: Call, slot: Slot, error: BaseException | None) -> None:
        if error is None:
            call.ended_well(slot)
        else:
            call.ended_by(slot, error)


def _for_thread(options: CallOptions) -> CallOptions:
    """A blocking wait must not stop an event loop: there a plain caller starts now or is refused."""
    return replace(options, max_wait=0.0, retry=False) if running_loop() is not None else options
