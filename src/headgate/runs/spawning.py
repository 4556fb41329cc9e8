"""Spawning a sub-run: judged, given its share of the budget, asked for at the door, remembered. And many at once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from headgate.errors import (
    BudgetExhausted,
    ChildFailed,
    HeadgateError,
    InvalidRequest,
    LoopDetected,
    Rejected,
)
from headgate.model.canonical import decode, digest
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.model.run import LONGEST_DEADLINE_S
from headgate.model.step import Effect, Step, StepState
from headgate.policy.loops import Level
from headgate.policy.run_budget import Ceiling
from headgate.policy.sub_runs import SPAWN_SHARE, judge_chain, share_of, used_up
from headgate.runs.attempt import AttemptStopped, Stop
from headgate.runs.calls import at_ceiling
from headgate.runs.children import SPAWN, ChildRequest, Door
from headgate.runs.journal import Place
from headgate.runs.progress import PLAIN, Progress
from headgate.runs.values import from_json, to_json
from headgate.runs.verdict import THROTTLED_AT_MOST_S
from headgate.store.protocols import Spawn

OnRefusal = Literal["wait", "raise"]


@dataclass(frozen=True, slots=True)
class SpawnWish:
    """What a workflow asks for."""

    workflow: str
    input: Any
    key: str | None = None
    lane: str | None = None
    deadline_s: float | None = None
    share: float = SPAWN_SHARE
    detached: bool = False
    on_refusal: OnRefusal = "wait"


async def spawn(wish: SpawnWish, progress: Progress) -> str:
    """The id of the sub-run. See `headgate.runs.context.Run.spawn`."""
    attempt, journal = progress.attempt, progress.journal
    await attempt.boundary()
    door = _checked(wish, progress)
    text = to_json(wish.input, what="the sub-run's input")
    place = journal.place(wish.workflow, SPAWN, text if wish.key is None else f"key:{wish.key}")
    known = journal.done(place.key)
    if known is not None:
        return _run_id(known)
    with journal.tentative(place):
        await _judge(wish, text, progress)
        while True:
            run_id = await _ask(wish, text, place, progress, door)
            if run_id is not None:
                return run_id


def _checked(wish: SpawnWish, progress: Progress) -> Door:
    problems = []
    if not 0 < wish.share <= 1:
        problems.append(("share", "must be more than 0 and at most 1"))
    if wish.deadline_s is not None and not 0 < wish.deadline_s <= LONGEST_DEADLINE_S:
        problems.append(("deadline_s", "must be more than 0 and at most a year"))
    if wish.on_refusal not in ("wait", "raise"):
        problems.append(("on_refusal", "must be 'wait' or 'raise'"))
    lanes, mine = list(progress.equipment.settings.lanes), progress.attempt.run.lane
    if wish.lane in lanes and mine in lanes and lanes.index(wish.lane) < lanes.index(mine):
        problems.append(("lane", f"{wish.lane!r} goes before {mine!r}, the lane of the run that spawns"))
    if problems:
        raise InvalidRequest(problems)
    door = progress.equipment.door
    if door is None:
        raise HeadgateError("this worker takes no runs in, so its runs cannot spawn any; start it with a Gate")
    return door


async def _judge(wish: SpawnWish, text: str, progress: Progress) -> None:
    """Refuse what nests too deep, or stands above itself.

    Raises:
        BudgetExhausted, LoopDetected.
    """
    attempt = progress.attempt
    run, budget, loops = attempt.run, progress.workflow.budget, progress.workflow.loops
    if run.depth >= budget.depth:
        raise BudgetExhausted("generations of sub-runs", limit=budget.depth, used=run.depth)
    if loops is None:
        return
    above = [(run.workflow, run.input)]
    if run.depth:
        found = await progress.equipment.store.children.ancestors(run.id)
        above += [(one.workflow, one.input) for one in found]
    chain = judge_chain(above, wish.workflow, text, warn=loops.warn)
    if chain.level is Level.FINE:
        return
    name = f"sub-run {wish.workflow}"
    if chain.level is Level.REFUSE:
        words = f"{name} stands above itself with the same input and was not spawned"
        outcome = "refused"
    else:
        words = f"{name} stands {chain.count} times above itself; end the recursion"
        outcome = "warned"
    attempt.warn(words)
    progress.tell("loop_warned", resource=wish.workflow, outcome=outcome, reason="recursion", count=chain.count)
    if chain.level is Level.REFUSE:
        raise LoopDetected(name, why="recursion", count=chain.count)


async def _ask(wish: SpawnWish, text: str, place: Place, progress: Progress, door: Door) -> str | None:
    """The sub-run's id; ``None``: ask again. A refusal is raised, or waited out while the run is suspended."""
    attempt, children, equipment = progress.attempt, progress.children, progress.equipment
    with attempt.call_open():
        await progress.journal.write_choices()
        await attempt.may_call()
        request = _request(wish, text, place, progress, await _grant(wish, progress))
        if not wish.detached:
            children.promise(place.key, request.grant)
        try:
            with attempt.performing_here():
                answer = await door(request)
        except BaseException:
            children.forget(place.key)
            raise
        if not isinstance(answer, Refusal):
            run = answer.run
            children.spawned(place.key, run)
            step = replace(request.spawn.step, result=f'{{"run_id":"{run.id}"}}')
            progress.journal.steps[place.key] = step
            if answer.created:
                progress.tell("run_spawned", child_id=run.id, child_workflow=run.workflow, depth=run.depth)
            return run.id
        children.forget(place.key)
    wait_ms = _refused(answer, wish, progress)
    wake_ms = equipment.clock.now_ms() + wait_ms
    await children.wait_for_room(wake_ms, f"waits to spawn {wish.workflow}: {answer.reason} ({answer.scope})")
    return None


