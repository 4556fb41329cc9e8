"""A run: a durable unit of agent work, and the table of moves it may make.

::

                 ┌──────────── rescue, release ────────────┐
                 ▼                                          │
    (admit) → queued ──── claim ────► running ──── finish ──┼──► succeeded
                 │ ▲                     │                  ├──► failed
                 │ └─ wake ── suspended ◄┘ suspend          ├──► cancelled
                 │               │                          └──► expired
                 └── expire, cancel ────────────────────────────► expired, cancelled

An accepted run ends in exactly one terminal state, with a reason. ``failed`` and ``expired`` runs are dead
letters: they keep their input, remembered steps and cause, and wait for a person or a replay (a new run that
points back at them).
"""

from __future__ import annotations

from enum import StrEnum

from headgate.model.record import record


class RunState(StrEnum):
    """Where a run stands."""

    QUEUED = "queued"
    """Waits for a worker. ``term == 0`` means it never started; otherwise it was rescued, released or woken."""
    RUNNING = "running"
    """Leased by (owner, term) until ``lease_until_ms``."""
    SUSPENDED = "suspended"
    """Waits for a time or a person and holds nothing."""
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"

    @property
    def terminal(self) -> bool:
        return self in TERMINAL


TERMINAL = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.EXPIRED})
DEAD = frozenset({RunState.FAILED, RunState.EXPIRED})
"""The states of dead letters."""
LONGEST_DEADLINE_S = 366 * 86_400
"""A year; the largest numbers are no moments."""

MOVES: dict[str, tuple[frozenset[RunState], frozenset[RunState]]] = {
    "claim": (frozenset({RunState.QUEUED}), frozenset({RunState.RUNNING})),
    "finish": (frozenset({RunState.RUNNING}), TERMINAL),
    "suspend": (frozenset({RunState.RUNNING}), frozenset({RunState.SUSPENDED})),
    "release": (frozenset({RunState.RUNNING}), frozenset({RunState.QUEUED})),
    "rescue": (frozenset({RunState.RUNNING}), frozenset({RunState.QUEUED, RunState.FAILED})),
    "wake": (frozenset({RunState.SUSPENDED}), frozenset({RunState.QUEUED})),
    "give_up": (frozenset({RunState.SUSPENDED}), frozenset({RunState.FAILED})),
    "expire": (frozenset({RunState.QUEUED, RunState.SUSPENDED}), frozenset({RunState.EXPIRED})),
    "cancel": (frozenset({RunState.QUEUED, RunState.SUSPENDED}), frozenset({RunState.CANCELLED})),
}
"""Every move by name: (from, to). Whatever is not here does not happen; the store's statements obey it.

A run that is held back at its admission (``delayed``, ``debounced``) is suspended from the start; one that made room
for another expires. A run that waits for a larger budget, which nobody gave in time, is given up. A running run is
cancelled by its own worker (``finish`` to ``cancelled``), which is asked to by a flag.
"""


def may_move(source: RunState, target: RunState) -> bool:
    """Whether some move leads from ``source`` to ``target``."""
    return any(source in sources and target in targets for sources, targets in MOVES.values())


@record
class RunRecord:
    """One row of the ledger of runs. Times are integer milliseconds since the epoch."""

    id: str
    origin_id: str
    """The first run of a chain of replays; the root of its steps' idempotency keys."""
    replay_of: str | None
    workflow: str
    tenant: str
    user: str | None
    lane: str
    state: RunState
    reason: str | None
    """A `Reason` value: why it ended, or why it waits."""
    detail: str | None
    """Words for people: the error's text, who cancelled it."""
    input: str
    """The workflow's input, as JSON text."""
    result: str | None
    """What the workflow returned, as JSON text, once it succeeded."""
    cost: float
    """Estimated cost in fairness units (seconds of resource time, times the workflow's ``cost``)."""
    virtual_start: float
    """Where its tenant was expected to stand when its turn comes, as its position is told by."""
    submitted_ms: int
    available_ms: int
    """Not to be started before."""
    queue_deadline_ms: int | None
    """A run that never started expires here."""
    deadline_ms: int | None
    """Nobody wants the result after this."""
    started_ms: int | None
    """First claim."""
    finished_ms: int | None
    owner: str | None
    term: int
    """How often it was claimed; fences every write."""
    lease_until_ms: int | None
    crashes: int
    """How many workers vanished while holding it."""
    attempts: int
    """Attempts that ended in a retryable error."""
    cancel_requested: bool
    degraded: bool
    """Accepted, or carried out in part, on a cheaper path."""
    budget_calls: int | None
    budget_model_tokens: int | None
    used_calls: int
    used_model_tokens: int
    idempotency_key: str | None
    budget_money: float | None = None
    """In the unit in which prices are written."""
    budget_wall_ms: int | None = None
    """How long workers may carry it out in all."""
    used_money: float = 0.0
    used_wall_ms: int = 0
    parent_id: str | None = None
    """The run that spawned it."""
    depth: int = 0
    """How many generations of sub-runs it stands below a run that was submitted."""
    spawned: int = 0
    """How many sub-runs it has spawned."""
    spent: float = 0.0
    """What it has really cost, in fairness units, in attempts that ended in good order."""
    promise: str | None = None
    """What its caller was told, where that is to be compared with what comes (`headgate.model.promise`)."""

    preemptions: int = 0
    """How often it made room for a run of a higher lane."""
    preempted_ms: int | None = None
    """When it last did."""
    resolved_by: str | None = None
    """A dead letter that needs nobody any more: the replay that succeeded, or ``dismissed by`` somebody."""

    @property
    def dead(self) -> bool:
        """Whether it is a dead letter that nobody has dealt with."""
        return self.state in DEAD and self.resolved_by is None
