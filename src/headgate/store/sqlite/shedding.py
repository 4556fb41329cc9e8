"""Which waiting runs make room for one of a higher lane, and how they end. Part of `admissions`.

Only runs that never started, and that were admitted as ones that may be lost: the lowest lane first, in it the
newest, so that least waiting is lost. They end as dead letters and can be replayed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headgate.model.decision import MadeRoom
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.policy.admission import Load
from headgate.store.protocols import DepthBound, RunOffer
from headgate.store.sqlite import history
from headgate.store.sqlite.line import stop_waiting
from headgate.store.sqlite.runs import end_waiting
from headgate.store.sqlite.transaction import Transaction

AT_MOST = 32
"""Runs that may be lost for one."""


@dataclass(frozen=True, slots=True)
class Victim:
    """A waiting run that would be lost."""

    seq: int
    run_id: str
    workflow: str
    tenant: str
    lane: str
    size: int


def to_shed(tx: Transaction, offer: RunOffer, loads: Sequence[Load], size: int) -> list[Victim]:
    """The runs that must go so that every bound of the offer has room; none if that cannot be had."""
    full = [
        (bound, load)
        for bound, load in zip(offer.bounds, loads, strict=True)
        if not bound.shadow and _lacks(bound, load.depth, load.bytes, size)
    ]
    if not full or any(bound.lane for bound, _ in full):  # a lane's own bound counts none of a lower one
        return []
    workflow = next((bound.workflow for bound, _ in full if bound.workflow), None)
    tenant = next((bound.tenant for bound, _ in full if bound.tenant), None)
    victims: list[Victim] = []
    freed = 0
    for victim in _candidates(tx, offer.sheds, workflow, tenant):
        victims.append(victim)
        freed += victim.size
        if not any(_lacks(bound, load.depth - len(victims), load.bytes - freed, size) for bound, load in full):
            return victims
    return []


def _lacks(bound: DepthBound, depth: int, size_there: int, size: int) -> bool:
    return (bound.depth is not None and depth >= bound.depth) or (
        bound.bytes is not None and size_there + size > bound.bytes
    )


def _candidates(tx: Transaction, lanes: Sequence[str], workflow: str | None, tenant: str | None) -> Iterator[Victim]:
    left = AT_MOST
    for lane in lanes:
        if workflow is None:
            rows = tx.rows("to_shed_of_lane", lane, left)
        else:
            rows = tx.rows("to_shed_of_workflow", workflow, lane, tenant, left)
        left -= len(rows)
        yield from (Victim(*row) for row in rows)
        if left <= 0:
            return


def shed(tx: Transaction, victims: Sequence[Victim], *, for_run: str, lane: str, now_ms: int) -> tuple[MadeRoom, ...]:
    """End them as dead letters."""
    words = f"made room for run {for_run} of lane {lane}; replay it when there is room again"
    for one in victims:
        state, reason = RunState.EXPIRED, Reason.SHED.value
        history.keep(tx, one.seq, now_ms=now_ms, state=state.value, reason=reason, detail=words)
        end_waiting(tx, one.seq, one.run_id, state, reason, words, now_ms)
        stop_waiting(
            tx, one.seq, RunState.QUEUED, workflow=one.workflow, tenant=one.tenant, lane=one.lane,
            fresh=True, size=one.size,
        )  # fmt: skip
        tx.numbers.scopes(one.workflow, one.tenant, one.lane).count(state, 1)
    return tuple(MadeRoom(one.run_id, one.workflow, one.tenant, one.lane) for one in victims)
