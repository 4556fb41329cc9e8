"""Coming in: the checks of `protocols.Admissions.admit`, in its order, inside one transaction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from headgate.model.decision import Admission, LimitUse, MadeRoom, Refusal
from headgate.model.duplicates import Duplicates
from headgate.model.reason import Reason
from headgate.model.run import DEAD, TERMINAL, RunRecord, RunState
from headgate.policy import fair_queue
from headgate.policy.admission import decide
from headgate.policy.token_bucket import RateTake, take
from headgate.store.protocols import DepthBound, RunOffer
from headgate.store.sqlite import holds, later, shedding
from headgate.store.sqlite.flows import Whose
from headgate.store.sqlite.foresight import Foreseen, foresee
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.position import position_in
from headgate.store.sqlite.rows import RUN_WIDTH, Row, run_of
from headgate.store.sqlite.spawning import Birth, Spawned, judge_spawn, keep_birth
from headgate.store.sqlite.transaction import Transaction

RETRY_FLOOR_MS = 1000
"""The store knows no rate of starts; whoever does replaces this with a better answer."""

KEYS_AT_MOST = 1000
"""Idempotency keys besides its own that are remembered for one run, into which others collapsed."""

_QUEUED = RunState.QUEUED
_ASSUMPTIONS = ("done", "not_done")


class SqliteAdmissions:
    """`headgate.store.protocols.Admissions`."""

    def __init__(self, writer: Operations) -> None:
        self._writer = writer

    async def admit(self, offer: RunOffer) -> Admission | Refusal:
        for bound in offer.bounds:
            _check_scope(bound)
        answer: Admission | Refusal = await self._writer.submit(lambda tx: admit(tx, offer))
        return answer


def _check_scope(bound: DepthBound) -> None:
    lanes = bool(bound.lane or bound.lanes) and not (bound.lane and bound.lanes)
    if lanes == bool(bound.workflow) or (lanes and bound.tenant):
        raise ValueError(f"{bound.name}: bounds count per workflow, per workflow and tenant, per lane, or over lanes")


def admit(tx: Transaction, offer: RunOffer) -> Admission | Refusal:
    """Store the run of ``offer``, or say why not."""
    if offer.idempotency_key is not None:
        known = tx.row("run_of_idempotency_key", offer.tenant, offer.idempotency_key)
        collapsed = known is None and offer.content_key is not None
        if collapsed:
            known = tx.row("run_of_collapsed_key", offer.tenant, offer.idempotency_key)
        if known is not None:
            answer = _known(tx, offer, known)
            return replace(answer, collapsed=collapsed) if isinstance(answer, Admission) else answer
    birth: Birth | None = None
    if offer.spawn is not None:
        spawned = judge_spawn(tx, offer, offer.spawn)
        if isinstance(spawned, Refusal):
            return spawned
        if isinstance(spawned, Spawned):
            return Admission(spawned.run, False, position_in(tx, spawned.run, spawned.seq, offer.ahead_of))
        birth, offer = spawned, replace(offer, replay_of=spawned.replay_of)
        if offer.needs and offer.spawn is not None:
            needs = holds.beside(tx, offer.needs, parent=birth.parent_seq, detached=offer.spawn.detached)
            offer = replace(offer, needs=needs)
    if offer.refusal is not None:
        return offer.refusal
    source = None if offer.replay_of is None else _judge_replay(tx, offer, offer.replay_of)
    if isinstance(source, Refusal):
        return source
    if offer.content_key is not None and offer.duplicates is not Duplicates.ALLOW:
        debounced = offer.debounce is not None
        twin = tx.row("held_back_run_of_content" if debounced else "unfinished_run_of_content", offer.content_key)
        if twin is not None:
            return _duplicate(tx, offer, twin)
    return _take_in(tx, offer, source, birth)


def _take_in(tx: Transaction, offer: RunOffer, source: _Source | None, birth: Birth | None) -> Admission | Refusal:
    """Store a new run, if every bound and rate has room for it."""
    size = size_of(offer.input)
    foreseen = foresee(tx, offer)
    if isinstance(foreseen, Refusal):
        return foreseen
    room = _find_room(tx, offer, size)
    if isinstance(room, Refusal):
        return room
    made_room: tuple[MadeRoom, ...] = ()
    if room.victims:
        made_room = shedding.shed(tx, room.victims, for_run=offer.id, lane=offer.lane, now_ms=offer.now_ms)
    degraded = offer.degraded or room.degraded or (foreseen is not None and foreseen.degraded)
    if room.hold is not None:
        foreseen = None  # it waits for something else first
    record, seq, last = store_run(tx, offer, size, degraded=degraded, source=source, foreseen=foreseen)
    if offer.sheddable and offer.spawn is None:  # a sub-run is part of work that has begun
        tx.run("allow_to_shed", seq)
    if offer.needs or room.taken:
        holds.keep(tx, seq, offer.needs, room.taken, now_ms=offer.now_ms)
    if source is not None:
        _copy_steps(tx, offer, source, seq)
    if birth is not None and offer.spawn is not None:
        keep_birth(tx, offer.spawn, birth, seq, record.id)
        record = replace(record, parent_id=offer.spawn.parent_id, depth=birth.depth)
    if room.hold is not None:
        record = later.hold_back(tx, record, seq, size, room.hold)
        return Admission(record, True, 0, None, room.limits, room.shadowed, made_room=made_room)
    if foreseen is not None:
        return replace(foreseen.admission(record, room.limits, room.shadowed), made_room=made_room)
    if last:
        # Everything that waits in its lane goes before it, so nothing needs counting.
        queue_of = tx.numbers.queue
        position = queue_of("", "", offer.lane).waiting - 1
        position += sum(queue_of("", "", lane).waiting for lane in set(offer.ahead_of) if lane != offer.lane)
    else:
        position = position_in(tx, record, seq, offer.ahead_of)
    return Admission(record, True, position, None, room.limits, room.shadowed, made_room=made_room)


def size_of(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def _known(tx: Transaction, offer: RunOffer, row: Row) -> Admission | Refusal:
    seq, body_hash = row[RUN_WIDTH], row[RUN_WIDTH + 1]
    record = run_of(row)
    if body_hash == offer.body_hash:
        return Admission(record, False, position_in(tx, record, seq, offer.ahead_of))
    return Refusal(
        Reason.IDEMPOTENCY_CONFLICT,
        f"tenant:{offer.tenant}",
        f"the idempotency key {offer.idempotency_key!r} was used before with another body (run {record.id})",
        run_id=record.id,
    )


def _duplicate(tx: Transaction, offer: RunOffer, row: Row) -> Admission | Refusal:
    record, seq = run_of(row), row[RUN_WIDTH]
    keyed = offer.idempotency_key is not None
    # Answers without a limit must not write without one.
    if offer.duplicates is Duplicates.COLLAPSE and not (
        keyed and tx.row("has_collapsed_keys", seq, KEYS_AT_MOST - 1)
    ):
        answer: Admission | Refusal
        if offer.debounce is None:
            answer = Admission(record, False, position_in(tx, record, seq, offer.ahead_of))
        else:
            answer = later.debounced_again(tx, offer, row, size_of(offer.input))
        if keyed and isinstance(answer, Admission):
            # Its caller may have lost this answer, and must get the same one also when the run has ended by then.
            tx.run("keep_collapsed_key", offer.tenant, offer.idempotency_key, seq, offer.body_hash)
        return replace(answer, collapsed=True) if isinstance(answer, Admission) else answer
    return Refusal(
        Reason.DUPLICATE,
        f"workflow:{offer.workflow}",
        f"run {record.id} with the same content is not finished yet",
        run_id=record.id,
    )


@dataclass(frozen=True, slots=True)
class _Source:
    """The dead letter that a replay starts from."""

    seq: int
    origin_id: str
    sub_run: bool


def _judge_replay(tx: Transaction, offer: RunOffer, source_id: str) -> _Source | Refusal:
    scope = f"run:{source_id}"
    row = tx.row("replay_source", source_id, offer.tenant)
    if row is None:
        return Refusal(Reason.UNKNOWN_RUN, scope, f"there is no run {source_id}", run_id=source_id)
    seq, origin_id, state, spawn_key = row
    # A sub-run that was cancelled with its parent goes on where it stood, if a replay of the parent spawns it anew.
    if state not in (DEAD if offer.spawn is None else TERMINAL):
        return Refusal(
            Reason.NOT_REPLAYABLE, scope, f"only failed or expired runs are replayed; it is {state}", run_id=source_id
        )
    other = tx.row("unfinished_replay", origin_id)
    if other is not None:
        return Refusal(
            Reason.NOT_REPLAYABLE, scope, f"it is being replayed already, as run {other[0]}", run_id=other[0]
        )
    if offer.assume not in _ASSUMPTIONS and tx.row("has_unknown_steps", seq, origin_id) is not None:
        return Refusal(
            Reason.UNKNOWN_OUTCOME,
            scope,
            "a step that must not be repeated was begun and its outcome is unknown; find out whether it took effect, "
            'then replay with assume "done" or "not_done"',
            run_id=source_id,
        )
    return _Source(seq, origin_id, spawn_key is not None)


def _copy_steps(tx: Transaction, offer: RunOffer, source: _Source, seq: int) -> None:
    tx.run("copy_done_steps", seq, source.seq, source.origin_id)
    if source.sub_run:
        tx.run("keep_spawn_lineage", seq, source.seq)
    if offer.assume == "done":
        tx.run("copy_unknown_steps_as_done", seq, source.seq, source.origin_id, offer.now_ms)


@dataclass(frozen=True, slots=True)
class _Room:
    """Every limit had room."""

    degraded: bool
    limits: tuple[LimitUse, ...]
    shadowed: tuple[str, ...]
    taken: tuple[tuple[RateTake, float], ...]
    """Rates, each with its arrival time after the take."""
    victims: Sequence[shedding.Victim] = ()
    """Runs that must go for it."""
    hold: later.HoldBack | None = None
    """It goes in line later."""


def _find_room(tx: Transaction, offer: RunOffer, size: int) -> _Room | Refusal:
    """Check every bound and rate; take from the rates only if all have room."""
    numbers = tx.numbers
    queues = later.loads(tx, offer)
    verdict = decide(offer.bounds, queues, size_bytes=size)
    victims: Sequence[shedding.Victim] = ()
    hold: later.HoldBack | None = None
    if verdict.full is not None:
        victims = shedding.to_shed(tx, offer, queues, size) if offer.sheds else ()
        hold = None if victims else later.delayed_until(tx, offer, size)
        if not victims and hold is None:
            queue = queues[verdict.full]
            used = queue.depth if verdict.unit == "runs" else queue.bytes
            return _full(offer.bounds[verdict.full], verdict.unit, used, size)
    elif later.behind_others(tx, offer):
        hold = later.delayed_until(tx, offer, size)
    hold = later.debounced_until(offer, hold)
    limits = [
        LimitUse(bound.name, bound.depth, max(0, bound.depth - queue.depth - 1), "runs", None, None)
        for bound, queue in zip(offer.bounds, queues, strict=True)
        if bound.depth is not None and not bound.shadow
    ]
    shadowed = [offer.bounds[index].name for index in verdict.shadowed]
    if offer.needs:
        short = holds.find_room(tx, offer.needs)
        if isinstance(short, Refusal):
            return short
        shadowed += short[0]
        limits += short[1]
    arrivals: dict[str, float] = {}
    done: list[tuple[RateTake, float]] = []
    for wish in offer.rates:
        taken = take(arrivals.get(wish.key, numbers.arrival(wish.key)), wish, now_ms=offer.now_ms)
        if taken.granted:
            arrivals[wish.key] = taken.arrival_ms
            done.append((wish, taken.arrival_ms))
        elif not wish.shadow:
            return _too_fast(wish, taken.wait_ms, taken.remaining, never=taken.never)
        else:
            shadowed.append(wish.name)
        if not wish.shadow:
            limits.append(
                LimitUse(
                    wish.name,
                    int(wish.per_window),
                    int(taken.remaining),
                    wish.unit,
                    wish.window_ms / 1000,
                    taken.reset_ms / 1000,
                    wish.rule,
                )
            )
    for key, arrival_ms in arrivals.items():
        numbers.set_arrival(key, arrival_ms)
    return _Room(verdict.degraded, tuple(limits), tuple(shadowed), tuple(done), victims, hold)


def _full(bound: DepthBound, unit: str, used: int, size: int) -> Refusal:
    limit = bound.depth if unit == "runs" else bound.bytes
    never = unit != "runs" and bound.bytes is not None and size > bound.bytes
    return Refusal(
        Reason.NEVER_FITS if never else Reason.QUEUE_FULL,
        bound.name,
        f"its input has {size} bytes and the queue takes {limit}"
        if never
        else f"the queue holds {used} of at most {limit} {unit}",
        limit=limit,
        used=used,
        retry_after_ms=None if never else RETRY_FLOOR_MS,
        unit=unit,
    )


def _too_fast(wish: RateTake, wait_ms: float, remaining: float, *, never: bool) -> Refusal:
    if never and wish.declared is not None and wish.amount <= wish.declared:
        never, wait_ms = False, holds.LOWERED_RETRY_MS  # it is an override that leaves less
    return Refusal(
        Reason.NEVER_FITS if never else Reason.RATE_LIMITED,
        wish.name,
        f"it asks for {wish.amount:g} {wish.unit} and at most {wish.size:g} are given at once"
        if never
        else f"{wish.per_window:g} {wish.unit} per {wish.window_ms / 1000:g} s are used up",
        limit=wish.per_window,
        used=max(0.0, wish.per_window - remaining),
        retry_after_ms=None if never else max(1, math.ceil(wait_ms)),
        window_s=wish.window_ms / 1000,
        unit=wish.unit,
        rule=wish.rule or None,
    )


def store_run(
    tx: Transaction,
    offer: RunOffer,
    size: int,
    *,
    degraded: bool,
    source: _Source | None,
    foreseen: Foreseen | None,
) -> tuple[RunRecord, int, bool]:
    """Write the run at its place in the lane's virtual time; with its number, and whether it stands last."""
    numbers = tx.numbers
    time = numbers.lane(offer.lane)
    fair_queue.check(offer.cost, offer.weight)
    whose = Whose(offer.lane, offer.tenant, offer.user or "", offer.workflow)
    numbers.flows.weigh(whose, offer.weight)
    delayed = offer.available_ms > offer.now_ms
    # A delayed one, which nobody may take yet, gets into line when somebody claims then.
    start = max(time.last_start, time.virtual_time) if delayed else numbers.enter(tx, whose, offer.cost)
    before = numbers.queue("", "", offer.lane).waiting
    # Corrections move a tenant back, so its last run may stand before the largest start that was ever given.
    last = start >= time.last_start or numbers.flows.tenant(offer.lane, offer.tenant).waiting > before
    if start > time.last_start or not before:
        time.last_start = start
        numbers.touched_lanes.add(offer.lane)
    large = size > later.LARGE_INPUT_BYTES
    promise = foreseen.promise if foreseen is not None and offer.remember_promise else None
    origin_id = offer.origin_id if source is None else source.origin_id
    tx.run(
        "admit_run",
        offer.id,
        origin_id,
        offer.replay_of,
        offer.workflow,
        offer.tenant,
        offer.user,
        offer.lane,
        None if large else offer.input,
        size,
        offer.cost,
        start,
        offer.now_ms,
        offer.available_ms,
        offer.queue_deadline_ms,
        offer.deadline_ms,
        earliest(offer.queue_deadline_ms, offer.deadline_ms),
        1 if degraded else 0,
        offer.budget_calls,
        offer.budget_model_tokens,
        offer.budget_money,
        offer.budget_wall_ms,
        offer.idempotency_key,
        offer.body_hash,
        offer.content_key,
        offer.now_ms if offer.order_ms is None else offer.order_ms,
        1 if delayed else 0,
        promise,
    )
    seq = tx.db.last_insert_rowid()
    if large:
        tx.run("keep_large_input", seq, offer.input)
    numbers.scopes(offer.workflow, offer.tenant, offer.lane).queue(1, fresh=True, size=size)
    record = RunRecord(
        offer.id, origin_id, offer.replay_of, offer.workflow, offer.tenant, offer.user, offer.lane, _QUEUED,
        None, None, offer.input, None, offer.cost, start, offer.now_ms, offer.available_ms,
        offer.queue_deadline_ms, offer.deadline_ms, None, None, None, 0, None, 0, 0, False, degraded,
        offer.budget_calls, offer.budget_model_tokens, 0, 0, offer.idempotency_key, offer.budget_money,
        offer.budget_wall_ms, promise=promise,
    )  # fmt: skip
    return record, seq, last


def earliest(one: int | None, other: int | None) -> int | None:
    """The earlier of two moments, of which either may be unset."""
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
