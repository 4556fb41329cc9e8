"""The part of a store that keeps dead letters for people: to look at, replay, dismiss and purge.

The semantics at the top of `headgate.store.protocols` hold here as well. A dead letter is *resolved* once a replay of
its lineage has succeeded (written in the transaction that ends the replay), or once somebody dismissed it. Resolved
ones count as dead letters no longer, and are pruned like succeeded runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from headgate.model.run import RunRecord


@dataclass(frozen=True, slots=True)
class DeadFilter:
    """Which dead letters. Empty means all."""

    tenant: str | None = None
    workflow: str | None = None
    lane: str | None = None
    reasons: tuple[str, ...] = ()
    ended_before_ms: int | None = None
    ended_from_ms: int | None = None
    ids: tuple[str, ...] = ()
    stale: bool = True
    """Also those that expired because they were too old to matter (all that expired but the shed)."""
    resolved: bool = False
    """Also those that need nobody any more."""
    oldest_first: bool = False
    beyond: str | None = None
    """The id to continue after."""
    limit: int = 50


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """A worker let go of a run without success, or it ended otherwise."""

    at_ms: int
    term: int
    """Which start it was; 0: never started."""
    owner: str | None
    state: str
    """What the run became."""
    reason: str | None
    detail: str | None


@dataclass(frozen=True, slots=True)
class DeadChange:
    """A line of the record of what people did with dead letters."""

    at_ms: int
    action: str
    """``dismiss`` or ``purge``."""
    run_id: str
    workflow: str
    tenant: str
    cause: str | None
    """The reason with which the run had ended."""
    done_by: str
    why: str


class DeadLetters(Protocol):
    """Dead letters, as people deal with them. `Admissions.admit` replays them."""

    async def page(self, wanted: DeadFilter) -> list[RunRecord]:
        """At most ``wanted.limit`` of them (1000 at the most), by id."""
        ...

    async def history(self, run_id: str) -> list[HistoryLine]:
        """What became of its attempts, oldest first; at most the last 50 lines."""
        ...

    async def replays(self, origin_id: str) -> list[RunRecord]:
        """Every replay of the lineage, oldest first, at most 100."""
        ...

    async def dismiss(self, run_id: str, *, tenant: str | None, by: str, why: str, now_ms: int) -> bool:
        """Take it off the list; it stays readable and can be replayed. ``False``: it is no unresolved dead letter of
        this tenant."""
        ...

    async def purge(self, run_id: str, *, tenant: str | None, by: str, why: str, now_ms: int) -> bool:
        """Delete it with its input, steps and history. ``False``: it is no dead letter of this tenant, or a replay
        of its lineage is unfinished and may need its steps."""
        ...

    async def changes(self, *, tenant: str | None, limit: int) -> list[DeadChange]:
        """Who dismissed and purged what, newest first. Kept for 90 days and at most 10,000 lines."""
        ...
