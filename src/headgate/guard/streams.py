"""Generators under a guard: the slot is held to the end of the stream, whoever ends it.

The timeout, and the name of the resource, apply while the generator works, not while its consumer does: between two
items the task belongs to the consumer, and cancelling it there would hit something else.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Any

from headgate.guard import ambient, guard
from headgate.guard.call import Call
from headgate.guard.cutoff import Cutoff
from headgate.guard.slot import Slot

_END = object()


async def stream(
    call: Call, fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> AsyncGenerator[Any, None]:
    """The items of the async generator ``fn(*args, **kwargs)``.

    Raises:
        Overloaded: refused; nothing was begun.
        Expired: the deadline passed during the wait for an item.
        TimeoutError: no further item within the timeout.
    """
    slot = await guard.acquire(call)
    try:
        items = fn(*args, **kwargs)
        try:
            while (item := await _next(call, slot, items)) is not _END:
                yield item
        finally:
            await items.aclose()
    except BaseException as error:
        call.ended_by(slot, error)
        raise
    call.ended_well(slot)


async def _next(call: Call, slot: Slot, items: Any) -> Any:
    call.set_limit()
    token = ambient.enter_resource(call.resource.name)
    try:
        cutoff = Cutoff(slot, call.limit_s)
        try:
            item = await anext(items, _END)
        except BaseException as error:
            if cutoff.over(error):
                raise call.cut_error() from error
            raise
        cutoff.over(None)
        return item
    finally:
        ambient.leave_resource(token)


def steps(name: str, items: Iterator[Any]) -> Iterator[Any]:
    """The items of a plain generator, each made under the name of the resource."""
    while True:
        token = ambient.enter_resource(name)
        try:
            item = next(items, _END)
        finally:
            ambient.leave_resource(token)
        if item is _END:
            return
        yield item
