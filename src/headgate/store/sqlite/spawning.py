"""Sub-runs coming in: whose they are, and whether they were spawned before. Part of `admissions`."""

from __future__ import annotations

from dataclasses import dataclass, replace

from headgate.model.canonical import encode
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.model.step import StepState
from headgate.store.protocols import RunOffer, Spawn
from headgate.store.sqlite.rows import RUN_WIDTH, row_of_step, run_of
from headgate.store.sqlite.transaction import Transaction

ENDING_RETRY_MS = 1000
"""When to ask again while the same sub-run of an earlier parent is being stopped."""


@dataclass(frozen=True, slots=True)
class Birth:
    """A sub-run that may come in, if it finds room."""

    parent_seq: int
    root_id: str
    depth: int
    replay_of: str | None
    """The same sub-run, unsuccessful, of a run that its parent replays: what it did is remembered."""


@dataclass(frozen=True, slots=True)
class Spawned:
    """It is there already."""

    run: RunRecord
    seq: int


def judge_spawn(tx: Transaction, offer: RunOffer, spawn: Spawn) -> Birth | Spawned | Refusal:
    """What step 0 of `protocols.Admissions.admit` says. A known sub-run is written into its parent's journal."""
    row = tx.row("spawning_parent", spawn.parent_id, spawn.owner, spawn.term)
    scope = f"run:{spawn.parent_id}"
    if row is None:
        return Refusal(Reason.LEASE_EXPIRED, scope, "its holder has lost it")
    parent_seq, root_id, depth, spawned, descendants, cancel_requested = row
    if cancel_requested:
        return Refusal(Reason.CANCELLED, scope, "it is asked to stop and spawns nothing more")
    replay_of = None
    known = tx.row("run_of_spawn_key", spawn.key)
    if known is not None:
        run, detached = run_of(known), known[RUN_WIDTH + 1]
        mine, free = run.parent_id == spawn.parent_id, detached or run.parent_id is None
        if mine or run.state is RunState.SUCCEEDED or (free and not run.state.terminal):
            keep_spawn_step(tx, spawn, parent_seq, run.id)
            return Spawned(run, known[RUN_WIDTH])
        if not run.state.terminal:
            return Refusal(
                Reason.NOT_REPLAYABLE,
                f"run:{run.id}",
                "it was spawned by a run that has ended, and is being stopped",
                retry_after_ms=ENDING_RETRY_MS,
                run_id=run.id,
            )
        replay_of = run.id
    if offer.refusal is not None:
        return offer.refusal
    if spawned >= spawn.fan_out:
        return _exhausted(scope, "sub-runs of its own", spawn.fan_out, spawned)
    if root_id is not None:
        root = tx.row("descendants_of_root", root_id)
        descendants = 0 if root is None else root[0]
    if descendants >= spawn.descendants:
        return _exhausted(scope, "runs in its tree", spawn.descendants, descendants)
    return Birth(parent_seq, root_id or spawn.parent_id, depth + 1, replay_of)


def _exhausted(scope: str, unit: str, limit: int, used: int) -> Refusal:
    return Refusal(
        Reason.BUDGET_EXHAUSTED, scope, f"{used} of at most {limit} {unit}", limit=limit, used=used, unit=unit
    )


def keep_birth(tx: Transaction, spawn: Spawn, birth: Birth, seq: int, run_id: str) -> None:
    """The sub-run came in as ``seq``: note whose it is, and let its parent remember it."""
    tx.run("keep_birth", seq, spawn.parent_id, birth.root_id, birth.depth, 1 if spawn.detached else 0, spawn.key)
    tx.run("count_spawned", birth.parent_seq)
    tx.run("count_descendant", birth.root_id)
    keep_spawn_step(tx, spawn, birth.parent_seq, run_id)


def keep_spawn_step(tx: Transaction, spawn: Spawn, parent_seq: int, run_id: str) -> None:
    """The parent's journal says which run it spawned at that step."""
    step = replace(spawn.step, result=encode({"run_id": run_id}))
    tx.run("keep_done_step", parent_seq, *row_of_step(step, StepState.DONE))
