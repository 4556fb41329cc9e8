"""Sub-runs of one attempt: spawned as remembered steps, accounted for in its budget, waited for without a slot.

Spawning is one transaction of the store: the sub-run is admitted and the parent's step names it, or neither. Waiting
suspends the parent in the store, after its other branches came to rest, with everything that any branch waits for;
the transaction that ends the last sub-run of a branch wakes it. What became of a sub-run never changes again, so a
resumed parent finds the same answers at the same places.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from headgate.errors import ChildFailed
from headgate.model.decision import Admission, Refusal
from headgate.model.reason import Reason
from headgate.model.run import RunRecord
from headgate.policy.run_budget import Below, Ceiling
from headgate.runs.attempt import AttemptStopped, Stop
from headgate.runs.letting_go import LOOK_AGAIN_MS
from headgate.store.protocols import Child, Spawn

if TYPE_CHECKING:
    from headgate.runs.progress import Progress

SPAWN = "spawn"
"""The function of the step that remembers a sub-run."""


@dataclass(frozen=True, slots=True)
class ChildRequest:
    """A sub-run that a workflow asks for, as the door of this process sees it."""

    workflow: str
    input_text: str
    tenant: str
    user: str | None
    lane: str | None
    deadline_ms: int | None
    latest_ms: int | None
    """The parent's deadline, which an attached sub-run never outlives."""
    grant: Ceiling
    spawn: Spawn


class Door(Protocol):
    """Takes sub-runs in like any other run. The gate has it."""

    async def __call__(self, request: ChildRequest, /) -> Admission | Refusal: ...


class Children:
    """What one attempt knows of its sub-runs."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._attempt, self._store = progress.attempt, progress.equipment.store
        self._own: dict[str, Child] = {}
        """As of the last look."""
        self._grants: dict[str, Ceiling] = {}
        """What was promised since, by sub-run, or by step while it is being asked for."""
        self._ended: set[str] = set()
        self._waits: dict[int, tuple[tuple[str, ...], ...]] = {}
        self._next_wait = 0

    # -- what they take -----------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Read how the sub-runs stand, and charge what they may use or used."""
        found = await self._store.children.of(self._attempt.run.id)
        self._own = {child.id: child for child in found}
        self._ended |= {child.id for child in found if child.state.terminal}
        self._attempt.spawned |= {child.id for child in found if not child.detached}
        for child in found:
            self._grants.pop(child.id, None)
        self._charge()

    def promise(self, key: str, grant: Ceiling) -> None:
        """Hold a sub-run's budget from now on."""
        self._grants[key] = grant
        self._charge()

    def spawned(self, key: str, run: RunRecord) -> None:
        """What was promised to the step ``key`` is that sub-run's, unless it is a run that its parent adopts."""
        grant = self._grants.pop(key, None)
        if grant is not None and run.parent_id == self._attempt.run.id and run.id not in self._own:
            self._grants[run.id] = grant
            self._attempt.spawned.add(run.id)
        self._charge()

    def forget(self, key: str) -> None:
        """It came to nothing."""
        self._grants.pop(key, None)
        self._charge()

    def _charge(self) -> None:
        own = [child for child in self._own.values() if not child.detached]
        grants = self._grants.values()
        self._attempt.meter.below = Below(
            sum(child.calls for child in own) + sum(grant.calls or 0 for grant in grants),
            sum(child.model_tokens for child in own) + sum(int(grant.model_tokens or 0) for grant in grants),
            math.fsum(child.money for child in own) + math.fsum(grant.money or 0.0 for grant in grants),
        )

    async def freed(self) -> bool:
        """Whether sub-runs that ended meanwhile gave something back."""
        before = self._attempt.meter.below
        if not self._grants and not self._unfinished():
            return False
        await self.look()
        after = self._attempt.meter.below
        return after.calls < before.calls or after.model_tokens < before.model_tokens or after.money < before.money

    def wait_for_budget(self, dimension: str) -> None:
        """Suspend the run until a sub-run has ended, if unfinished ones hold some of what is used up.

        Raises:
            AttemptStopped: they do.
        """
        held = tuple((child.id,) for child in self._unfinished() if _holds(child, dimension))
        if held:
            self._attempt.awaits = held
            self._attempt.request_stop(Stop.BUDGET)
            self._attempt.signalled = True
            raise AttemptStopped

    def _unfinished(self) -> list[Child]:
        return [child for child in self._own.values() if not child.detached and not child.state.terminal]

    # -- waiting for them -----------------------------------------------------------------------------------------

    async def still_open(self, ids: Iterable[str]) -> list[str]:
        """Those of the sub-runs that have not ended, as far as known; those of earlier parents are looked up."""
        left = []
        for run_id in ids:
            if run_id in self._ended:
                continue
            if run_id not in self._own and run_id not in self._grants:
                run = await self._store.runs.get(run_id)
                if run is None or run.state.terminal:
                    self._ended.add(run_id)
                    continue
            left.append(run_id)
        return left

    async def outcome(self, workflow: str, run_id: str) -> str:
        """The result of an ended sub-run, as JSON text.

        Raises:
            ChildFailed: it has none.
        """
        run = await self._store.runs.get(run_id)
        if run is None:
            raise ChildFailed(workflow, run_id, state="failed", reason=Reason.UNKNOWN_RUN, detail="it was removed")
        if run.result is None:
            raise ChildFailed(workflow, run_id, state=run.state, reason=run.reason or Reason.ERROR, detail=run.detail)
        return run.result

    async def wait(self, *branches: Sequence[str]) -> None:
        """Come back when all runs of one of the branches may have ended; the run is suspended meanwhile.

        Raises:
            AttemptStopped: it is suspended; the workflow comes back to this place.
        """
        with self._waiting(branches):
            async with self._attempt.alone():
                await self._suspend(None, "waits for sub-runs")

    async def wait_for_room(self, wake_ms: int, detail: str) -> None:
        """Suspend the run until ``wake_ms``, or until a sub-run that another branch waits for has ended."""
        async with self._attempt.alone():
            await self._suspend(wake_ms, detail)

    @contextmanager
    def _waiting(self, branches: Sequence[Sequence[str]]) -> Iterator[None]:
        self._next_wait += 1
        number = self._next_wait
        self._waits[number] = tuple(tuple(branch) for branch in branches)
        try:
            yield
        finally:
            del self._waits[number]

    async def _suspend(self, wake_ms: int | None, detail: str) -> None:
        attempt, progress = self._attempt, self._progress
        run, now_ms = attempt.run, progress.equipment.clock.now_ms()
        await progress.journal.write_choices()
        waits = await self._store.children.wait(
            run.id,
            run.owner or "",
            run.term,
            now_ms=now_ms,
            branches=[branch for branches in self._waits.values() for branch in branches],
            wake_ms=now_ms + LOOK_AGAIN_MS if wake_ms is None else wake_ms,
            detail=detail,
            used_calls=attempt.meter.used_calls,
            used_model_tokens=attempt.meter.used_model_tokens,
            used_money=attempt.meter.used_money,
            used_wall_ms=attempt.wall_ms,
            cost=attempt.cost,
        )
        if waits is None:
            raise attempt.lose()
        if waits:
            attempt.asked_for = Reason.CHILDREN_WAIT
            attempt.request_stop(Stop.ASKED)
            attempt.signalled = True
            raise AttemptStopped
        await self.look()


def _holds(child: Child, dimension: str) -> bool:
    amounts = {"calls": child.calls, "model tokens": child.model_tokens, "money": child.money}
    return amounts.get(dimension, 0) > 0
