"""What every conformance case stands on: a fresh store, a moment, and short ways to fill and move it.

Cases see a store through `headgate.store.protocols` only, so that they hold for any dialect.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Awaitable, Callable
from typing import Any

from headgate.model.decision import Admission, Refusal
from headgate.model.duplicates import Duplicates
from headgate.model.ids import uuid7
from headgate.model.run import RunRecord, RunState
from headgate.model.step import Effect, Step, StepState
from headgate.store.protocols import Approval, Claim, ClaimRequest, DepthBound, RunEnd, RunOffer, Store

NOW = 1_700_000_000_000
"""The moment at which most cases begin, in milliseconds since the epoch."""
LEASE = 15_000

OpenStore = Callable[[], Awaitable[Store]]
"""Opens the same store at every call within one case; it is empty at the first."""


class Ground:
    """One case's store. ``open_again`` closes it and opens it anew."""

    def __init__(self, open_store: OpenStore) -> None:
        self._open_store = open_store
        self._random = random.Random(7)
        self._born = 0
        self.store: Store = None  # type: ignore[assignment]  # `enter` opens it before any case sees it

    async def enter(self) -> None:
        self.store = await self._open_store()

    async def leave(self) -> None:
        await self.store.close()

    async def open_again(self) -> None:
        """Close the store and open it anew: what was answered must still be there."""
        await self.store.close()
        self.store = await self._open_store()

    def new_id(self) -> str:
        """An identifier; later ones are larger."""
        self._born += 1
        return uuid7(NOW + self._born, self._random.getrandbits)

    def offer(self, **changes: Any) -> RunOffer:
        """An ordinary offer without any bound, with these fields changed."""
        run_id = changes.pop("id", None) or self.new_id()
        now_ms = changes.get("now_ms", NOW)
        ordinary = RunOffer(
            id=run_id,
            origin_id=run_id,
            replay_of=None,
            workflow="triage",
            tenant="acme",
            user=None,
            lane="standard",
            input='{"a":1}',
            now_ms=now_ms,
            available_ms=now_ms,
            queue_deadline_ms=None,
            deadline_ms=None,
            cost=1.0,
            weight=1.0,
            idempotency_key=None,
            body_hash="body",
            content_key=None,
            duplicates=Duplicates.ALLOW,
            bounds=(),
            rates=(),
            budget_calls=None,
            budget_model_tokens=None,
        )
        return dataclasses.replace(ordinary, **changes)

    async def ask(self, **changes: Any) -> Admission | Refusal:
        """Offer a run; whatever the answer is."""
        return await self.store.admissions.admit(self.offer(**changes))

    async def admit(self, **changes: Any) -> RunRecord:
        """Offer a run that must come in as a new one."""
        answer = await self.ask(**changes)
        assert isinstance(answer, Admission), answer
        assert answer.created
        return answer.run

    async def refused(self, **changes: Any) -> Refusal:
        """Offer a run that must be refused."""
        answer = await self.ask(**changes)
        assert isinstance(answer, Refusal), answer
        return answer

    async def claim(
        self,
        count: int = 100,
        *,
        owner: str = "w1",
        now_ms: int = NOW,
        lane: str = "standard",
        workflows: tuple[str, ...] = ("triage",),
        max_running: int | None = None,
        not_tenants: tuple[str, ...] = (),
    ) -> list[Claim]:
        """Claim at most ``count`` runs of one lane, for one lease."""
        return await self.store.claims.claim(
            ClaimRequest(
                owner, now_ms, now_ms + LEASE, ((lane, count),), workflows, max_running, not_tenants=not_tenants
            )
        )

    async def started(self, **changes: Any) -> RunRecord:
        """A run that ``w1`` holds."""
        run = await self.admit(**changes)
        claims = await self.claim(now_ms=run.submitted_ms, lane=run.lane, workflows=(run.workflow,))
        assert [claim.run.id for claim in claims] == [run.id], "nothing else may wait here"
        return claims[0].run

    async def finish(self, run: RunRecord, state: RunState = RunState.SUCCEEDED, **changes: Any) -> bool:
        """End a run as its holder."""
        assert run.owner is not None
        end = RunEnd(run.id, run.owner, run.term, state, state.value, changes.pop("now_ms", NOW), **changes)
        return (await self.store.claims.finish([end]))[0]

    async def dead(self, **changes: Any) -> RunRecord:
        """A failed run."""
        run = await self.started(**changes)
        assert await self.finish(run, RunState.FAILED, detail="it broke")
        return await self.get(run)

    async def suspend(self, run: RunRecord, *, wake_ms: int | None, now_ms: int = NOW, **changes: Any) -> bool:
        """Suspend a run as its holder."""
        assert run.owner is not None
        return await self.store.claims.suspend(
            run.id, run.owner, run.term, now_ms=now_ms, wake_ms=wake_ms, reason="retry_wait", **changes
        )

    async def get(self, run: RunRecord | str) -> RunRecord:
        """The run as it is now."""
        found = await self.store.runs.get(run if isinstance(run, str) else run.id)
        assert found is not None
        return found

    async def check_counters(self) -> None:
        """The overview must say what listing every run says."""
        overview = await self.store.runs.overview()
        page = await _every_run(self.store)
        for queue in overview.queues:
            runs = [run for run in page if queue.workflow in ("", run.workflow) and queue.lane in ("", run.lane)]
            fresh = [run for run in runs if run.state is RunState.QUEUED and run.term == 0]
            assert queue.depth == len(fresh), queue
            assert queue.bytes == sum(len(run.input.encode()) for run in fresh), queue
            assert queue.running == sum(run.state is RunState.RUNNING for run in runs), queue
        for state in (RunState.QUEUED, RunState.RUNNING, RunState.SUSPENDED):
            assert overview.states[state] == sum(run.state is state for run in page), state
        assert overview.dead == sum(run.dead for run in page)
        for lane in {run.lane for run in page}:
            waiting = [
                run.submitted_ms
                for run in page
                if run.lane == lane and run.state is RunState.QUEUED and run.term == 0
            ]
            assert overview.oldest_ms.get(lane) == min(waiting, default=None)


