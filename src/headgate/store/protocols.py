"""What a store must do, one protocol per aggregate. The values that travel through them are in `values`.

Semantics (the conformance suite in `headgate.testing` checks every line on every dialect):

* Each call is one atomic, durable operation: when it returns, its effect survives power loss; when it raises,
  nothing happened. Operations of many callers may share one physical commit.
* Every moment comes in as ``now_ms`` (the store never reads a clock) and every identifier is chosen outside.
* Every write by the holder of a run is fenced by (run, owner, term): if the row no longer says so, nothing
  is written and the answer says so. A term never falls.
* Bounds and rates are checked and taken in the same transaction that writes the run: all or nothing, exact
  under any number of concurrent callers and processes.
* Arithmetic is Python's (`headgate.policy`); statements move rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from headgate.model.control import Control, ControlChange, ControlKind
from headgate.model.decision import Admission, Refusal
from headgate.model.duplicates import Duplicates
from headgate.model.run import RunRecord
from headgate.model.step import Effect, Step
from headgate.store.child_protocols import Children
from headgate.store.dead_protocols import DeadChange, DeadFilter, DeadLetters, HistoryLine
from headgate.store.operator_protocols import Approvals, Controls, Keys
from headgate.store.profile_protocols import Holds, Profiles
from headgate.store.questions import Approval
from headgate.store.report_protocols import Reports
from headgate.store.values import (
    Ancestor,
    ApiKey,
    Ceilings,
    Child,
    Claim,
    ClaimRequest,
    Debounce,
    Delay,
    DepthBound,
    Extension,
    FollowUp,
    Moved,
    Opening,
    Overview,
    QueueState,
    RunEnd,
    RunFilter,
    RunOffer,
    Spawn,
    StoreStatistics,
)


class Admissions(Protocol):
    """Coming in."""

    async def admit(self, offer: RunOffer) -> Admission | Refusal:
        """Store the run, or say why not. Checked in this order, all in one transaction:

        0. ``spawn``: its parent must be held under that fence (``lease_expired``) and not be asked to stop
           (``cancelled``). Its key known: that run with ``created=False`` if it is this parent's, succeeded, or lives
           on by itself; the same unsuccessful run of an earlier parent is replayed as in 2, cancelled ones included
           (still stopping: ``not_replayable`` with a moment to come back). More sub-runs than ``fan_out``, or runs in
           the tree than ``descendants``, are ``budget_exhausted``. With a run as the answer, the parent's journal has
           ``step`` with that run's id as its result. Unless detached it takes no place beside its parent's.
        1. ``(tenant, idempotency_key)`` known: same ``body_hash`` → that run, ``created=False``;
           else refusal ``idempotency_conflict`` with ``run_id``.
           An unknown key of an offer that carries a ``refusal``, or no key: that refusal, and nothing below.
        2. ``replay_of``: the source must be a dead letter of the same tenant (``unknown_run``,
           ``not_replayable``), and no replay of its lineage (the runs with the same ``origin_id``) may be unfinished
           (``not_replayable``, ``run_id`` names it). Done steps of the source and of every other replay of the
           lineage are copied, so that no later replay repeats what an earlier one did. ``once`` steps that the
           source or a later replay began and none finished need ``assume`` (else ``unknown_outcome``):
           ``not_done`` drops them, ``done`` copies them as done with result null and no tries.
        3. Same ``content_key`` unfinished: ``collapse`` → that run, ``created=False``; ``reject`` → ``duplicate``.
           ``debounce``: only a run that is still held back counts; it takes over input and deadline of the offer and
           waits anew. Whoever is answered with a run that is there may come again with its key: step 1 knows it.
        4. With a ``wish``, by `headgate.policy.feasibility` and the exact number of runs ahead of it: what fits its
           deadline only on the degraded path comes in ``degraded``; what does not fit is refused (``too_late``).
        5. Every bound (first full one: ``queue_full``) and every rate (first without room: ``rate_limited``)
           must have room; rates are taken only if everything else passed. What is larger than the whole limit is
           ``never_fits``. Between bounds and rates every need is judged: one larger than the whole is ``never_fits``;
           one that is held until the run's end must fit now (else ``concurrency``). All that the run takes is written
           down with it: rates other than of runs are corrected to what it used when it ends, however it ends.
           Shadow limits refuse nothing and are named in ``Admission.shadowed``.
           A full bound refuses only if neither ``sheds`` nor ``delay`` help. ``sheds``: waiting runs of those lanes
           that never started and were admitted as ``sheddable``, of the scopes that are full, end as
           ``expired``/``shed`` (the first lane first, the newest first; ``Admission.made_room``). ``delay``: the run
           is held back (suspended, ``delayed``) until the queue should have room, behind those held back before it,
           if it may be so long; so is one whose tenant has runs held back. Runs held back by ``debounce`` count in
           the workflow's bounds, delayed ones only in their own.
        6. It gets into line for its tenant and user (`policy.fair_queue`), who are lifted to the lane's present if
           they had nothing waiting; a run that may not start yet (``available_ms``) does so at the first claim after
           that. ``virtual_start`` is where the tenant stands once what it has waiting was charged.
        """
        ...


class Runs(Protocol):
    """Reading, and asking for an end."""

    async def get(self, run_id: str, *, tenant: str | None = None) -> RunRecord | None:
        """The run, or ``None`` if it does not exist or belongs to another tenant."""
        ...

    async def page(self, wanted: RunFilter) -> list[RunRecord]:
        """At most ``wanted.limit`` runs, newest first."""
        ...

    async def steps(self, run_id: str) -> list[Step]:
        """What its journal remembers, in order of ``seq``."""
        ...

    async def position(self, run: RunRecord, *, ahead_of: Sequence[str]) -> int:
        """Waiting runs that will start before it (0 is next; also 0 when it does not wait)."""
        ...

    async def heads(
        self, lanes: Sequence[str], workflows: Sequence[str], *, now_ms: int, not_tenants: Collection[str] = ()
    ) -> Mapping[str, int]:
        """Lane → since when the run waits that a claim for these workflows, but not for ``not_tenants``, would bring
        first; no entry for lanes where none would. A run that was preempted waits since then, any other since
        ``available_ms``."""
        ...

    async def overview(self) -> Overview:
        """Queues, states and oldest ages, from one snapshot."""
        ...

    async def cancel(self, run_id: str, *, tenant: str | None, now_ms: int, detail: str) -> RunRecord | None:
        """End a waiting or suspended run at once; ask a running one to stop (``cancel_requested``).

        A terminal run is left as it is. Returns the run afterwards, ``None`` if unknown.
        """
        ...

    async def raise_budget(
        self, run_id: str, *, tenant: str | None, ceilings: Ceilings, more: Ceilings | None = None
    ) -> RunRecord | None:
        """Raise the ceilings of an unfinished run to ``ceilings``, and those in ``more`` by so much, whatever they
        are at that moment (`headgate.policy.run_budget.raised`). A run that waits for it (``budget_wait``) goes back
        in line if any ceiling rose.

        Returns the run afterwards, ``None`` if unknown.
        """
        ...


class Claims(Protocol):
    """Working: everything the holder of runs does.

    A run whose end was asked for (``cancel_requested``) is cancelled as soon as its holder lets go of it (`suspend`,
    `release`, `Approvals.ask`): it does not wait again.
    """

    async def claim(self, request: ClaimRequest) -> list[Claim]:
        """Lease waiting runs. Each claim raises the run's term by one.

        Per lane, the tenant with the smallest virtual time is next, in it the user with the smallest, and of that
        user the run with the smallest ``order_ms`` (``newest_after``: the largest). Both are charged the run's
        ``cost``, less what was charged for it before. The work this takes depends on the runs claimed, not on those
        that wait, for whatever reason.

        A run that is past its queue deadline (never started) or deadline, or before its ``available_ms``, is not
        claimed; one whose row cannot be read back ends as ``failed``/``undecodable``. A run claimed for the first
        time has no steps, unless it is a replay.
        """
        ...

    async def extend(
        self,
        owner: str,
        held: Sequence[tuple[str, int]],
        *,
        now_ms: int,
        lease_until_ms: int,
        costs: Mapping[str, float] | None = None,
    ) -> Extension:
        """Heartbeat for every (run, term) the owner believes it holds. A lease that has already expired but was
        not yet rescued is extended too.

        ``costs`` says what runs have cost in all by now; what is more than they were charged is charged."""
        ...

    async def finish(self, ends: Sequence[RunEnd]) -> list[bool]:
        """End runs. ``False`` where the fence did not match (nothing was written for that one). A ``cost`` corrects
        what they were charged, up or down. A ``follow_up`` of a succeeded run goes in line at the same moment."""
        ...

    async def suspend(
        self,
        run_id: str,
        owner: str,
        term: int,
        *,
        now_ms: int,
        wake_ms: int | None,
        reason: str,
        detail: str | None = None,
        attempts: int = 0,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_ms: int = 0,
        cost: float | None = None,
    ) -> bool:
        """Let go of a run that waits: until ``wake_ms``, or (``None``) until something wakes it.

        ``attempts`` is the new total, and ``cost`` what it has cost in all: it corrects what was charged.
        ``False`` if the fence did not match.
        """
        ...

    async def release(
        self,
        run_id: str,
        owner: str,
        term: int,
        *,
        now_ms: int,
        reason: str,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_ms: int = 0,
        cost: float | None = None,
    ) -> bool:
        """Put a run back in line unharmed (drain, preemption). Not a crash. ``False`` if not fenced. With the reason
        ``preempted`` it is counted as one (``preemptions``, ``preempted_ms``)."""
        ...

    async def pause(
        self,
        run_id: str,
        owner: str,
        term: int,
        *,
        now_ms: int,
        until_ms: int,
        known: Ceilings,
        detail: str,
        used_calls: int = 0,
        used_model_tokens: int = 0,
        used_money: float = 0.0,
        used_wall_ms: int = 0,
        cost: float | None = None,
    ) -> bool | None:
        """Let go of a run that reached one of its ceilings: ``budget_wait`` until `Runs.raise_budget`, at the latest
        until ``until_ms`` (then `Upkeep.expire` ends it as ``failed``/``budget_exhausted``).

        If its ceilings are no longer the ``known`` ones, it goes back in line instead (``False``). ``None`` if the
        fence did not match.
        """
        ...


class Journal(Protocol):
    """Remembered calls, fenced by the run's holder."""

    async def begin(self, run_id: str, owner: str, term: int, step: Step) -> bool:
        """Write the intent of a ``once`` step (state ``begun``). ``False`` if the fence did not match."""
        ...

    async def record(self, run_id: str, owner: str, term: int, step: Step) -> bool:
        """Write (or complete) a step as ``done``. The first writer wins: a done step is never overwritten.

        ``False`` if the fence did not match.
        """
        ...

    async def forget(self, run_id: str, owner: str, term: int, key: str) -> bool:
        """Remove a ``begun`` step whose call certainly did not take effect (it was refused before it began)."""
        ...


