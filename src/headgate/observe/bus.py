"""Where things that happen are told. The catalogue of what can be told is `headgate.observe.events`.

Telling is synchronous and cheap; subscribers must not block or raise (one that raises is logged and dropped).
Dropping every subscriber changes nothing about what headgate does: control never travels this way.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from headgate.clock import Clock

log = logging.getLogger("headgate.observe")


class Event(NamedTuple):
    """One thing that happened. ``name`` is a key of the catalogue, ``fields`` are what it lists."""

    name: str
    at_ms: int
    fields: Mapping[str, Any]


Subscriber = Callable[[Event], None]


class EventBus:
    """Tells subscribers, in the order in which they came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._subscribers: tuple[Subscriber, ...] = ()
        self.active = False
        """Whether anybody listens; lets hot paths skip building an event. To read only."""

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Listen from now on; the returned function ends it."""
        self._subscribers = (*self._subscribers, subscriber)
        self.active = True
        return lambda: self._drop(subscriber)

    def emit(self, name: str, **fields: Any) -> None:
        """Tell that ``name`` happened."""
        subscribers = self._subscribers
        if not subscribers:
            return
        event = Event(name, self._clock.now_ms(), fields)
        for subscriber in subscribers:
            try:
                subscriber(event)
            except Exception:  # a subscriber is somebody else's code and must not stop the work
                log.exception("a subscriber failed on %s and was dropped", name)
                self._drop(subscriber)

    def _drop(self, subscriber: Subscriber) -> None:
        self._subscribers = tuple(one for one in self._subscribers if one is not subscriber)
        self.active = bool(self._subscribers)
