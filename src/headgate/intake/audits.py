"""The book of promised moments: when one comes, the same question is asked again, without storing anything."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from headgate.policy.retry_after import Honesty

BOOKED_AT_MOST = 1000
"""Promises that are waiting for their audit; further ones are not audited."""

Probe = Callable[[int], bool | None]
"""Whether the same request would be taken in at this moment (milliseconds); ``None``: that says nothing."""


class Audits:
    """Promises of one process. Which of many are audited is decided by when they were made, not by what they say."""

    def __init__(self) -> None:
        self._due: list[tuple[int, int, str, Probe]] = []
        self._number = 0
        self.honesty = Honesty()

    def book(self, scope: str, due_ms: int, probe: Probe) -> None:
        """Somebody was told to come back at ``due_ms``."""
        if len(self._due) < BOOKED_AT_MOST:
            self._number += 1
            heapq.heappush(self._due, (due_ms, self._number, scope, probe))

    def due(self, now_ms: int) -> Iterator[tuple[str, bool]]:
        """The scopes of promises whose moment has come, and whether each would have been kept."""
        while self._due and self._due[0][0] <= now_ms:
            _, _, scope, probe = heapq.heappop(self._due)
            kept = probe(now_ms)
            if kept is None:
                continue
            self.honesty = self.honesty.heard(kept)
            yield scope, kept