class Upkeep(Protocol):
    """What must happen on time, whoever does it: safe to run in several processes at once."""

    async def expire(self, *, now_ms: int, limit: int) -> list[Moved]:
        """End waiting runs past their queue deadline (never started) as ``queue_expired`` and waiting or
        suspended runs past their deadline as ``deadline_passed``. Paused runs whose ceiling nobody raised in time
        end as ``failed``/``budget_exhausted``."""
        ...

    async def rescue(self, *, now_ms: int, max_crashes: int, limit: int) -> list[Moved]:
        """Take back runs whose lease expired: crashes + 1, back in line, or ``failed``/``crash_loop`` at
        ``max_crashes``. Cancel-requested ones end as ``cancelled``, past-deadline ones as ``expired``."""
        ...

    async def wake(self, *, now_ms: int, limit: int) -> list[Moved]:
        """Suspended runs whose time has come go back in line, held-back ones for their first start."""
        ...

    async def let_in(self, opening: Opening, *, now_ms: int, limit: int) -> list[Moved]:
        """Delayed runs of the workflow go in line before their time, those that would be first, while the queue has
        room. One whose tenant has none is passed over."""
        ...

    async def next_due_ms(self) -> int | None:
        """The earliest moment at which one of the above, or `Approvals.expire_due`, has something to do."""
        ...

    async def prune(self, *, before_ms: int, limit: int) -> int:
        """Delete succeeded and cancelled runs (with their steps) that finished before; dead letters stay, and with
        them their replays, whose steps the next replay remembers.

        Also drops what counts nothing any more: flows that are behind their lane, full rate buckets.
        """
        ...