async def _every_run(store: Store) -> list[RunRecord]:
    from headgate.store.protocols import RunFilter

    found: list[RunRecord] = []
    before = None
    while page := await store.runs.page(RunFilter(before=before, limit=200)):
        found += page
        before = page[-1].id
    return found


def bound(depth: int | None = None, **changes: Any) -> DepthBound:
    """A bound on the workflow's queue."""
    return DepthBound("workflow:triage", **{"workflow": "triage", "depth": depth, **changes})


def a_step(key: str = "k1", *, seq: int = 0, result: str | None = '"found"', **changes: Any) -> Step:
    """A done step."""
    ordinary = Step(
        key=key,
        seq=seq,
        resource="search",
        function="app.search",
        nth=0,
        effect=Effect.IDEMPOTENT,
        state=StepState.DONE,
        result=result,
        queued_ms=3,
        ran_ms=20,
        tries=1,
        degraded=None,
        model_tokens=0,
        started_ms=NOW,
        finished_ms=NOW + 23,
    )
    return dataclasses.replace(ordinary, **changes)


def an_intent(key: str = "once", **changes: Any) -> Step:
    """A ``once`` step whose call has begun."""
    return a_step(
        key, **{"effect": Effect.ONCE, "state": StepState.BEGUN, "result": None, "finished_ms": None, **changes}
    )


def a_question(run: RunRecord, *, step_key: str = "ask", queue: str = "replies", **changes: Any) -> Approval:
    """A question that ``run`` puts."""
    ordinary = Approval(
        id=f"{run.id}:{step_key}",
        queue=queue,
        run_id=run.id,
        tenant=run.tenant,
        step_key=step_key,
        payload='{"draft":"hello"}',
        asked_ms=NOW,
        expires_ms=NOW + 60_000,
        lane=run.lane,
        deadline_ms=run.deadline_ms,
    )
    return dataclasses.replace(ordinary, **changes)
