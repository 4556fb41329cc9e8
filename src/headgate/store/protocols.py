"""What a store must do, one protocol per aggregate, and the values that travel through them.

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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headgate.model.decision import Admission, Refusal
from headgate.model.duplicates import Duplicates
from headgate.model.run import RunRecord, RunState
from headgate.model.step import Effect, Step
from headgate.policy.token_bucket import RateTake


@dataclass(frozen=True, slots=True)
class DepthBound:
    """A bound on runs that wait for their first start, within a scope.

    The scope is given by the fields that are not empty: (workflow), (workflow, tenant) or (lane). Other
    combinations are not counted and are refused with ``ValueError``.
    """

    name: str
    """How refusals call it, e.g. ``workflow:triage``."""
    workflow: str = ""
    tenant: str = ""
    lane: str = ""
    depth: int | None = None
    bytes: int | None = None
    degrade_from: int | None = None
    """At or above this depth the run is still accepted, but marked ``degraded``."""
    shadow: bool = False
    """Counted and reported, not enforced."""


@dataclass(frozen=True, slots=True)
class RunOffer:
    """A run that asks to come in, with every rule that it must pass already looked up."""

    id: str
    origin_id: str
    replay_of: str | None
    workflow: str
    tenant: str
    user: str | None
    lane: str
    input: str
    now_ms: int
    available_ms: int
    queue_deadline_ms: int | None
    deadline_ms: int | None
    cost: float
    weight: float
    """The tenant's share inside the lane; > 0."""
    idempotency_key: str | None
    body_hash: str
    """Digest of everything that must be equal for an idempotency key to be *the same request*."""
    content_key: str | None
    """Digest of (workflow, tenant, input), when ``duplicates`` is not ``allow``."""
    duplicates: Duplicates
    bounds: tuple[DepthBound, ...]
    rates: tuple[RateTake, ...]
    budget_calls: int | None
    budget_model_tokens: int | None
    ahead_of: tuple[str, ...] = ()
    """Lanes that start before this run's lane, for its position."""
    assume: str | None = None
    """Replays only: ``done`` or ``not_done`` for ``once`` steps whose outcome is unknown."""
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list. Empty means all. Newest first; ``before`` is the id to continue below."""

    tenant: str | None = None
    workflow: str | None = None
    lane: str | None = None
    states: tuple[RunState, ...] = ()
    reason: str | None = None
    before: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class QueueState:
    """What waits and runs in one (workflow, tenant) or lane scope; ``""`` is *all*."""

    workflow: str
    tenant: str
    lane: str
    depth: int
    """Runs waiting for their first start."""
    bytes: int
    running: int
    started: int
    """Ever started (first claims), monotonic: the difference over time is the drain rate."""


@dataclass(frozen=True, slots=True)
class Overview:
    """The truth about the queues at one moment."""

    queues: tuple[QueueState, ...]
    """One per workflow and one per lane (not per tenant)."""
    oldest_ms: Mapping[str, int]
    """Lane → ``submitted_ms`` of its oldest run that waits for its first start."""
    states: Mapping[str, int]
    """Unfinished runs by state."""
    dead: int
    """Dead letters."""


class Admissions(Protocol):
    """Coming in."""

    async def admit(self, offer: RunOffer) -> Admission | Refusal:
        """Store the run, or say why not. Checked in this order, all in one transaction:

        1. ``(tenant, idempotency_key)`` known: same ``body_hash`` → that run, ``created=False``;
           else refusal ``idempotency_conflict`` with ``run_id``.
        2. ``replay_of``: the source must be a dead letter of the same tenant (``unknown_run``,
           ``not_replayable``) and have no unfinished replay (``not_replayable``, ``run_id`` names it). Its done
           steps are copied; begun ``once`` steps need ``assume`` (else ``unknown_outcome``): ``not_done``
           drops them, ``done`` copies them as done with result null.
        3. Same ``content_key`` unfinished: ``collapse`` → that run, ``created=False``; ``reject`` → ``duplicate``.
        4. Every bound (first full one: ``queue_full``) and every rate (first without room: ``rate_limited``)
           must have room; rates are taken only if everything else passed.
        5. ``virtual_start`` by `policy.fair_queue` from the lane's and the tenant's numbers.
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

    async def overview(self) -> Overview:
        """Queues, states and oldest ages, from one snapshot."""
        ...

    async def cancel(self, run_id: str, *, tenant: str | None, now_ms: int, detail: str) -> RunRecord | None:
        """End a waiting or suspended run at once; ask a running one to stop (``cancel_requested``).

        A terminal run is left as it is. Returns the run afterwards, ``None`` if unknown.
        """
        ...


@dataclass(frozen=True, slots=True)
class ClaimRequest:
    """A worker asks for runs."""

    owner: str
    now_ms: int
    lease_until_ms: int
    lanes: tuple[tuple[str, int], ...]
    """(lane, at most so many), in order of preference."""
    workflows: tuple[str, ...]
    """Only these (the worker has no code for others)."""
    max_running: int | None = None
    """Never more than this many running runs in the whole store."""
    total: int | None = None
    """Never more than this many in this claim, over all lanes. A lane may be listed twice: the first time with what
    it is entitled to, the second time with what it may borrow if lanes before it leave some."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A leased run and what it remembers."""

    run: RunRecord
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class RunEnd:
    """How an attempt ends its run for good."""

    run_id: str
    owner: str
    term: int
    state: RunState
    reason: str
    now_ms: int
    detail: str | None = None
    result: str | None = None
    used_calls: int = 0
    """Absolute totals over all attempts, as all ``used_*``."""
    used_model_tokens: int = 0
    degraded: bool = False


