"""The life of runs under any order of events: what must hold, holds after every one of them.

A model of the truth is not needed; the invariants are: only legal moves, one end per run, terms never fall, fences
hold, counters say what the rows say, at most one unfinished replay per source and one run per key.
"""

from __future__ import annotations

import asyncio
import dataclasses
import shutil
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headgate.model.decision import Admission, Refusal
from headgate.model.duplicates import Duplicates
from headgate.model.reason import Reason
from headgate.model.run import MOVES, TERMINAL, RunRecord, RunState
from headgate.store.open import open_store
from headgate.store.protocols import Debounce, Delay, Moved, Opening, RunEnd, RunFilter
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground, a_question, a_step, an_intent, bound

from .flow_counts import check_flows

T = TypeVar("T")

LANES = ("low", "high")
DEPTH = 6
SECOND_TIER = Delay(depth=2, every_ms=3000.0, at_most_ms=20_000)
WHEN_FULL: dict[str | None, dict[str, Any]] = {
    "delay": {"delay": SECOND_TIER},
    "debounce": {"content_key": "d", "duplicates": Duplicates.COLLAPSE, "debounce": Debounce(3000, 8000)},
}

THROUGH = {"rescue": ("rescue", "cancel", "expire"), "let_go": ("suspend", "release", "cancel")}
"""Operations that may make two moves at once: a run put back in line that nobody wants any more ends there."""


def _legal(operation: str, before: RunState, after: RunState) -> bool:
    if before is after:
        return True
    states = {before}
    if operation == "expire_or_admit":
        operation = "expire"
    for move in THROUGH.get(operation, (operation,)):
        sources, targets = MOVES[move]
        if states & sources:
            states |= targets
    return after in states


