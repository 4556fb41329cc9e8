"""Calls that are put off under load: remembered as such, and made later by a follow-up run.

The follow-up is a run of the same workflow and lineage that remembers all its predecessor did. It is stored in the
transaction that ends that one, so there is exactly one. Its workflow is executed again with the remembered answers;
where a call was postponed it is made now, under the idempotency key that it would have had before, and the workflow
gets the same `Postponed` as then, so that all that follows stays as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from headgate.config.settings import GateSettings, LaneSettings
from headgate.model.canonical import decode, digest, encode
from headgate.model.degradation import POSTPONE, Degradation
from headgate.model.ids import uuid7
from headgate.model.run import RunRecord
from headgate.runs.journal import Place
from headgate.store.protocols import FollowUp

if TYPE_CHECKING:
    from headgate.runs.progress import Progress

PATIENCE_S = 86400.0
"""How long a follow-up may take from its predecessor's end where its lane names no ``max_wait``."""


@dataclass(frozen=True, slots=True)
class Postponed:
    """Stands for the answer of a call that is made later. As JSON: ``{"postponed": name}``; it counts as false."""

    postponed: str
    """The rung's name for it: the resource, or the name that the call was given."""

    def __bool__(self) -> bool:
        return False


def names_of(resource: str, postponable: bool | str) -> tuple[str, ...]:
    """What a rung may call it; empty if the call must not be put off."""
    if not postponable:
        return ()
    return (resource,) if postponable is True else (postponable, resource)


async def put_off(names: Sequence[str], place: Place, progress: Progress) -> Postponed | None:
    """What stands for the call's answer, if the call is put off, or was.

    Raises:
        AttemptStopped: the lease is lost. StoreError: it could not be written.
    """
    journal, attempt = progress.journal, progress.attempt
    known = journal.done(digest(place.resource, POSTPONE, place.key))
    if known is not None:
        return Postponed(decode(known.result or "{}")["postponed"])
    if attempt.cheaper.is_follow_up or place.key in journal.steps:
        return None
    active = progress.decide(place.resource)
    name = next((one for one in names if one in active.postpone), None)
    if name is None:
        return None
    words = f"{name} later"
    found = Degradation(name, "now", "later", progress.why(("postpone", name)))
    choice = journal.fixed_place(place.resource, POSTPONE, place.key)
    journal.choose(
        choice,
        encode({"postponed": name}),
        progress.equipment.clock.now_ms(),
        degraded=words,
        degradation=found.text(),
    )
    attempt.cheaper.postponed = True
    progress.note_degraded(words, found)
    await journal.write_choices()
    return Postponed(name)


def follow_up(run: RunRecord, settings: GateSettings, rng: Random, now_ms: int) -> FollowUp:
    """The run that makes what ``run`` has postponed, in the lane that gives way to all others."""
    lanes: list[tuple[str, LaneSettings]] = list(settings.lanes.items())
    name, lane = next(((name, one) for name, one in reversed(lanes) if one.sheddable), lanes[-1])
    until_ms = now_ms + round(1000 * (PATIENCE_S if lane.max_wait is None else lane.max_wait))
    return FollowUp(
        run_id=uuid7(now_ms, rng.getrandbits),
        lane=name,
        sheddable=lane.sheddable,
        queue_deadline_ms=until_ms,
        deadline_ms=until_ms,
        weight=settings.tenants[run.tenant].weight if run.tenant in settings.tenants else 1.0,
    )
