"""How long a submission waits by itself before it gives the refusal to its caller.

Decides: the next delay, or that waiting is over. A wait that would end after the patience does is not begun: the
caller learns at once what is true. Refusals that no wait changes are never repeated. A connection that failed is
tried again on a short backoff; the idempotency key makes that safe.
"""

from __future__ import annotations

from headgate.errors import Rejected

FIRST_S = 0.1
MOST_S = 2.0


class Patience:
    """``max_wait_s`` ≥ 0 seconds of waiting in all; 0 means the first answer is final."""

    def __init__(self, max_wait_s: float) -> None:
        if not max_wait_s >= 0:
            raise ValueError(f"max_wait_s must not be negative, got {max_wait_s!r}")
        self._left_s = max_wait_s
        self._failures = 0

    def after_refusal(self, refusal: Rejected) -> float | None:
        """Seconds to wait before asking again; ``None``: pass the refusal on."""
        if refusal.retry_after_s is None:
            return None
        return self._spend(refusal.retry_after_s)

    def after_broken_connection(self) -> float | None:
        """The same after a network failure."""
        self._failures += 1
        return self._spend(min(MOST_S, FIRST_S * 2 ** min(self._failures - 1, 10)))

    def _spend(self, delay_s: float) -> float | None:
        if delay_s > self._left_s or self._left_s <= 0:
            return None
        self._left_s -= delay_s
        return delay_s
