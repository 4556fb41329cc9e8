"""What a caller was told when a run came in, kept with the run so that its end can be compared with it."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

_WIDTH = 7


class Promise(NamedTuple):
    """Milliseconds from submission. ``expected_*`` are the forecast as computed, the others what was told."""

    expected_start: float
    expected_finish: float
    start_p50: float
    start_p90: float
    finish_p50: float
    finish_p90: float
    waited: bool
    """Whether others were ahead of it: waits and work err differently."""

    def text(self) -> str:
        """As it is stored: a short JSON list."""
        return json.dumps([*(round(value) for value in self[:-1]), int(self.waited)], separators=(",", ":"))


def read_promise(text: str | None) -> Promise | None:
    """A stored promise; ``None`` where there is none, or something else."""
    if text is None:
        return None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, list) or len(values) != _WIDTH:
        return None
    if not all(isinstance(value, (int, float)) and math.isfinite(value) for value in values):
        return None
    start, finish, *told = (max(0.0, float(value)) for value in values[:-1])
    return Promise(start, finish, told[0], told[1], told[2], told[3], bool(values[-1]))
