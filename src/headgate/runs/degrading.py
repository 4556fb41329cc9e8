"""The degrade ladders of all workflows at the pressure of the moment. One per worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from headgate.config.settings import WorkflowSettings
from headgate.policy import degrade


class Ladder:
    """One workflow's ladder: how many rungs are taken, remembered for the hysteresis."""

    __slots__ = ("_pressure", "_rungs", "_taken", "_whole", "knobs", "skippable")

    def __init__(self, rungs: tuple[degrade.Rung, ...], pressure: Callable[[], float]) -> None:
        self._rungs = degrade.in_order(rungs)
        self._pressure = pressure
        self._taken = 0
        self._whole = degrade.add_up(self._rungs, len(self._rungs))
        self.knobs = frozenset(self._whole.knobs)
        """Knobs that some rung changes; the others always have their default."""
        self.skippable = self._whole.skip

    def active(self, *, whole: bool) -> degrade.Active:
        """What holds now; ``whole``: for a run that was admitted on the cheaper path."""
        if not self._rungs:
            return degrade.NOTHING
        if whole:
            return self._whole
        self._taken = degrade.rungs_taken(self._rungs, self._pressure(), before=self._taken)
        return degrade.add_up(self._rungs, self._taken)


class Ladders:
    """Ladders by workflow."""

    def __init__(self, workflows: Mapping[str, WorkflowSettings], pressure: Callable[[], float]) -> None:
        self.pressure = pressure
        self._ladders = {name: Ladder(one.degrade, pressure) for name, one in workflows.items()}
        self._none = Ladder((), pressure)

    def of(self, workflow: str) -> Ladder:
        """That workflow's ladder, which may be empty."""
        return self._ladders.get(workflow, self._none)
