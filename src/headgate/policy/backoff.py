"""How long to wait before a retry.

Decides: the delay before the next try. Source: exponential backoff with *full jitter* (Brooker, AWS Architecture
Blog, 2015); the server's hint is respected and clamped (botocore's retry mode 2.1 does the same).

Randomness comes in as a number, so the rule is arithmetic.
"""

from __future__ import annotations


def delay_s(retry: int, *, base_s: float, most_s: float, jitter: float, hint_s: float | None = None) -> float:
    """Seconds to wait before retry number ``retry`` (the first is 0).

    Full jitter: ``jitter`` (0..1, uniform) times ``base_s * 2**retry``, at most ``most_s``. A server's hint of
    ``hint_s`` seconds is the least; a hint beyond ``most_s`` is clamped to it, so that a caller who waits in place
    never waits longer.

    Raises:
        ValueError: a negative retry number, or jitter outside 0..1.
    """
    if retry < 0 or not 0.0 <= jitter <= 1.0:
        raise ValueError(f"retry must be >= 0 and jitter within 0..1, got {retry!r} and {jitter!r}")
    ceiling = min(most_s, base_s * 2.0 ** min(retry, 60))
    own = ceiling * jitter
    if hint_s is None or hint_s <= 0:
        return own
    return max(own, min(hint_s, most_s))