class Store(Protocol):
    """One durable store, open. `headgate.store.open.open_store` makes one from a URL."""

    @property
    def admissions(self) -> Admissions: ...
    @property
    def runs(self) -> Runs: ...
    @property
    def claims(self) -> Claims: ...
    @property
    def journal(self) -> Journal: ...
    @property
    def upkeep(self) -> Upkeep: ...
    @property
    def keys(self) -> Keys: ...
    @property
    def approvals(self) -> Approvals: ...
    @property
    def controls(self) -> Controls: ...
    @property
    def children(self) -> Children: ...
    @property
    def profiles(self) -> Profiles: ...
    @property
    def dead_letters(self) -> DeadLetters: ...
    @property
    def holds(self) -> Holds: ...
    @property
    def reports(self) -> Reports: ...

    async def close(self) -> None:
        """Finish what was accepted, then close. Idempotent."""
        ...

    def statistics(self) -> StoreStatistics:
        """How it is doing."""
        ...


__all__ = [
    "Admissions",
    "Ancestor",
    "ApiKey",
    "Approval",
    "Approvals",
    "Ceilings",
    "Child",
    "Children",
    "Claim",
    "ClaimRequest",
    "Claims",
    "Control",
    "ControlChange",
    "ControlKind",
    "Controls",
    "DeadChange",
    "DeadFilter",
    "DeadLetters",
    "Debounce",
    "Delay",
    "DepthBound",
    "Duplicates",
    "Effect",
    "Extension",
    "FollowUp",
    "HistoryLine",
    "Holds",
    "Journal",
    "Keys",
    "Moved",
    "Opening",
    "Overview",
    "Profiles",
    "QueueState",
    "Reports",
    "RunEnd",
    "RunFilter",
    "RunOffer",
    "Runs",
    "Spawn",
    "Store",
    "StoreStatistics",
    "Upkeep",
]
