"""How long one try may run, and what ends it then."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from headgate.guard.slot import Slot
from headgate.guard.timer_wheel import wheel_of
from headgate.policy.second_chance import NO_MORE_HERE, most_s

if TYPE_CHECKING:
    from headgate.guard.call import Call

EVIDENCE_LEAST = 8
"""Latencies that must be known before a call is given up as hanging."""


def time_for_one_try(call: Call, slot: Slot) -> float:
    """Seconds that the try which has just begun may run. One that something else could answer in its place is cut
    while there is time left for that. A probe has nothing to go by, and little hope."""
    deadline = call.whose.deadline
    if deadline is None or call.options.once or not call.next_names():
        return call.limit_s
    slow_s = 0.0 if slot.probe else call.turnstile.usual_s(None, least=EVIDENCE_LEAST)
    if slow_s is not None:
        longest_s = most_s(left_s=deadline - call.clock.monotonic(), slow_s=slow_s)
        if longest_s < call.limit_s:
            call.limit_s, call.limited_by_deadline = longest_s, False
    return call.limit_s


def cut_error(call: Call) -> Exception:
    """What becomes of a try that was cut. Where the time ended that `time_for_one_try` gave it, there is none further
    on the same resource."""
    own_s = call.options.timeout
    given_s = call.resource.timeout_s if own_s is None else min(own_s, call.resource.timeout_s)
    if call.limit_s < given_s and not call.limited_by_deadline:
        call.tries_here = NO_MORE_HERE
    return call.cut_error()


class Cutoff:
    """Cancels the task that holds a slot when the slot's time is up, on the loop's shared timer.

    Keeps the rules of `asyncio.timeout`: the cancellation is taken back if it was ours alone, so one that came from
    outside at the same time is not swallowed.
    """

    __slots__ = ("_slot", "_tick", "_wheel")

    def __init__(self, slot: Slot, limit_s: float) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a guarded call needs a running asyncio task")
        self._slot = slot
        slot.task = task
        slot.cancelling = task.cancelling()
        self._wheel = wheel_of(task.get_loop())
        self._tick = self._wheel.add(limit_s, slot)

    def over(self, error: BaseException | None) -> bool:
        """The call is over; ``True`` when ``error`` is our own cancellation and stands for a timeout."""
        slot = self._slot
        self._wheel.remove(self._tick, slot)
        task, slot.task = slot.task, None
        if not slot.cut or task is None:
            return False
        return task.uncancel() <= slot.cancelling and isinstance(error, asyncio.CancelledError)
