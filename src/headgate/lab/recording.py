"""What every play with headgate needs around it: a folder for its store, and a hash over all that happened."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from headgate.observe.bus import Event

NOT_TOLD = frozenset({"owner"})
"""Fields of events that name the machine and the process."""

_SHARED_MEMORY = "/dev/shm"  # noqa: S108 - a private directory is made inside


@contextmanager
def store_folder(prefix: str) -> Iterator[Path]:
    """A folder that is gone afterwards, in memory if there is such a place: what is measured is virtual, and a slow
    disk would only cost real time."""
    memory = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix=prefix, dir=memory) as folder:
        yield Path(folder)


class EventLog:
    """A running hash over everything that the bus tells."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.count = 0

    def __call__(self, event: Event) -> None:
        # each event is told with its fields in one order, so they need no sorting; values are numbers and texts
        told = ", ".join([f"({key!r}, {value!r})" for key, value in event.fields.items() if key not in NOT_TOLD])
        self._hash.update(f"{event.name} {event.at_ms} [{told}]\n".encode())
        self.count += 1

    def hexdigest(self) -> str:
        return self._hash.hexdigest()
