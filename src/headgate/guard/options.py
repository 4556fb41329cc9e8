"""What a caller may choose for its calls, and what it gets back from `Resource.perform`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
