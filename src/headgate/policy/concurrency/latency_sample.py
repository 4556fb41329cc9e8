"""What a group of calls says about latency before all of them have ended.

The log of latency by size is taken as normal. Calls that have not ended, or timed out, are known to be at
least as slow as they are old; leaving them out would make every group look fast whose slow half is still running.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

_ROOT = math.sqrt(0.5)
_FAR = 3.0
"""Values further than this many spreads away count as that far: one wild value does not move the mean much."""
_ROUNDS = 12


def log_ratio(age_s: float, size: float) -> float:
    """The log of latency (or age) by size."""
    return math.log(max(age_s, 1e-6) / size)


def overdue(z: float) -> float:
    """Minus the log of the chance that a normal value exceeds ``z``: the hazard a call has lived through."""
    if z < 8:
        return -math.log(0.5 * math.erfc(z * _ROOT))
    return 0.5 * z * z + math.log(z) + 0.919


def censored_mean(ended: Sequence[float], at_least: Sequence[float], spread: float) -> tuple[float, float]:
    """Mean and spread of normal values, some of which are only known to be ``at_least`` so large.

    Expectation maximisation with a known ``spread`` for the unknown parts (Dempster, Laird and Rubin, 1977), and
    values pulled in to three spreads (Huber). ``ended`` is not empty.
    """
    count = len(ended) + len(at_least)
    mean, squares, shift = sum(ended) / len(ended), 0.0, 0.0
    for _ in range(_ROUNDS):
        shift = squares = 0.0
        for x in ended:
            off = max(-_FAR * spread, min(_FAR * spread, x - mean))
            shift += off
            squares += off * off
        for least in at_least:
            z = (least - mean) / spread
            if z > _FAR:
                shift += _FAR * spread
                squares += (_FAR * spread) ** 2
                continue
            hazard = math.exp(-0.5 * z * z) / (math.sqrt(2 * math.pi) * 0.5 * math.erfc(z * _ROOT))
            shift += spread * hazard
            squares += spread * spread * (1 + z * hazard)
        shift /= count
        mean += shift
        if abs(shift) < 0.01:
            break
    return mean, math.sqrt(max(1e-4, squares / count - shift * shift))
