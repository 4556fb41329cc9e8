"""What a workflow saw of its own run, remembered so that a resumed run sees the same at the same place.

What is left of a budget, or which warnings there are, differs from attempt to attempt. A workflow that writes it into
a prompt would otherwise make every call anew after a pause, because its arguments differ.

The place of a look is the last step that its own branch got an answer from, and how many looks there were since:
branches that run beside each other end their calls in another order when they are replayed, but each one goes its own
way again.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from headgate.model.canonical import decode
from headgate.runs.progress import Progress
from headgate.runs.values import to_json

LOOKS_AT_MOST = 100
"""Remembered looks of one kind between two calls of a branch. Later ones see what is so now: a loop that makes no
calls and waits for the time to run out must come to its end."""

_last_step: ContextVar[str] = ContextVar("headgate_last_step", default="")


def came_to(step: str) -> None:
    """This branch of the workflow has got the answer of that step (its key)."""
    _last_step.set(step)


def look(progress: Progress, kind: str, see: Callable[[], Any]) -> Any:
    """What ``see()`` gives, a JSON value; or what it gave at this place in an earlier attempt."""
    journal, after = progress.journal, _last_step.get()
    times = progress.looks.get((kind, after), 0)
    if times >= LOOKS_AT_MOST:
        return see()
    progress.looks[kind, after] = times + 1
    place = journal.fixed_place("run", kind, f"{after} {times}")
    known = journal.done(place.key)
    if known is not None and known.result is not None:
        return decode(known.result)
    seen = see()
    journal.choose(place, to_json(seen, what=kind), progress.equipment.clock.now_ms(), degraded=None)
    return seen
