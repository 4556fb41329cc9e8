"""What a caller may choose for its calls, and what it gets back from `Resource.perform`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, NamedTuple, TypeVar

T = TypeVar("T")


class _Unset:
    """Says that nothing was given, where ``None`` is something."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNSET"


UNSET = _Unset()


@dataclass(frozen=True, slots=True)
class CallOptions:
    """Choices for one call. They can only make a call stricter than its resource's settings."""

    timeout: float | None = None
    """Seconds that the call may run; the resource's own timeout and the ambient deadline bound it further."""
    max_wait: float | None = None
    """Seconds that it may wait for a slot, at most the queue's ``max_age``; 0 means now or not at all."""
    model_tokens: float | None = None
    """The caller's estimate of the model tokens this call takes."""
    size: int = 0
    """Bytes that the call's arguments hold while it waits, for the queue's bound."""
    retry: bool = True
    """Whether failures may be tried again."""
    once: bool = False
    """The call must not take effect twice: only refusals that certainly did not reach the dependency are retried."""
    fallback: str | Sequence[str] | Literal[False] | None = None
    """Resources that take over, in this order, instead of the configured ones; ``False`` for none."""
    fallback_value: Any = UNSET
    """The answer when no resource can give one."""
    fallback_fn: Callable[..., Any] | None = None
    """Makes that answer from the call's arguments, outside of any guard."""
    stale: bool = False
    """Whether the last good answer to the same question may stand in; good answers are kept then."""
    stale_for: float | None = None
    """How old it may be, in seconds; at most the resource's ``stale.max_age``."""
    healthy: Callable[[Any], bool] | None = None
    """Says whether an answer is usable; one that is not counts as a failure of the dependency."""


DEFAULTS = CallOptions()


_LEAST: Mapping[str, float | None] = {
    "timeout": None,
    "max_wait": 0,
    "model_tokens": None,
    "size": 0,
    "stale_for": None,
}
"""Numbers, with what may be reached; ``None`` means above zero."""


def check_options(chosen: Mapping[str, Any]) -> None:
    """Refuse options that make no sense, when they are given rather than when they are needed.

    Raises:
        ValueError: one of them does not; the message names it.
    """
    for name, value in chosen.items():
        if name in _LEAST:
            _check_number(name, value, _LEAST[name])
        elif name in ("retry", "once", "stale") and not isinstance(value, bool):
            raise ValueError(f"{name} is True or False, not {value!r}")
        elif name in ("fallback_fn", "healthy") and not callable(value):
            raise ValueError(f"{name} must be a function, not {value!r}")
        elif name == "fallback" and not _names(value):
            raise ValueError(f"fallback must be the name of a resource, a list of names, or False, not {value!r}")


def check_callable(fn: object) -> None:
    """Refuse what cannot be called.

    Raises:
        TypeError: a coroutine or something else was given where the function belongs.
    """
    if callable(fn):
        return
    if inspect.iscoroutine(fn):
        name = fn.__qualname__
        fn.close()
        raise TypeError(
            f"give the function and its arguments, not the coroutine: call({name}, x), not call({name}(x))"
        )
    raise TypeError(f"a guard needs a function, not {fn!r}")


def _names(value: object) -> bool:
    if value is False or isinstance(value, str):
        return True
    return isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)


def _check_number(name: str, value: object, least: float | None) -> None:
    number = value if isinstance(value, (int, float)) and not isinstance(value, bool) else math.nan
    if not (number > 0 if least is None else number >= least) or math.isinf(number):
        bound = "above 0" if least is None else f"of at least {least:g}"
        raise ValueError(f"{name} must be a number {bound}, not {value!r}")


class Performed(NamedTuple, Generic[T]):
    """A call that ended well, and what it took."""

    value: T
    queued_s: float
    """Seconds waited for slots, over all tries; waits between tries are not in it."""
    ran_s: float
    """Seconds in the call itself, over all tries."""
    tries: int
    """Calls made, on all resources."""
    degraded: str | None
    """What answered, if it was not the resource that was asked: ``resource:small``, ``stale``, ``computed`` or
    ``static``."""
    model_tokens: int
    """Reported usage over all tries; 0 where nothing was reported."""
