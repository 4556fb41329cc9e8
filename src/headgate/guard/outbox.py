"""What is to be done once a resource's lock is released: wake callers, tell events.

Filled under the lock, delivered without it, because a wakened caller and a subscriber may come straight back.
"""

from __future__ import annotations

from collections.abc import Callable

from headgate.guard.evidence import EventNote
from headgate.guard.narration import Narration
from headgate.guard.slot import Slot, SlotState

Pending = tuple[list[Slot], list[EventNote]]


class Outbox:
    """The slots to be reached and the notes to be told."""

    __slots__ = ("_narration", "_withdraw", "wakes")

    def __init__(self, narration: Narration, withdraw: Callable[[Slot], None]) -> None:
        self._narration = narration
        self.wakes: list[Slot] = []
        """Who is to be reached."""
        self._withdraw = withdraw

    def reach(self, slot: Slot) -> None:
        """The slot's state or its next moment has changed."""
        if slot.waker is not None:
            self.wakes.append(slot)

    def collect(self) -> Pending:
        """What is to be done; called last under the lock."""
        pending = (self.wakes, self._narration.notes)
        self.wakes, self._narration.notes = [], []
        return pending

    def deliver(self, pending: Pending) -> None:
        """Do it; no lock is held."""
        wakes, notes = pending
        for slot in wakes:
            waker = slot.waker
            if waker is None:
                continue
            reached = waker.nudge() if slot.state is SlotState.WAITING else waker.wake()
            if not reached:  # its event loop is closed: nobody will ever use the slot
                self._withdraw(slot)
        self._narration.tell(notes)
