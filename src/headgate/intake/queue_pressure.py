"""How full the queues of workflows are: each for its own workflow, and all together for the fleet.

A full queue says that its own workflow is behind. What others suffer from is what they share: the workers (seen in
the age of what waits), memory, the bound of the fleet. So a queue counts there only with its part of all the room.
"""

from __future__ import annotations

from collections.abc import Mapping

from headgate.config.settings import GateSettings, RunQueueSettings
from headgate.intake.in_force import InForce
from headgate.policy import pressure
from headgate.store.protocols import QueueState


class QueuePressure:
    """Followed about once a second."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._at_ms = 0
        self.own: Mapping[str, float] = {}
        """Workflow → how full its queue is, 0..1: up at once, down slowly."""
        self.shedding: frozenset[str] = frozenset()
        """Workflows whose own queue has their sheddable runs refused."""

    def fills(self, queues: tuple[QueueState, ...], in_force: InForce) -> Mapping[str, float]:
        """Workflow → part of its queue that is taken now, for those that somebody works on."""
        waiting = _waiting(queues, in_force)
        return {name: depth / self._room(name, in_force) for name, depth in waiting.items()}

    def fleet(self, queues: tuple[QueueState, ...], in_force: InForce, *, waiting_at_most: int | None) -> float:
        """Part of the room of all queues that is taken, or of what may wait in the fleet; the larger."""
        waiting = _waiting(queues, in_force)
        names = {name for name in self._settings.workflows if f"workflow:{name}" not in in_force.pauses}
        room = sum(self._room(name, in_force) for name in names | waiting.keys())
        parts = [sum(waiting.values()) / room] if room else []
        if waiting_at_most is not None:
            parts.append(sum(waiting.values()) / waiting_at_most)
        return pressure.part(parts)

    def follow(self, fills: Mapping[str, float], *, now_ms: int, shed_at: float) -> None:
        """After a look at the queues."""
        elapsed_s, self._at_ms = (now_ms - self._at_ms) / 1000, now_ms
        self.own = pressure.follow_each(self.own, fills, elapsed_s=elapsed_s)
        self.shedding = frozenset(
            name
            for name, level in self.own.items()
            if pressure.shedding(name in self.shedding, level, shed_at=shed_at)
        )

    def _room(self, workflow: str, in_force: InForce) -> int:
        settings = self._settings.workflows.get(workflow)
        return in_force.depth(workflow, (RunQueueSettings() if settings is None else settings.queue).depth)


def _waiting(queues: tuple[QueueState, ...], in_force: InForce) -> dict[str, int]:
    """Workflow → runs that wait, without those that are paused."""
    return {
        one.workflow: one.depth
        for one in queues
        if one.workflow and not one.tenant and f"workflow:{one.workflow}" not in in_force.pauses
    }