class RunLife(RuleBasedStateMachine):
    """Submits, works, crashes, waits, cancels, expires and replays."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.mkdtemp()
        self.ground = Ground(lambda: open_store(f"sqlite:///{self.directory}/runs.db?synchronous=off", mode="inline"))
        self.now = NOW
        self.known: dict[str, RunRecord] = {}
        self.fences: list[tuple[str, str, int]] = []
        """Every (run, owner, term) ever handed out."""
        self.questions: list[str] = []

    def do(self, work: Awaitable[T]) -> T:
        async def enter() -> T:
            return await work

        return self.loop.run_until_complete(enter())

    @initialize()
    def open(self) -> None:
        self.do(self.ground.enter())

    def teardown(self) -> None:
        if self.ground.store is not None:
            self.do(self.ground.leave())
        self.loop.close()
        shutil.rmtree(self.directory)

    def check(self, operation: str, allowed: set[str] | None = None) -> None:
        """Only runs in ``allowed`` (None: any) moved, and only as ``operation`` may move them."""
        for run in self.do(self.ground.store.runs.page(RunFilter(limit=1000))):
            before = self.known.get(run.id)
            self.known[run.id] = run
            if before is None:
                assert operation.endswith("admit"), (operation, run)
                continue
            assert run.term >= before.term, (operation, before, run)
            assert (run.term == before.term) == (operation != "claim" or run.state is before.state)
            if before.state in TERMINAL:
                resolved = before.resolved_by or (run.resolved_by if operation in ("finish", "dismiss") else None)
                assert run == dataclasses.replace(before, resolved_by=resolved), (operation, before, run)
            if allowed is not None and run.id not in allowed and before.state not in TERMINAL:
                assert run == before, (operation, before, run)
            assert _legal(operation, before.state, run.state), (operation, before, run)

    # coming in

    @rule(
        tenant=st.sampled_from(["a", "b"]),
        lane=st.sampled_from(LANES),
        key=st.none() | st.sampled_from(["k1", "k2"]),
        body=st.sampled_from(["x", "y"]),
        content=st.none() | st.sampled_from(["c1", "c2"]),
        duplicates=st.sampled_from(list(Duplicates)),
        full=st.sampled_from([None, "delay", "shed", "debounce"]),
        wait=st.none() | st.integers(1, 40_000),
        deadline=st.none() | st.integers(1, 60_000),
        user=st.none() | st.sampled_from(["ann", "bob"]),
        delay=st.sampled_from([0, 0, 700, 9000]),
    )
    def submit(
        self,
        tenant: str,
        lane: str,
        key: str | None,
        body: str,
        content: str | None,
        duplicates: Duplicates,
        full: str | None,
        wait: int | None,
        deadline: int | None,
        user: str | None,
        delay: int,
    ) -> None:
        now = self.now
        answer = self.do(
            self.ground.ask(
                tenant=tenant, lane=lane, idempotency_key=key, body_hash=body, now_ms=now, bounds=(bound(DEPTH),),
                **{"content_key": content, "duplicates": duplicates, **WHEN_FULL.get(full, {})},
                sheds=("low",) if full == "shed" and lane == "high" else (), sheddable=lane == "low",
                user=user, available_ms=now + delay, cost=0.5 if user else 2.0,
                queue_deadline_ms=None if wait is None else now + wait,
                deadline_ms=None if deadline is None else now + deadline,
            )
        )  # fmt: skip
        first = next(
            (run for run in self.known.values() if key and (run.tenant, run.idempotency_key) == (tenant, key)), None
        )
        if first is not None:
            same = answer.run.id if isinstance(answer, Admission) else answer.run_id
            assert same == first.id
            assert not isinstance(answer, Admission) or not answer.created
        if isinstance(answer, Refusal) and answer.reason is Reason.QUEUE_FULL:
            assert self.fresh() >= DEPTH
        moved: set[str] = set()
        if isinstance(answer, Admission):
            moved = {answer.run.id} if answer.created or full == "debounce" else set()
            lost = {one.run_id for one in answer.made_room}
            assert all(self.known[one].lane == "low" and self.known[one].term == 0 for one in lost)
            self.check("expire_or_admit", moved | lost)
            assert all(self.known[one].reason == Reason.SHED for one in lost)
        self.check("admit", moved)

    @rule(depth=st.integers(1, DEPTH))
    def let_in(self, depth: int) -> None:
        opening = Opening("triage", depth=depth)
        moved = self.do(self.ground.store.upkeep.let_in(opening, now_ms=self.now, limit=3))
        self.moved("wake", moved)
        assert not moved or self.fresh() <= depth

    @precondition(lambda self: any(run.dead for run in self.known.values()))
    @rule(data=st.data())
    def dismiss(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from([run for run in self.known.values() if run.dead]))
        letters = self.ground.store.dead_letters
        assert self.do(letters.dismiss(run.id, tenant=None, by="ann", why="seen", now_ms=self.now))
        self.check("dismiss", {run.id})
        assert not self.known[run.id].dead

    def fresh(self) -> int:
        return sum(run.state is RunState.QUEUED and run.term == 0 for run in self.known.values())

    @precondition(lambda self: any(run.dead for run in self.known.values()))
    @rule(data=st.data(), assume=st.sampled_from([None, "done", "not_done"]))
    def replay(self, data: st.DataObject, assume: str | None) -> None:
        source = data.draw(st.sampled_from([run for run in self.known.values() if run.dead]))
        answer = self.do(self.ground.ask(replay_of=source.id, tenant=source.tenant, assume=assume, now_ms=self.now))
        unfinished = [run for run in self.known.values() if run.replay_of == source.id and run.state not in TERMINAL]
        if isinstance(answer, Admission):
            assert not unfinished
            assert answer.run.origin_id == source.origin_id
        else:
            assert answer.reason in (Reason.NOT_REPLAYABLE, Reason.UNKNOWN_OUTCOME)
        self.check("admit", {answer.run.id} if isinstance(answer, Admission) else set())

    # working

    @rule(owner=st.sampled_from(["w1", "w2"]), lane=st.sampled_from(LANES), count=st.integers(1, 3))
    def claim(self, owner: str, lane: str, count: int) -> None:
        claims = self.do(self.ground.claim(count, owner=owner, now_ms=self.now, lane=lane))
        for claim in claims:
            run = claim.run
            assert self.known[run.id].state is RunState.QUEUED
            assert run.term == self.known[run.id].term + 1
            assert run.deadline_ms is None or run.deadline_ms > self.now
            assert claim.steps == tuple(self.do(self.ground.store.runs.steps(run.id)))
            self.fences.append((run.id, owner, run.term))
        self.check("claim", {claim.run.id for claim in claims})

    def holds(self, fence: tuple[str, str, int]) -> bool:
        run = self.known[fence[0]]
        return run.state is RunState.RUNNING and (run.id, run.owner, run.term) == fence

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), state=st.sampled_from(sorted(TERMINAL)), cost=st.none() | st.floats(0.01, 9.0))
    def finish(self, data: st.DataObject, state: RunState, cost: float | None) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        held = self.holds(fence)
        assert self.do(
            self.ground.store.claims.finish([RunEnd(*fence, state, state.value, self.now, cost=cost)])
        ) == [held]
        self.check("finish", {fence[0]} if held else set())

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), wake=st.none() | st.integers(0, 20_000), release=st.booleans())
    def let_go(self, data: st.DataObject, wake: int | None, release: bool) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        held = self.holds(fence)
        claims = self.ground.store.claims
        written = self.do(
            claims.release(*fence, now_ms=self.now, reason="interrupted", cost=0.7)
            if release
            else claims.suspend(
                *fence, now_ms=self.now, wake_ms=None if wake is None else self.now + wake, reason="retry_wait"
            )
        )
        asked = held and self.known[fence[0]].cancel_requested
        assert written == held
        self.check("let_go", {fence[0]} if held else set())
        if asked:
            assert self.known[fence[0]].state is RunState.CANCELLED

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        owner = data.draw(st.sampled_from(["w1", "w2"]))
        believed = [(run_id, term) for run_id, who, term in self.fences if who == owner]
        found = self.do(
            self.ground.store.claims.extend(
                owner,
                believed,
                now_ms=self.now,
                lease_until_ms=self.now + LEASE,
                costs={run_id: 3.0 for run_id, _ in believed},
            )
        )
        assert found.held == {fence for fence in believed if self.holds((fence[0], owner, fence[1]))}
        self.check("claim", {run_id for run_id, _ in found.held})

    @precondition(lambda self: self.fences)
    @rule(data=st.data(), key=st.sampled_from(["s1", "s2"]), what=st.sampled_from(["begin", "record", "forget"]))
    def journal(self, data: st.DataObject, key: str, what: str) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        before = self.do(self.ground.store.runs.steps(fence[0]))
        journal = self.ground.store.journal
        work: Any = {
            "begin": lambda: journal.begin(*fence, an_intent(key)),
            "record": lambda: journal.record(*fence, a_step(key, result=f'"{fence[2]}"')),
            "forget": lambda: journal.forget(*fence, key),
        }[what]()
        held = self.holds(fence)
        assert self.do(work) == held
        after = self.do(self.ground.store.runs.steps(fence[0]))
        if not held:
            assert after == before
        done = [step for step in before if step.state == "done"]
        assert [step for step in after if step in done] == done, "a done step never changes"
        self.check("let_go", set())

    @precondition(lambda self: self.fences)
    @rule(data=st.data())
    def ask_a_person(self, data: st.DataObject) -> None:
        fence = data.draw(st.sampled_from(self.fences))
        held = self.holds(fence)
        question = a_question(self.known[fence[0]], asked_ms=self.now, expires_ms=self.now + 30_000)
        answer = self.do(self.ground.store.approvals.ask(question, fence[1], fence[2], depth=2))
        assert (answer is not None) == held
        if answer is not None and not isinstance(answer, Refusal):
            self.questions.append(question.id)
        self.check("let_go", {fence[0]} if held else set())

    @precondition(lambda self: self.questions)
    @rule(data=st.data(), approved=st.booleans())
    def answer(self, data: st.DataObject, approved: bool) -> None:
        question = data.draw(st.sampled_from(self.questions))
        decided = self.do(
            self.ground.store.approvals.decide(
                question, tenant=None, approved=approved, by="ann", note=None, now_ms=self.now
            )
        )
        assert decided is not None
        assert decided.state != "waiting"
        self.check("wake", {decided.run_id})

    # time and people

    @rule(forward=st.sampled_from([1, 500, 5000, LEASE, 40_000]))
    def time_passes(self, forward: int) -> None:
        self.now += forward

    def moved(self, operation: str, moved: list[Moved]) -> None:
        self.check(operation, {one.run_id for one in moved})
        for one in moved:
            assert (self.known[one.run_id].state) is one.state

    @rule(crashes=st.integers(1, 3))
    def rescue(self, crashes: int) -> None:
        self.moved("rescue", self.do(self.ground.store.upkeep.rescue(now_ms=self.now, max_crashes=crashes, limit=3)))

    @rule()
    def wake(self) -> None:
        self.moved("wake", self.do(self.ground.store.upkeep.wake(now_ms=self.now, limit=3)))

    @rule()
    def expire(self) -> None:
        self.moved("expire", self.do(self.ground.store.upkeep.expire(now_ms=self.now, limit=3)))

    @rule()
    def questions_expire(self) -> None:
        expired = self.do(self.ground.store.approvals.expire_due(now_ms=self.now, limit=3))
        self.check("wake", {one.run_id for one, _ in expired})

    @precondition(lambda self: self.known)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        run = data.draw(st.sampled_from(list(self.known.values())))
        after = self.do(self.ground.store.runs.cancel(run.id, tenant=None, now_ms=self.now, detail="by ann"))
        assert after is not None
        assert after.state in TERMINAL or after.cancel_requested
        self.check("cancel", {run.id})

    @rule()
    def restart(self) -> None:
        self.do(self.ground.open_again())
        self.check("restart", set())

    @invariant()
    def counters_say_what_the_rows_say(self) -> None:
        if self.ground.store is None:
            return
        self.do(self.ground.check_counters())
        check_flows(Path(self.directory) / "runs.db")
        beside = sum(run.replay_of is not None for run in self.known.values())
        debounced = DEPTH  # a submission that does not debounce does not see them until they are in line
        assert self.fresh() <= DEPTH + SECOND_TIER.depth + debounced + beside
        delayed = sum(run.reason == Reason.DELAYED and not run.state.terminal for run in self.known.values())
        assert delayed <= SECOND_TIER.depth

    @invariant()
    def the_next_due_moment_covers_every_run(self) -> None:
        if self.ground.store is None:
            return
        due = self.do(self.ground.store.upkeep.next_due_ms())
        for run in self.known.values():
            if run.state is RunState.RUNNING:
                assert run.lease_until_ms is not None
                assert due is not None
                assert due <= run.lease_until_ms
            elif run.state not in TERMINAL and run.deadline_ms is not None:
                assert due is not None
                assert due <= run.deadline_ms


RunLife.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
TestRunLife = RunLife.TestCase


def test_the_check_itself_can_fail() -> None:
    assert _legal("claim", RunState.QUEUED, RunState.RUNNING)
    assert _legal("rescue", RunState.RUNNING, RunState.CANCELLED)
    assert not _legal("claim", RunState.SUSPENDED, RunState.RUNNING)
    assert not _legal("wake", RunState.SUSPENDED, RunState.RUNNING)
    assert not _legal("finish", RunState.RUNNING, RunState.QUEUED)
