"""Runs that are accepted and go in line later: delayed because their queue was full, or debounced.

They are suspended with a moment at which they wake, so no claim ever looks at them. Part of `admissions`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from headgate.model.decision import Admission, Refusal
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.policy.admission import Load, Waiting
from headgate.store.protocols import Delay, DepthBound, Moved, Opening, RunOffer
from headgate.store.sqlite.line import line_up, stop_waiting
from headgate.store.sqlite.rows import RUN_WIDTH, Row, run_of
from headgate.store.sqlite.transaction import Reading, Transaction

HELD_BACK = frozenset({Reason.DELAYED.value, Reason.DEBOUNCED.value})
LARGE_INPUT_BYTES = 2048
"""Longer inputs live beside the row, so that its updates do not rewrite them."""

_NOTHING = Waiting(0, 0)


@dataclass(frozen=True, slots=True)
class HoldBack:
    """Why a run goes in line later, and when."""

    reason: Reason
    until_ms: int
    detail: str


def held_back(tx: Reading, workflow: str, tenant: str | None = None) -> dict[str, Waiting]:
    """Runs and bytes that wait to go in line, by reason."""
    return {
        reason: Waiting(count, size) for reason, count, size in tx.rows("held_back_of_workflow", workflow, tenant)
    }


def loads(tx: Transaction, offer: RunOffer) -> list[Load]:
    """What waits within each bound of the offer. Debounced runs count as if they were in line already."""
    found: list[Load] = []
    for bound in offer.bounds:
        queue = _fleet(tx, bound) if bound.lanes else tx.numbers.queue(bound.workflow, bound.tenant, bound.lane)
        if offer.debounce is not None and bound.workflow:
            debounced = held_back(tx, bound.workflow, bound.tenant or None).get(Reason.DEBOUNCED.value, _NOTHING)
            queue = Waiting(queue.depth + debounced.depth, queue.bytes + debounced.bytes)
        found.append(queue)
    return found


def _fleet(tx: Transaction, bound: DepthBound) -> Waiting:
    queues = [tx.numbers.queue("", "", lane) for lane in bound.lanes]
    return Waiting(sum(queue.depth for queue in queues), sum(queue.bytes for queue in queues))


def delayed_until(tx: Transaction, offer: RunOffer, size: int) -> HoldBack | None:
    """When a run may go in line for which there is no room now; ``None`` if it cannot be held back either."""
    delay = offer.delay
    if delay is None:
        return None
    before = _before(tx, offer)
    if before.depth >= delay.depth or not _bytes_left(offer.bounds, before.bytes, size):
        return None
    wait_ms = _wait_ms(delay, before.depth)
    until_ms = offer.now_ms + wait_ms
    if wait_ms > delay.at_most_ms or (offer.deadline_ms is not None and until_ms >= offer.deadline_ms):
        return None
    return HoldBack(Reason.DELAYED, until_ms, f"its queue was full; delayed before it: {before.depth}")


def _before(tx: Transaction, offer: RunOffer) -> Waiting:
    """What is delayed, and what came in line from there though it was still full: both take places of this tier, or
    a queue that nobody works on would grow without end."""
    delayed = held_back(tx, offer.workflow).get(Reason.DELAYED.value, _NOTHING)
    depth = size = 0
    for bound in offer.bounds:
        if bound.workflow and not bound.tenant:
            queue = tx.numbers.queue(bound.workflow, "", "")
            depth = max(depth, 0 if bound.depth is None else queue.depth - bound.depth)
            size = max(size, 0 if bound.bytes is None else queue.bytes - bound.bytes)
    return Waiting(delayed.depth + depth, delayed.bytes + size)


def _wait_ms(delay: Delay, before: int) -> int:
    """Room for it appears once those before it have found some. Unknown: at the latest moment that is allowed."""
    return delay.at_most_ms if delay.every_ms is None else max(1, round((before + 1) * delay.every_ms))


def _bytes_left(bounds: Sequence[DepthBound], held: int, size: int) -> bool:
    """The second tier may hold as many bytes as the queue."""
    return all(
        bound.bytes is None or held + size <= bound.bytes for bound in bounds if bound.workflow and not bound.tenant
    )


def behind_others(tx: Transaction, offer: RunOffer) -> bool:
    """Whether runs of the same tenant are delayed, which a later one must not overtake."""
    return offer.delay is not None and tx.row("has_delayed_of_tenant", offer.workflow, offer.tenant) is not None


def debounced_until(offer: RunOffer, delayed: HoldBack | None) -> HoldBack | None:
    """When the first run of a debounce window goes in line; a longer delay wins."""
    if offer.debounce is None:
        return delayed
    until_ms = offer.now_ms + min(offer.debounce.window_ms, offer.debounce.at_most_ms)
    if delayed is not None and delayed.until_ms >= until_ms:
        return delayed
    return HoldBack(Reason.DEBOUNCED, until_ms, "it waits for more of the same content")


def hold_back(tx: Transaction, run: RunRecord, seq: int, size: int, hold: HoldBack) -> RunRecord:
    """Hold a run back that was just written as a queued one."""
    stop_waiting(
        tx, seq, RunState.QUEUED, workflow=run.workflow, tenant=run.tenant, lane=run.lane, fresh=True, size=size
    )
    tx.numbers.scopes(run.workflow, run.tenant, run.lane).count(RunState.SUSPENDED, 1)
    return _keep(tx, run, seq, hold)


def _keep(tx: Transaction, run: RunRecord, seq: int, hold: HoldBack) -> RunRecord:
    queue_deadline_ms = run.queue_deadline_ms
    if queue_deadline_ms is not None:  # how long it may wait in line counts from when it gets there
        queue_deadline_ms += hold.until_ms - run.available_ms
    due_ms = hold.until_ms if run.deadline_ms is None else min(hold.until_ms, run.deadline_ms)
    tx.run("hold_run_back", seq, hold.reason.value, hold.detail, hold.until_ms, due_ms, queue_deadline_ms)
    return dataclasses.replace(
        run,
        state=RunState.SUSPENDED,
        reason=hold.reason.value,
        detail=hold.detail,
        available_ms=hold.until_ms,
        queue_deadline_ms=queue_deadline_ms,
    )


def debounced_again(tx: Transaction, offer: RunOffer, row: Row, size: int) -> Admission | Refusal:
    """The same content once more, while the run of the first still waits: it waits anew, with the latest input."""
    if offer.debounce is None:
        raise ValueError("only an offer that debounces comes here")
    run, (seq, old_size, wake_ms) = run_of(row), row[RUN_WIDTH:]
    for bound, load in zip(offer.bounds, loads(tx, offer), strict=True):
        if bound.bytes is not None and not bound.shadow and load.bytes - old_size + size > bound.bytes:
            return Refusal(
                Reason.QUEUE_FULL,
                bound.name,
                f"the queue holds {load.bytes} of at most {bound.bytes} content-bytes",
                limit=bound.bytes,
                used=load.bytes,
                retry_after_ms=1000,
                unit="content-bytes",
            )
    until_ms = min(offer.now_ms + offer.debounce.window_ms, run.submitted_ms + offer.debounce.at_most_ms)
    if run.reason == Reason.DELAYED.value:
        until_ms = max(until_ms, wake_ms)
    large = size > LARGE_INPUT_BYTES
    tx.run("drop_large_input", seq)
    tx.run("replace_input", seq, None if large else offer.input, size, offer.deadline_ms)
    if large:
        tx.run("keep_large_input", seq, offer.input)
    run = dataclasses.replace(run, input=offer.input, deadline_ms=offer.deadline_ms)
    reason = Reason(run.reason or Reason.DEBOUNCED)
    return Admission(_keep(tx, run, seq, HoldBack(reason, until_ms, run.detail or "")), False, 0)


def let_in_line(
    tx: Transaction,
    seq: int,
    run: tuple[str, str, str],
    *,
    size: int,
    deadline_ms: int | None,
    queue_deadline_ms: int | None,
    now_ms: int,
) -> None:
    """Put a held-back run of (workflow, tenant, lane) in line for its first start."""
    moments = [moment for moment in (deadline_ms, queue_deadline_ms) if moment is not None]
    tx.run("let_in_line", seq, now_ms, min(moments, default=None), queue_deadline_ms)
    workflow, tenant, lane = run
    tx.numbers.scopes(*run).count(RunState.SUSPENDED, -1)
    line_up(tx, seq, workflow=workflow, tenant=tenant, lane=lane, fresh=True, size=size)


def let_in(tx: Transaction, opening: Opening, *, now_ms: int, limit: int) -> list[Moved]:
    """What `protocols.Upkeep.let_in` says."""
    moved = []
    workflow = opening.workflow
    whole = tx.numbers.queue(workflow, "", "")
    for seq, run_id, tenant, lane, size, deadline_ms, queue_deadline_ms, available_ms in tx.rows(
        "delayed_of_workflow", workflow, limit
    ):
        if opening.depth is not None and whole.depth >= opening.depth:
            break
        if opening.bytes is not None and whole.bytes + size > opening.bytes:
            break
        own = tx.numbers.queue(workflow, tenant, "")
        if opening.per_tenant is not None and own.depth >= opening.per_tenant:
            continue
        if queue_deadline_ms is not None:  # it counts from when the run gets in line
            queue_deadline_ms -= max(0, available_ms - now_ms)
        let_in_line(
            tx, seq, (workflow, tenant, lane), size=size, deadline_ms=deadline_ms,
            queue_deadline_ms=queue_deadline_ms, now_ms=now_ms,
        )  # fmt: skip
        moved.append(Moved(run_id, workflow, tenant, lane, RunState.QUEUED, Reason.DELAYED.value))
    return moved
