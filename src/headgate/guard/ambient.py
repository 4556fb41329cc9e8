"""Whose call this is: the run, tenant, lane and deadline that travel with the code, in a context variable."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, ContextDecorator
from contextvars import ContextVar, Token
from dataclasses import dataclass, fields

_NUMBERS = (
    ("rank", -math.inf, math.inf),
    ("deadline", -math.inf, math.inf),
    ("remaining_s", 0.0, math.inf),
    ("progress", 0.0, 1.0),
)


@dataclass(frozen=True, slots=True)
class Ambient:
    """The circumstances of the calls made here."""

    tenant: str = "default"
    user: str | None = None
    lane: str = "standard"
    rank: int = 100
    """Smaller goes first in a resource's queue (the lane's place in the file)."""
    workflow: str = ""
    run_id: str = ""
    idempotency_key: str | None = None
    """Offered to the callee: equal at every attempt of the same step."""
    deadline: float | None = None
    """On the clock's monotonic scale, in seconds; carried into every call."""
    remaining_s: float | None = None
    """Median estimate of the work that the run has left, its next call included, in seconds. A call whose deadline
    comes sooner is not started."""
    progress: float | None = None
    """How much of the run is done, in 0..1; nearly finished runs go first."""

    def __post_init__(self) -> None:
        """
        Raises:
            TypeError: a field is no text; the message names it.
            ValueError: a number makes no sense.
        """
        for name in ("tenant", "lane", "workflow", "run_id"):
            if not isinstance(getattr(self, name), str):
                raise TypeError(f"{name} must be a text, not {getattr(self, name)!r}")
        for name, least, most in _NUMBERS:
            value = getattr(self, name)
            if value is None and name != "rank":
                continue
            if not isinstance(value, (int, float)) or isinstance(value, bool) or not least <= value <= most:
                raise ValueError(f"{name} must be a number from {least:g} to {most:g}, not {value!r}")


_FIELDS = tuple((Ambient.__dict__[one.name].__set__, Ambient.__dict__[one.name].__get__) for one in fields(Ambient))
_SET_KEY, _SET_REMAINING, _SET_PROGRESS = (
    Ambient.__dict__[name].__set__ for name in ("idempotency_key", "remaining_s", "progress")
)
NOBODY = Ambient()


def at_step(whose: Ambient, key: str, *, remaining_s: float | None, progress: float | None) -> Ambient:
    """The same circumstances for one step of the run. What they get are our own numbers, which need no check."""
    twin: Ambient = object.__new__(Ambient)
    for set_field, get_field in _FIELDS:
        set_field(twin, get_field(whose, Ambient))
    _SET_KEY(twin, key)
    _SET_REMAINING(twin, remaining_s)
    _SET_PROGRESS(twin, progress)
    return twin


_current: ContextVar[Ambient] = ContextVar("headgate_ambient", default=NOBODY)


current: Callable[[], Ambient] = _current.get
"""The circumstances in force here."""


def idempotency_key() -> str | None:
    """The key to offer to the callee (for example as an ``Idempotency-Key`` header): the same at every attempt of
    the same step, also after a crash or a replay. ``None`` outside a run's steps."""
    return _current.get().idempotency_key


class _Inside(ContextDecorator):
    """What `ambient` gives; a generator would cost three times as much around every step."""

    def __init__(self, circumstances: Ambient) -> None:
        self._circumstances = circumstances
        self._token: Token[Ambient] | None = None

    def _recreate_cm(self) -> _Inside:
        return _Inside(self._circumstances)

    def __enter__(self) -> Ambient:
        if self._token is not None:
            raise RuntimeError("circumstances are entered once; ask for them anew")
        self._token = _current.set(self._circumstances)
        return self._circumstances

    def __exit__(self, *_: object) -> None:
        if self._token is not None:
            _current.reset(self._token)


def ambient(circumstances: Ambient) -> AbstractContextManager[Ambient]:
    """Make these the circumstances of everything inside."""
    return _Inside(circumstances)


_resource: ContextVar[str | None] = ContextVar("headgate_resource", default=None)


def current_resource() -> str | None:
    """The name of the resource whose guard runs the code here, or ``None`` outside any guard.

    After a fallback it is the fallback's name, so that a function can pick the model it was meant to call.
    """
    return _resource.get()


enter_resource: Callable[[str], Token[str | None]] = _resource.set
"""Say that the code from here on runs under that resource's guard; undo it with `leave_resource`."""
leave_resource: Callable[[Token[str | None]], None] = _resource.reset
"""Undo `enter_resource`."""
