"""How operations get from many callers to the one place that carries them out, in groups.

Two ways: a thread of its own (the service), or the event loop itself (virtual time, one process, repeatable).
Either is bounded: beyond `CAPACITY` waiting operations a new one is refused at once with `StoreError`.

A caller that is cancelled leaves its operation in the queue: it may still take effect, and its answer is dropped.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from headgate.errors import StoreError
from headgate.store.sqlite.connection import pause
from headgate.store.sqlite.group_commit import Answer

CAPACITY = 10_000
"""Operations that may wait."""
GROUP_AT_MOST = 500
"""Operations of one group: bounds how long the file is locked at a time."""

Operation = Callable[[Any], Any]
Carrier = Callable[[Sequence[Operation]], list[Answer]]


class Operations(Protocol):
    """A bounded queue of operations and whoever carries them out."""

    @property
    def waiting(self) -> int: ...

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        """Queue an operation; the future belongs to the running loop.

        Raises:
            StoreError: the queue is full, or the store is closed.
        """
        ...

    async def close(self) -> None:
        """Carry out what waits, refuse the rest. Idempotent."""
        ...


def _refusal(waiting: int) -> StoreError:
    return StoreError(f"the store has {waiting} operations waiting and takes no more now")


def _closed() -> StoreError:
    return StoreError("the store is closed")


def _tell(answers: Sequence[tuple[asyncio.Future[Any], Answer]]) -> None:
    for future, (value, error) in answers:
        if future.done():  # its caller was cancelled
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


class ThreadOperations:
    """Carried out by one thread; callers may be on any number of event loops and threads."""

    def __init__(self, name: str, carry_out: Carrier, *, yield_after: Callable[[], bool] = bool) -> None:
        self._carry_out = carry_out
        self._yield_after = yield_after
        self._queue: deque[tuple[Operation, asyncio.AbstractEventLoop, asyncio.Future[Any]]] = deque()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._idle = False
        self._closing = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        with self._lock:
            if self._closing:
                raise _closed()
            if len(self._queue) >= CAPACITY:
                raise _refusal(len(self._queue))
            self._queue.append((operation, loop, future))
        if self._idle:
            self._wake.set()
        return future

    async def close(self) -> None:
        with self._lock:
            self._closing = True
        self._wake.set()
        await asyncio.to_thread(self._thread.join)

    def _work(self) -> None:
        while True:
            # `_idle` goes up before the queue is looked at, so a submit either is seen here or sees it.
            self._idle = True
            closing = self._closing  # before the queue: what came in ahead of the end must be found in it
            if not self._queue:
                if closing:
                    return
                self._wake.wait()
            self._idle = False
            self._wake.clear()
            group = [self._queue.popleft() for _ in range(min(len(self._queue), GROUP_AT_MOST))]
            if not group:
                continue
            answers = self._carry_out([operation for operation, _, _ in group])
            self._answer(group, answers)
            if self._yield_after():
                pause(0.001)

    def _answer(
        self,
        group: Sequence[tuple[Operation, asyncio.AbstractEventLoop, asyncio.Future[Any]]],
        answers: Sequence[Answer],
    ) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Any], Answer]]] = {}
        for (_, loop, future), answer in zip(group, answers, strict=True):
            by_loop.setdefault(loop, []).append((future, answer))
        for loop, told in by_loop.items():
            with suppress(RuntimeError):  # the loop is closed: nobody is left there to be told
                loop.call_soon_threadsafe(_tell, told)


class InlineOperations:
    """Carried out on the event loop that opened the store, all that were queued in one turn of it together."""

    def __init__(self, carry_out: Carrier) -> None:
        self._carry_out = carry_out
        self._loop = asyncio.get_running_loop()
        self._queue: deque[tuple[Operation, asyncio.Future[Any]]] = deque()
        self._planned = False
        self._closed = False

    @property
    def waiting(self) -> int:
        return len(self._queue)

    def submit(self, operation: Operation) -> asyncio.Future[Any]:
        if self._closed:
            raise _closed()
        if asyncio.get_running_loop() is not self._loop:
            raise StoreError("a store opened inline belongs to the event loop that opened it")
        if len(self._queue) >= CAPACITY:
            raise _refusal(len(self._queue))
        future = self._loop.create_future()
        self._queue.append((operation, future))
        if not self._planned:
            self._planned = True
            self._loop.call_soon(self._flush)
        return future

    async def close(self) -> None:
        self._closed = True
        self._flush()

    def _flush(self) -> None:
        self._planned = False
        while self._queue:
            group = [self._queue.popleft() for _ in range(min(len(self._queue), GROUP_AT_MOST))]
            answers = self._carry_out([operation for operation, _ in group])
            _tell([(future, answer) for (_, future), answer in zip(group, answers, strict=True)])
