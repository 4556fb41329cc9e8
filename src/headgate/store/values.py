"""The values that travel through the store's protocols.

Times are integer milliseconds since the epoch; payloads are JSON text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headgate.model.decision import Refusal
from headgate.model.duplicates import Duplicates
from headgate.model.record import record
from headgate.model.run import RunRecord, RunState
from headgate.model.step import Step
from headgate.policy.cost_profile import Profile
from headgate.policy.feasibility import Wish
from headgate.policy.holds import Need
from headgate.policy.pause import NOTHING_HELD, HeldBack
from headgate.policy.token_bucket import RateTake


@dataclass(frozen=True, slots=True)
class DepthBound:
    """A bound on runs that wait for their first start, within a scope.

    The scope is given by the fields that are not empty: (workflow), (workflow, tenant), (lane) or (lanes). Other
    combinations are not counted and are refused with ``ValueError``.
    """

    name: str
    """How refusals call it, e.g. ``workflow:triage``."""
    workflow: str = ""
    tenant: str = ""
    lane: str = ""
    lanes: tuple[str, ...] = ()
    """All runs of these lanes together; in place of the other scopes."""
    depth: int | None = None
    bytes: int | None = None
    degrade_from: int | None = None
    """At or above this depth the run is still accepted, but marked ``degraded``."""
    shadow: bool = False
    """Counted and reported, not enforced."""


@record
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
    """The tenant's share inside the lane from now on; > 0."""
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
    budget_money: float | None = None
    budget_wall_ms: int | None = None
    ahead_of: tuple[str, ...] = ()
    """Lanes that start before this run's lane, for its position."""
    assume: str | None = None
    """Replays only: ``done`` or ``not_done`` for ``once`` steps whose outcome is unknown."""
    degraded: bool = False
    needs: tuple[Need, ...] = ()
    """What it holds of things that many share at once."""
    refusal: Refusal | None = None
    """What intake answers already, unless the idempotency key names a run that was taken in before."""
    order_ms: int | None = None
    """Its order among the runs of its lane, tenant and user; ``None``: when it came in."""
    wish: Wish | None = None
    """What its forecast is made from; ``None`` while nothing is known."""
    held_back: HeldBack = NOTHING_HELD
    """What nobody takes up now, and so is not ahead of it in its forecast."""
    remember_promise: bool = False
    """Keep what its caller is told with the run, to compare."""
    spawn: Spawn | None = None
    """Sub-runs only."""
    delay: Delay | None = None
    """What happens if a bound is full: it may come in all the same and go in line later."""
    sheds: tuple[str, ...] = ()
    """What happens before that: these lanes, the first first, may each lose a waiting run to make room for it."""
    sheddable: bool = False
    """It may itself be lost to a run that `sheds` its lane."""
    debounce: Debounce | None = None
    """It waits for more of the same content, and the latest of them counts."""


@dataclass(frozen=True, slots=True)
class Delay:
    """The second tier of a workflow's queue: runs that were accepted and go in line later."""

    depth: int
    """How many may wait there."""
    every_ms: float | None
    """How often the queue has room for one of them, as far as known."""
    at_most_ms: int
    """The longest that any is held back."""


@dataclass(frozen=True, slots=True)
class Debounce:
    """How long a run waits for more of the same content before it goes in line."""

    window_ms: int
    """Since the last of them."""
    at_most_ms: int
    """Since the first of them."""


@dataclass(frozen=True, slots=True)
class Opening:
    """Where delayed runs of a workflow may go in line early; ``None`` is without that bound."""

    workflow: str
    depth: int | None
    bytes: int | None = None
    per_tenant: int | None = None


@record
class Spawn:
    """What makes an offer that of a sub-run."""

    key: str
    """Digest of the parent's origin and the step's place: names the same sub-run in every replay of its parent."""
    parent_id: str
    owner: str
    term: int
    """The fence of the parent's holder."""
    detached: bool
    """It lives on when its parent ends."""
    step: Step
    """Kept in the parent's journal with the sub-run's id as its result."""
    fan_out: int
    """How many sub-runs the parent may spawn in all."""
    descendants: int
    """How many runs the whole tree may have below its root."""


@dataclass(frozen=True, slots=True)
class Child:
    """A sub-run as its parent accounts for it."""

    id: str
    workflow: str
    state: RunState
    reason: str | None
    detail: str | None
    detached: bool
    calls: int
    """As the next three: what it may use while it is unfinished, what it and the attached runs below it used once
    it has ended."""
    model_tokens: int
    money: float
    wall_ms: int


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A run above another one."""

    id: str
    workflow: str
    input: str


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
    parent: str | None = None
    """Only sub-runs of this run."""


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
    most: Mapping[str, int] = field(default_factory=dict)
    """What there is of each thing that running runs share; see `headgate.policy.holds`."""
    shares: tuple[tuple[str, float], ...] = ()
    """(lane, share), in the order of the lanes: by these, and not by ``lanes``, the free places are given out while
    ``max_running`` leaves fewer than were asked for."""
    not_tenants: tuple[str, ...] = ()
    """Nothing of these tenants. A tenant whose turn passes so is treated as if it did not wait: it keeps its debts,
    and saves up nothing."""
    newest_after: tuple[tuple[str, int], ...] = ()
    """(lane, milliseconds): lanes that serve their newest runs first once their oldest waits longer."""


@record
class Claim:
    """A leased run and what it remembers."""

    run: RunRecord
    steps: tuple[Step, ...]


@record
class RunEnd:
    """How an attempt ends its run for good."""

    run_id: str
    owner: str
    term: int
    state: RunState
    reason: str
    now_ms: int
    detail: str | None = None
    """``None`` keeps what the row says, such as who asked for the end."""
    result: str | None = None
    used_calls: int = 0
    """Absolute totals over all attempts, as all ``used_*``."""
    used_model_tokens: int = 0
    used_money: float = 0.0
    used_wall_ms: int = 0
    degraded: bool = False
    cost: float | None = None
    """What it has cost in all, in fairness units; ``None`` leaves it at what it was charged."""
    follow_up: FollowUp | None = None
    """What takes over the calls that it postponed. It comes in with the end, in the same transaction."""


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A run of the same workflow and lineage that makes the calls which a succeeded run has postponed. It remembers
    all that one did, and is not bounded at intake: its work was accepted with the run that it follows."""

    run_id: str
    lane: str
    sheddable: bool
    queue_deadline_ms: int
    deadline_ms: int
    weight: float = 1.0
    """Of its tenant, as in `RunOffer`."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """What a run may use in all; ``None`` is without a ceiling."""

    calls: int | None = None
    model_tokens: int | None = None
    money: float | None = None
    wall_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Extension:
    """What a heartbeat found."""

    held: frozenset[tuple[str, int]]
    """(run, term) pairs still leased to the owner, now until the new moment."""
    cancel: frozenset[str]
    """Those whose end was asked for."""


@dataclass(frozen=True, slots=True)
class Moved:
    """One run that upkeep moved."""

    run_id: str
    workflow: str
    tenant: str
    lane: str
    state: RunState
    reason: str


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


@dataclass(frozen=True, slots=True)
class KnownProfile:
    """What is known of the cost of one kind of run."""

    workflow: str
    size_class: int
    """`headgate.policy.cost_profile.WHOLE` is every input."""
    revision: int
    """Rises with every change of any profile."""
    profile: Profile


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
