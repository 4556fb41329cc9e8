"""One attempt from its first line to a verdict.

The workflow runs with the run's circumstances around it (tenant, lane, deadline …), which every guard inside sees.
Whatever it returns, raises or swallows, exactly one verdict comes out. What nobody can stop from here is a
workflow that computes without ever awaiting: it holds up its whole worker; such work belongs into a function that
`Run.call` puts on a thread.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from pydantic import ValidationError

from headgate.errors import StepNotSerializable, UnknownWorkflow
from headgate.guard.ambient import Ambient, ambient
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.runs import escalation, verdict
from headgate.runs.attempt import GRACE_S, Attempt, Stop
from headgate.runs.context import Run
from headgate.runs.progress import Equipment, Progress
from headgate.runs.registry import Workflow, WorkflowRegistry
from headgate.runs.values import describe, describe_input, from_json, to_json
from headgate.runs.verdict import Finish, Verdict

log = logging.getLogger("headgate.runs")


class _Unreadable(Exception):
    """The run cannot be handed to its workflow."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Executor:
    """Carries out attempts. One per worker."""

    def __init__(self, registry: WorkflowRegistry, equipment: Equipment) -> None:
        self._registry = registry
        self._equipment = equipment
        self._ranks = {lane: rank for rank, lane in enumerate(equipment.settings.lanes)}

    async def carry_out(self, attempt: Attempt) -> Verdict:
        """Run the workflow and judge how it ended. Never raises."""
        progress = Progress(attempt, self._equipment)
        attempt.entered = True
        if attempt.run.attempts:
            decided = await escalation.before_attempt(attempt, progress.workflow, self._equipment)
            if decided is not None:
                return verdict.of_stop(attempt) or decided
        if attempt.run.term == 1 and attempt.stop is None and (words := progress.too_late()) is not None:
            return Finish(RunState.EXPIRED, Reason.DEADLINE_UNREACHABLE, words)
        result: str | None = None
        error: BaseException | None = None
        try:
            attempt.check()
            if attempt.run.spawned:
                await progress.children.look()
            workflow, arguments = self._ready(attempt, progress)
            with ambient(self._circumstances(attempt)):
                value = await workflow.function(*arguments)
            result = "null" if value is None else to_json(value, what="what the workflow returned")
        except GeneratorExit:  # the loop is gone, and nothing can be awaited any more
            raise
        except BaseException as raised:  # noqa: BLE001  judged below; extensions raise their own kinds of it (panics)
            error = raised
            if isinstance(raised, (KeyboardInterrupt, SystemExit)):
                attempt.leaving = raised
        attempt.closed = True
        if attempt.open_calls:
            await self._end_calls_left(attempt)
        outcome = self._judge(attempt, progress, result, error)
        if type(outcome) is Finish and outcome.exhausted:
            return await escalation.after_failure(outcome, attempt, progress.workflow, self._equipment)
        return outcome

    def _ready(self, attempt: Attempt, progress: Progress) -> tuple[Workflow, tuple[Any, ...]]:
        record = attempt.run
        try:
            workflow = self._registry.get(record.workflow)
        except UnknownWorkflow as error:
            raise _Unreadable(Reason.UNKNOWN_WORKFLOW, str(error)) from error
        run = Run(progress)
        if not workflow.takes_input:
            return workflow, (run,)
        try:
            if workflow.input_type is None:
                return workflow, (run, from_json(record.input))
            return workflow, (run, workflow.input_type.validate_json(record.input))
        except ValidationError as error:
            broken = any(problem["type"] == "json_invalid" for problem in error.errors(include_url=False))
            raise _Unreadable(Reason.UNDECODABLE if broken else Reason.ERROR, describe_input(error)) from error
        except ValueError as error:
            raise _Unreadable(Reason.UNDECODABLE, f"the input is not JSON: {error}") from error

    def _circumstances(self, attempt: Attempt) -> Ambient:
        run, clock = attempt.run, self._equipment.clock
        deadline = None
        if run.deadline_ms is not None:
            deadline = clock.monotonic() + (run.deadline_ms - clock.now_ms()) / 1000
        return Ambient(
            tenant=run.tenant,
            user=run.user,
            lane=run.lane,
            rank=self._ranks.get(run.lane, len(self._ranks)),
            workflow=run.workflow,
            run_id=run.id,
            deadline=deadline,
        )

    async def _end_calls_left(self, attempt: Attempt) -> None:
        """The workflow has ended, but tasks that it started are still in calls.

        For a drain or a pause they are let finish, because what they do is remembered. Otherwise nobody wants them.
        """
        mine = asyncio.current_task()
        while left := attempt.open_calls - {mine}:
            finishing = attempt.stop in (Stop.STEP, Stop.BUDGET)
            if not finishing:
                for task in left:
                    task.cancel()
            try:
                _, still = await asyncio.wait(left, timeout=None if finishing else GRACE_S)
            except asyncio.CancelledError:
                continue  # the reason to stop became a stronger one; look again
            if still:
                log.warning("run %s: %d calls did not end when cancelled", attempt.run.id, len(still))
            attempt.open_calls -= left

    def _judge(
        self, attempt: Attempt, progress: Progress, result: str | None, error: BaseException | None
    ) -> Verdict:
        stopped = verdict.of_stop(attempt)
        if stopped is not None:
            return stopped
        if error is None:
            return Finish(RunState.SUCCEEDED, Reason.SUCCEEDED, result=result)
        if isinstance(error, _Unreadable):
            return Finish(RunState.FAILED, error.reason, error.detail)
        if isinstance(error, StepNotSerializable):
            return Finish(RunState.FAILED, Reason.ERROR, describe(error))
        if isinstance(error, asyncio.CancelledError):
            return Finish(RunState.FAILED, Reason.INTERRUPTED, "the workflow cancelled itself")
        return verdict.of_error(
            error,
            attempt,
            unknown=progress.journal.unknown,
            attempts_at_most=progress.workflow.attempts,
            now_ms=self._equipment.clock.now_ms(),
            rng=self._equipment.rng,
        )
