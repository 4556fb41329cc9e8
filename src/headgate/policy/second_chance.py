"""When is a call that hangs given up, so that something else can still answer in its place?

Decides: how long one try of a call with a deadline may run where a fallback is left.

Source: splitting a deadline between a first try and what comes after it, as hedged requests and the per-try
timeouts of proxies do (Dean and Barroso, The Tail at Scale, 2013).

Rule: half of the time that is left until the deadline, but never less than three times what all but one in twenty
calls take; of the probe of an opened breaker, half. While too few calls have ended well to tell, nothing is cut but
probes. The cut call counts as a timeout of its resource and is not repeated there.

Invariants: the time is positive; it never falls when more is left; a call of ordinary length is not cut, unless it
is a probe.

Trade-off: a rare call that is three times as long as its likes, and takes more than half of the time left, is
thrown away although it might have ended in time.
"""

from __future__ import annotations

HANGS = 3.0
"""Times the p95 of calls that ended well; below that a call is only slow."""
FIRST_PART = 0.5
"""Of the time left, for the first try."""
NO_MORE_HERE = 1_000_000
"""As many tries as leave none on the same resource."""


def most_s(*, left_s: float, slow_s: float) -> float:
    """Seconds that a try may run with ``left_s`` until its deadline, on a resource that mostly takes less than
    ``slow_s`` ≥ 0."""
    return max(HANGS * slow_s, FIRST_PART * left_s)
