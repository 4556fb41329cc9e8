"""What is answered when neither a resource nor its fallbacks can: the last good answer, or one that the caller gave.

None of it touches the dependency. `Performed.degraded` says which: ``stale``, ``computed``, ``static``.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, NamedTuple

from headgate.config.settings import StaleSettings
from headgate.errors import StepNotSerializable
from headgate.guard.ambient import Ambient
from headgate.guard.options import UNSET, CallOptions
from headgate.model.canonical import digest, encode

Key = tuple[Hashable, ...]


class Offer(NamedTuple):
    """An answer in place of the dependency's, not made yet."""

    degraded: str
    make: Callable[[], Any]
    """May raise, and may give an awaitable."""


class StaleAnswers:
    """The last good answer by function, arguments, tenant and user: bounded, oldest use forgotten first.

    Only arguments with a JSON form are known again, and only where the very same function is called; a lambda or a
    partial that is made anew each time never matches. Answers are kept and given out as they are, uncopied.
    """

    __slots__ = ("_answers", "_keep", "_lock", "_max_age_s")

    def __init__(self, settings: StaleSettings) -> None:
        self._keep = settings.keep
        self._max_age_s = settings.max_age
        self._lock = threading.Lock()
        self._answers: OrderedDict[Key, tuple[float, Any]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._answers)

    def put(self, key: Key, value: Any, now: float) -> None:
        """Remember a good answer."""
        with self._lock:
            self._answers[key] = now, value
            self._answers.move_to_end(key)
            if len(self._answers) > self._keep:
                self._answers.popitem(last=False)

    def get(self, key: Key, now: float, *, max_age_s: float | None) -> Offer | None:
        """The answer, if there is one that is young enough."""
        most_s = self._max_age_s if max_age_s is None else min(max_age_s, self._max_age_s)
        with self._lock:
            found = self._answers.get(key)
        if found is None or now - found[0] > most_s:
            return None
        value = found[1]
        return Offer("stale", lambda: value)


def key_of(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], whose: Ambient) -> Key | None:
    """What an answer is remembered under; ``None`` when the call cannot be known again."""
    try:
        key: Key = (fn, whose.tenant, whose.user, digest(encode([list(args), dict(kwargs)])))
        hash(key)
    except (StepNotSerializable, TypeError):
        return None
    return key


def offered(options: CallOptions) -> bool:
    """Whether the caller gave or allowed any such answer."""
    return options.stale or options.fallback_fn is not None or options.fallback_value is not UNSET


def own_offers(options: CallOptions, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[Offer]:
    """The caller's answers: computed before static."""
    offers = []
    if (compute := options.fallback_fn) is not None:
        offers.append(Offer("computed", lambda: compute(*args, **kwargs)))
    if (static := options.fallback_value) is not UNSET:
        offers.append(Offer("static", lambda: static))
    return offers
