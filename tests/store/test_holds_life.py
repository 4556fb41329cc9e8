"""What runs hold under any order of events: sums never exceed a limit and return to zero, rates settle to the actual.

The window of the rate is so long that nothing comes back to the bucket by itself: what is missing from it is exactly
what unfinished runs took and finished ones used.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Awaitable
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headgate.model.decision import Admission, Refusal
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.policy.holds import Need
from headgate.policy.token_bucket import RateTake
from headgate.store.open import open_store
from headgate.store.protocols import ClaimRequest, RunEnd, RunFilter
from headgate.testing.store_conformance_ground import LEASE, NOW, Ground

T = TypeVar("T")

MEMORY, CALLS, PLACES, TOKENS = 10, 6, 8, 5000.0
FOREVER_MS = 1e15
FINAL = (RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED, RunState.EXPIRED)


class HoldsLife(RuleBasedStateMachine):
    """Admits, claims, works, lets go, crashes, cancels, expires and restarts."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = tempfile.mkdtemp()
        self.ground = Ground(lambda: open_store(f"sqlite:///{self.directory}/runs.db?synchronous=off", mode="inline"))
        self.now = NOW
        self.took: dict[str, float] = {}
        """Run → model tokens taken at its admission."""
        self.used: dict[str, float] = {}
        """Run → model tokens used, as its row says."""
        self.running: dict[str, RunRecord] = {}

    def do(self, work: Awaitable[T]) -> T:
        async def enter() -> T:
            return await work

        return self.loop.run_until_complete(enter())

    @initialize()
    def open(self) -> None:
        self.do(self.ground.enter())

    def teardown(self) -> None:
        if self.ground.store is not None:
            self.end_everything()
            self.do(self.ground.leave())
        self.loop.close()
        shutil.rmtree(self.directory)

    def end_everything(self) -> None:
        for run in self.every_run():
            if run.state not in FINAL:
                self.do(self.ground.store.runs.cancel(run.id, tenant=None, now_ms=self.now, detail="x"))
        self.now += 2 * LEASE
        self.do(self.ground.store.upkeep.rescue(now_ms=self.now, max_crashes=1, limit=1000))
        assert all(run.state in FINAL for run in self.every_run())
        assert self.do(self.ground.store.holds.held()) == {}
        self.the_rate_is_exact()

    def every_run(self) -> list[RunRecord]:
        return self.do(self.ground.store.runs.page(RunFilter(limit=1000)))

    @rule(
        memory=st.integers(0, MEMORY + 1),
        calls=st.integers(0, CALLS),
        place=st.booleans(),
        tokens=st.none() | st.integers(0, 900),
        wait=st.none() | st.integers(1, 20_000),
    )
    def admit(self, memory: int, calls: int, place: bool, tokens: int | None, wait: int | None) -> None:
        needs = []
        if memory:
            needs.append(Need("memory", "fleet", "memory", memory, MEMORY, running=True))
        if calls:
            needs.append(Need("calls", "fleet", "tool_calls", calls, CALLS, running=True))
        if place:
            needs.append(Need("place", "tenant:acme", "runs", 1, PLACES))
        rates = () if tokens is None else (self.tokens(float(tokens)),)
        answer = self.do(
            self.ground.ask(
                needs=tuple(needs),
                rates=rates,
                now_ms=self.now,
                queue_deadline_ms=None if wait is None else self.now + wait,
            )
        )
        if isinstance(answer, Admission):
            assert memory <= MEMORY
            if tokens is not None:
                self.took[answer.run.id] = tokens
        else:
            assert answer.reason in (Reason.NEVER_FITS, Reason.CONCURRENCY, Reason.RATE_LIMITED)
            assert (answer.reason is Reason.NEVER_FITS) == (memory > MEMORY)

    def tokens(self, amount: float) -> RateTake:
        return RateTake("tokens", "fleet", TOKENS, FOREVER_MS, amount, unit="model_tokens")

    @rule(count=st.integers(1, 4))
    def claim(self, count: int) -> None:
        request = ClaimRequest(
            "w",
            self.now,
            self.now + LEASE,
            (("standard", count),),
            ("triage",),
            most={"memory": MEMORY, "calls": CALLS},
        )
        for claimed in self.do(self.ground.store.claims.claim(request)):
            self.running[claimed.run.id] = claimed.run

    @precondition(lambda self: self.running)
    @rule(data=st.data(), state=st.sampled_from(FINAL), tokens=st.integers(0, 1500))
    def finish(self, data: st.DataObject, state: RunState, tokens: int) -> None:
        run = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        assert run.owner is not None
        end = RunEnd(run.id, run.owner, run.term, state, state.value, self.now, used_model_tokens=tokens)
        if self.do(self.ground.store.claims.finish([end, end]))[0]:
            self.used[run.id] = tokens

    @precondition(lambda self: self.running)
    @rule(data=st.data(), release=st.booleans(), tokens=st.integers(0, 300), wake=st.none() | st.integers(0, 9000))
    def let_go(self, data: st.DataObject, release: bool, tokens: int, wake: int | None) -> None:
        run = self.running.pop(data.draw(st.sampled_from(sorted(self.running))))
        assert run.owner is not None
        fence, claims = (run.id, run.owner, run.term), self.ground.store.claims
        written = self.do(
            claims.release(*fence, now_ms=self.now, reason="interrupted", used_model_tokens=tokens)
            if release
            else claims.suspend(
                *fence,
                now_ms=self.now,
                wake_ms=None if wake is None else self.now + wake,
                reason="retry_wait",
                used_model_tokens=tokens,
            )
        )
        if written:
            self.used[run.id] = tokens

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if runs := self.every_run():
            run = data.draw(st.sampled_from([run.id for run in runs]))
            self.do(self.ground.store.runs.cancel(run, tenant=None, now_ms=self.now, detail="x"))

    @rule(forward=st.sampled_from([1, 900, 5000, LEASE, 40_000]))
    def time_passes(self, forward: int) -> None:
        self.now += forward

    @rule(crashes=st.integers(1, 3))
    def upkeep(self, crashes: int) -> None:
        upkeep = self.ground.store.upkeep
        self.do(upkeep.expire(now_ms=self.now, limit=3))
        self.do(upkeep.rescue(now_ms=self.now, max_crashes=crashes, limit=3))
        self.do(upkeep.wake(now_ms=self.now, limit=3))

    @rule()
    def restart(self) -> None:
        self.do(self.ground.open_again())

    @invariant()
    def sums_are_exact_and_within_the_limits(self) -> None:
        if self.ground.store is None:
            return
        held = dict(self.do(self.ground.store.holds.held()))
        assert held == dict(self.do(self.ground.store.holds.held_by_runs()))
        most = {"memory": MEMORY, "calls": CALLS, "place": PLACES}
        assert all(0 < amount <= most[key] for key, amount in held.items()), held
        runs = self.every_run()
        if not any(run.state is RunState.RUNNING for run in runs):
            assert not held.keys() - {"place"}

    @invariant()
    def the_rate_is_exact(self) -> None:
        if self.ground.store is None:
            return
        ended = {run.id for run in self.every_run() if run.state in FINAL}
        wanted = sum(self.used.get(run, 0.0) if run in ended else amount for run, amount in self.took.items())
        answer = self.do(self.ground.ask(rates=(self.tokens(TOKENS + 1),), now_ms=self.now))
        assert isinstance(answer, Refusal)
        assert answer.used == pytest.approx(min(wanted, TOKENS), abs=0.01)


HoldsLife.TestCase.settings = settings(
    max_examples=60, stateful_step_count=40, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestHoldsLife = HoldsLife.TestCase