def _refused(refusal: Refusal, wish: SpawnWish, progress: Progress) -> int:
    """How long to wait before asking again.

    Raises:
        AttemptStopped: the run is not ours any more, or is to end.
        BudgetExhausted, ChildFailed, Rejected: asking again does not help, or is not wanted.
    """
    attempt = progress.attempt
    if refusal.reason is Reason.LEASE_EXPIRED:
        raise attempt.lose()
    if refusal.reason is Reason.CANCELLED:
        attempt.request_stop(Stop.CANCEL)
        attempt.signalled = True
        raise AttemptStopped
    if refusal.reason is Reason.BUDGET_EXHAUSTED:
        raise BudgetExhausted(refusal.unit, limit=refusal.limit or 0, used=refusal.used or 0)
    wait_ms = refusal.retry_after_ms
    if wait_ms is None and refusal.run_id is not None:
        raise ChildFailed(wish.workflow, refusal.run_id, state="failed", reason=refusal.reason, detail=refusal.detail)
    run, now_ms = attempt.run, progress.equipment.clock.now_ms()
    latest_ms = run.deadline_ms
    if latest_ms is None:
        latest_ms = (run.started_ms or now_ms) + round(1000 * THROTTLED_AT_MOST_S)
    if wait_ms is None or wish.on_refusal == "raise" or now_ms + wait_ms >= latest_ms:
        raise Rejected(
            refusal.reason,
            scope=refusal.scope,
            retry_after_s=None if wait_ms is None else wait_ms / 1000,
            limit=refusal.limit,
            used=refusal.used,
            advice=refusal.detail,
            rule=refusal.rule,
        )
    return wait_ms


async def _grant(wish: SpawnWish, progress: Progress) -> Ceiling:
    """What the sub-run may use. At a ceiling of the run it waits for sub-runs that hold some of it, or is paused."""
    ceiling = progress.equipment.settings.workflows.get(wish.workflow, PLAIN).budget.ceiling
    attempt = progress.attempt
    while not wish.detached:
        left = attempt.meter.remaining(ran_s=attempt.ran_s)
        empty = used_up(left)
        if empty is None:
            return share_of(left, ceiling, wish.share)
        limits = {"calls": attempt.meter.ceiling.calls, "model tokens": attempt.meter.ceiling.model_tokens}
        limit = limits.get(empty, attempt.meter.ceiling.money) or 0
        await at_ceiling(BudgetExhausted(empty, limit=limit, used=limit), progress)
    return ceiling


