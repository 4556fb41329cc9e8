"""The ceiling of running time: an attempt that reaches it ends, unless somebody has raised it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from headgate.errors import BudgetExhausted, StoreError
from headgate.runs.attempt import GRACE_S, Attempt, Stop
from headgate.runs.budget import follow_raise
from headgate.store.protocols import Runs

LOOK_S = 0.25
"""How often a run past its running time is looked at until its calls have ended."""
LEAST_S = 0.001
"""Less than this is what sums of seconds are off by."""


class RunningTime:
    """Watches the attempts of one worker. Runs without such a ceiling cost nothing."""

    def __init__(
        self,
        runs: Runs,
        *,
        fails: Callable[[Attempt], bool],
        abandon: Callable[[Attempt], None],
        spawn: Callable[[Coroutine[Any, Any, None]], None],
    ) -> None:
        """``fails`` says whether reaching the ceiling ends the run; ``abandon`` concludes an attempt that does not
        end when cancelled; ``spawn`` runs something beside."""
        self._runs, self._fails, self._abandon, self._spawn = runs, fails, abandon, spawn

    def watch(self, attempt: Attempt) -> None:
        """Watch an attempt that begins, until it has ended."""
        left_s = _left_s(attempt)
        if left_s is not None:
            loop = asyncio.get_running_loop()
            attempt.wall_timer = loop.call_later(left_s, lambda: self._spawn(self._look(attempt)))

    async def _look(self, attempt: Attempt) -> None:
        try:
            await follow_raise(attempt, self._runs)
            left_s = _left_s(attempt) or 0.0
        except StoreError:  # a pause asks the store again; to fail without having asked is worse than to wait
            left_s = LOOK_S if self._fails(attempt) else 0.0
        if attempt.ended:
            return
        if left_s > LEAST_S:
            loop = asyncio.get_running_loop()
            attempt.wall_timer = loop.call_later(left_s, lambda: self._spawn(self._look(attempt)))
        else:
            self._over(attempt)

    def _over(self, attempt: Attempt) -> None:
        """Its running time is used up. Calls under way end first; what only waits or computes is cancelled."""
        wall_s = attempt.meter.ceiling.wall_s
        if attempt.ended or wall_s is None or attempt.task is None:
            return
        ceiling = BudgetExhausted("seconds of running time", limit=wall_s, used=attempt.wall_ms / 1000)
        attempt.reach(ceiling, fails=self._fails(attempt))
        loop = asyncio.get_running_loop()
        if attempt.performing:
            attempt.wall_timer = loop.call_later(LOOK_S, self._over, attempt)
        elif attempt.stop is Stop.BUDGET and attempt.grace is None:
            attempt.signalled = True
            attempt.task.cancel()
            attempt.grace = loop.call_later(GRACE_S, self._abandon, attempt)


def _left_s(attempt: Attempt) -> float | None:
    """Seconds of running time that are left, at least 0; ``None`` without a ceiling."""
    wall_s = attempt.meter.ceiling.wall_s
    return None if wall_s is None else max(0.0, wall_s - attempt.meter.used_wall_s - attempt.ran_s)