@dataclass(frozen=True, slots=True)
class Extension:
    """What a heartbeat found."""

    held: frozenset[tuple[str, int]]
    """(run, term) pairs still leased to the owner, now until the new moment."""
    cancel: frozenset[str]
    """Those whose end was asked for."""


class Claims(Protocol):
    """Working: everything the holder of runs does."""

    async def claim(self, request: ClaimRequest) -> list[Claim]:
        """Lease waiting runs: per lane by ``virtual_start``, then age. Each claim raises the run's term by one.

        A run that is past its queue deadline (never started) or deadline is not claimed. Also advances the
        lane's virtual time to the largest virtual start claimed.
        """
        ...

    async def extend(
        self, owner: str, held: Sequence[tuple[str, int]], *, now_ms: int, lease_until_ms: int
    ) -> Extension:
        """Heartbeat for every (run, term) the owner believes it holds. A lease that has already expired but was
        not yet rescued is extended too."""
        ...

    async def finish(self, ends: Sequence[RunEnd]) -> list[bool]:
        """End runs. ``False`` where the fence did not match (nothing was written for that one)."""
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
    ) -> bool:
        """Let go of a run that waits: until ``wake_ms``, or (``None``) until something wakes it.

        ``attempts`` is the new total. ``False`` if the fence did not match.
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
    ) -> bool:
        """Put a run back in line unharmed (drain, preemption). Not a crash. ``False`` if not fenced."""
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


@dataclass(frozen=True, slots=True)
class Moved:
    """One run that upkeep moved."""

    run_id: str
    workflow: str
    tenant: str
    lane: str
    state: RunState
    reason: str


class Upkeep(Protocol):
    """What must happen on time, whoever does it: safe to run in several processes at once."""

    async def expire(self, *, now_ms: int, limit: int) -> list[Moved]:
        """End waiting runs past their queue deadline (never started) as ``queue_expired`` and waiting or
        suspended runs past their deadline as ``deadline_passed``."""
        ...

    async def rescue(self, *, now_ms: int, max_crashes: int, limit: int) -> list[Moved]:
        """Take back runs whose lease expired: crashes + 1, back in line, or ``failed``/``crash_loop`` at
        ``max_crashes``. Cancel-requested ones end as ``cancelled``, past-deadline ones as ``expired``."""
        ...

    async def wake(self, *, now_ms: int, limit: int) -> list[Moved]:
        """Suspended runs whose time has come go back in line."""
        ...

    async def next_due_ms(self) -> int | None:
        """The earliest moment at which one of the above has something to do."""
        ...

    async def prune(self, *, before_ms: int, limit: int) -> int:
        """Delete succeeded and cancelled runs (with their steps) that finished before; dead letters stay."""
        ...


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key as stored: never the key itself."""

    id: str
    hash: str
    """SHA-256 of the key, hex."""
    tenant: str | None
    """``None``: any tenant (operators, workers)."""
    role: str
    """``submit``, ``read``, ``operate`` or ``admin``."""
    label: str
    created_ms: int
    expires_ms: int | None = None
    revoked_ms: int | None = None


class Keys(Protocol):
    """API keys."""

    async def add(self, key: ApiKey) -> None: ...

    async def by_hash(self, digest: str) -> ApiKey | None: ...

    async def all(self) -> list[ApiKey]: ...

    async def revoke(self, key_id: str, *, now_ms: int) -> bool: ...


@dataclass(frozen=True, slots=True)
class Approval:
    """A question to a person, bound to one step of one run."""

    id: str
    queue: str
    run_id: str
    tenant: str
    step_key: str
    payload: str
    """JSON text shown to the person."""
    asked_ms: int
    expires_ms: int
    state: str = "waiting"
    """``waiting``, ``approved``, ``denied`` or ``expired``."""
    decided_by: str | None = None
    decided_ms: int | None = None
    note: str | None = None


class Approvals(Protocol):
    """Bounded queues of people."""

    async def ask(
        self,
        approval: Approval,
        owner: str,
        term: int,
        *,
        depth: int,
        used_calls: int = 0,
        used_model_tokens: int = 0,
    ) -> Approval | Refusal | None:
        """Put a question (and suspend its run, fenced) unless ``depth`` waiting ones are there already
        (``queue_full``).

        A question already asked for (run, step) is returned as it stands, and the run is suspended only while it
        still waits. ``None`` if the fence did not match.
        """
        ...

    async def decide(
        self, approval_id: str, *, tenant: str | None, approved: bool, by: str, note: str | None, now_ms: int
    ) -> Approval | None:
        """Answer a waiting question and wake its run. An answered one is returned unchanged; ``None`` if unknown."""
        ...

    async def waiting(self, *, queue: str | None, tenant: str | None, limit: int) -> list[Approval]: ...

    async def expire_due(self, *, now_ms: int, limit: int) -> list[Approval]:
        """Questions nobody answered in time become ``expired`` and their runs wake."""
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

    async def close(self) -> None:
        """Finish what was accepted, then close. Idempotent."""
        ...

    def statistics(self) -> StoreStatistics:
        """How it is doing."""
        ...


@dataclass(frozen=True, slots=True)
class StoreStatistics:
    """Counters since opening."""

    url: str
    operations: int
    commits: int
    waiting: int
    """Operations accepted and not yet committed."""
    failures: int
    extra: Mapping[str, float] = field(default_factory=dict)


__all__ = [
    "Admissions",
    "ApiKey",
    "Approval",
    "Approvals",
    "Claim",
    "ClaimRequest",
    "Claims",
    "DepthBound",
    "Duplicates",
    "Effect",
    "Extension",
    "Journal",
    "Keys",
    "Moved",
    "Overview",
    "QueueState",
    "RunEnd",
    "RunFilter",
    "RunOffer",
    "Runs",
    "Store",
    "StoreStatistics",
    "Upkeep",
]