def _request(wish: SpawnWish, text: str, place: Place, progress: Progress, grant: Ceiling) -> ChildRequest:
    run, budget = progress.attempt.run, progress.workflow.budget
    equipment = progress.equipment
    now_ms = equipment.clock.now_ms()
    lane = wish.lane
    if lane is None and run.lane in equipment.settings.lanes:
        lane = run.lane
    step = Step(
        key=place.key,
        seq=place.seq,
        resource=place.resource,
        function=place.function,
        nth=place.nth,
        effect=Effect.IDEMPOTENT,
        state=StepState.DONE,
        result=None,
        queued_ms=0,
        ran_ms=0,
        tries=0,
        degraded=None,
        model_tokens=0,
        started_ms=now_ms,
        finished_ms=now_ms,
    )
    return ChildRequest(
        workflow=wish.workflow,
        input_text=text,
        tenant=run.tenant,
        user=run.user,
        lane=lane,
        deadline_ms=None if wish.deadline_s is None else now_ms + round(1000 * wish.deadline_s),
        latest_ms=None if wish.detached else run.deadline_ms,
        grant=grant,
        spawn=Spawn(
            key=digest(SPAWN, run.origin_id, place.key),
            parent_id=run.id,
            owner=run.owner or "",
            term=run.term,
            detached=wish.detached,
            step=step,
            fan_out=budget.fan_out,
            descendants=budget.descendants,
        ),
    )


def _run_id(step: Step) -> str:
    run_id: str = decode(step.result or "{}")["run_id"]
    return run_id


class SubRun:
    """A run that this run has spawned."""

    __slots__ = ("_progress", "detached", "id", "workflow")

    def __init__(self, progress: Progress, workflow: str, run_id: str, *, detached: bool) -> None:
        self._progress = progress
        self.id, self.workflow, self.detached = run_id, workflow, detached

    def __repr__(self) -> str:
        return f"<SubRun {self.id} of {self.workflow}>"

    async def result(self, returns: Any = None) -> Any:
        """What its workflow returned, once it has succeeded; as a ``returns`` if that is given.

        Until then the run is suspended and holds nothing, after its other branches came to rest.

        Raises:
            ChildFailed: it ended otherwise.
            HeadgateError: it is detached, and nobody here waits for it.
        """
        if self.detached:
            raise HeadgateError(f"the sub-run {self.id} is detached; its result is not waited for here")
        attempt, children = self._progress.attempt, self._progress.children
        await attempt.boundary()
        while True:
            with attempt.call_open():  # a branch that can go on is not cut short by one that waits
                if not await children.still_open((self.id,)):
                    return from_json(await children.outcome(self.workflow, self.id), returns)
            await children.wait((self.id,))


async def spawn_each(
    wish: SpawnWish, inputs: Iterable[Any], progress: Progress, *, at_most: int | None, return_exceptions: bool
) -> list[Any]:
    """See `headgate.runs.context.Run.map`."""
    given, children = list(inputs), progress.children
    if at_most is not None and at_most < 1:
        raise InvalidRequest([("at_most", "must be at least 1")])
    fan_out = progress.workflow.budget.fan_out
    if len(given) > fan_out:
        raise BudgetExhausted("sub-runs of its own", limit=fan_out, used=0)
    ids: list[str] = []
    for item in given:
        while at_most is not None:
            with progress.attempt.call_open():
                running = await children.still_open(ids)
            if len(running) < at_most:
                break
            await children.wait(*((run_id,) for run_id in running))
        one = replace(wish, input=item, share=1 / (len(given) - len(ids)))
        ids.append(await spawn(one, progress))
    results = await _results(wish.workflow, ids, progress)
    failures = [one for one in results if isinstance(one, ChildFailed)]
    if failures and not return_exceptions:
        raise failures[0]
    return results


async def _results(workflow: str, ids: Sequence[str], progress: Progress) -> list[Any]:
    while True:
        with progress.attempt.call_open():
            left = await progress.children.still_open(ids)
            if not left:
                return [await _result_or_failure(workflow, run_id, progress) for run_id in ids]
        await progress.children.wait(left)


async def _result_or_failure(workflow: str, run_id: str, progress: Progress) -> Any:
    try:
        return from_json(await progress.children.outcome(workflow, run_id))
    except ChildFailed as failure:
        return failure


__all__: Sequence[str] = ["OnRefusal", "SpawnWish", "SubRun", "spawn", "spawn_each"]
