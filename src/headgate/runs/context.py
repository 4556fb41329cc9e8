"""`Run`: what a workflow's code holds. Everything it does in the world goes through here, and is remembered."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Literal

from headgate.model.canonical import decode
from headgate.model.degradation import Degradation
from headgate.model.step import Effect
from headgate.policy.sub_runs import SPAWN_SHARE
from headgate.runs import approvals
from headgate.runs.budget import Remaining
from headgate.runs.calls import CallWish, make_call
from headgate.runs.looks import look
from headgate.runs.postponing import names_of
from headgate.runs.progress import Progress
from headgate.runs.spawning import OnRefusal, SpawnWish, SubRun, spawn, spawn_each
from headgate.runs.values import to_json

CHOICES_AT_MOST = 1000
"""Remembered uses of one knob per run; later uses keep the last value."""

WARNINGS_FOR_MODEL = 3

log = logging.getLogger("headgate.runs")

EffectName = Literal["pure", "idempotent", "once"]


class Run:
    """One run, in the hands of its workflow.

    Between its steps a workflow must be deterministic: on a resumed run it is executed again from its beginning,
    with the remembered results in place of the calls. Time, randomness and everything from outside therefore
    belong into steps.
    """

    __slots__ = ("_chosen", "_log", "_progress", "_row")

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._row = progress.attempt.run
        self._chosen: dict[str, int] = {}
        self._log: logging.LoggerAdapter[logging.Logger] | None = None

    def __repr__(self) -> str:
        return f"<Run {self.id} of {self.workflow}, attempt {self.attempt}>"

    # -- whose run this is --------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        return self._row.id

    @property
    def workflow(self) -> str:
        return self._row.workflow

    @property
    def tenant(self) -> str:
        return self._row.tenant

    @property
    def user(self) -> str | None:
        return self._row.user

    @property
    def lane(self) -> str:
        return self._row.lane

    @property
    def input(self) -> Any:
        """The input as it was submitted: a JSON value."""
        return decode(self._row.input)

    @property
    def deadline_ms(self) -> int | None:
        """Wall-clock milliseconds after which nobody wants the result."""
        return self._row.deadline_ms

    @property
    def attempt(self) -> int:
        """How often the run was taken up by a worker, this time included (1 is the first)."""
        return self._row.term

    @property
    def budget(self) -> Remaining:
        """What it may still use; ``run.budget.words()`` says it to a model in one sentence. The answer is remembered:
        a resumed run sees the same at the same place, so that prompts with it stay what they were."""
        return Remaining(**look(self._progress, "budget", lambda: asdict(self._remaining())))

    def _remaining(self) -> Remaining:
        attempt, clock = self._progress.attempt, self._progress.equipment.clock
        deadline_ms = self._row.deadline_ms
        left_s = None if deadline_ms is None else (deadline_ms - clock.now_ms()) / 1000
        return attempt.meter.remaining(ran_s=attempt.ran_s, deadline_s=left_s)

    @property
    def warnings(self) -> list[str]:
        """What this attempt was warned of so far: loops, prompts that nearly fill their window. Remembered like
        `budget`."""
        warnings: list[str] = look(self._progress, "warnings", lambda: list(self._progress.attempt.warnings))
        return warnings

    def warnings_for_model(self) -> str:
        """The latest warnings as a short text for a prompt; empty if there are none."""
        latest = self.warnings[-WARNINGS_FOR_MODEL:]
        return "" if not latest else "Warnings: " + " ".join(f"({n}) {words}" for n, words in enumerate(latest, 1))

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """A logger that carries the run's id, workflow and tenant in every record."""
        if self._log is None:
            self._log = logging.LoggerAdapter(
                log, {"run_id": self.id, "workflow": self.workflow, "tenant": self.tenant}
            )
        return self._log

    @property
    def degraded(self) -> list[str]:
        """What was done more cheaply so far, e.g. ``large -> small``, ``hits=5``, ``without enrich``."""
        return self._progress.attempt.cheaper.words

    @property
    def degradations(self) -> list[dict[str, Any]]:
        """The same with what it would have been and why: ``what``, ``from``, ``to``, ``why``."""
        return [one.view() for one in self._progress.attempt.cheaper.found]

    # -- doing things -------------------------------------------------------------------------------------------

    async def call(
        self,
        resource: str,
        function: Callable[..., Any],
        /,
        *args: Any,
        effect: EffectName | Effect = Effect.IDEMPOTENT,
        key: str | None = None,
        returns: Any = None,
        model_tokens: int | None = None,
        check: Callable[[Any], bool] | None = None,
        postponable: bool | str = False,
        repeats: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Call ``function(*args, **kwargs)`` under the guard of ``resource`` and remember what it returned.

        The answer is a JSON value (what the function returned, written as JSON and read back), or a ``returns`` if
        that is given. It is durable before this returns; when the run is resumed or retried, it is answered from
        memory. The step is known by resource, function, arguments and how often the same was done before: a call
        that failed and is made again by the workflow is the same step, with the same idempotency key.

        Args:
            effect: ``pure`` (may be repeated), ``idempotent`` (may be repeated with the same idempotency key,
                which the function finds in its circumstances), ``once`` (must not be repeated: the intent is
                written first).
            key: stands for the arguments in the step's identity; needed where they have no JSON form.
            returns: any type that pydantic can read from JSON.
            model_tokens: estimate of what the call takes, held in the run's and the resource's budgets.
            check: whether an answer is usable; one that is not (a model's malformed output) is a failure of the
                resource and is tried again under its ``retry`` settings and budget.
            postponable: a rung of the ladder may put the call off, by the resource's name or by the one given here.
                It then returns `Postponed` at once; after the run has succeeded, a follow-up makes the call. For
                calls whose answer the rest of the workflow does not need.
            repeats: it is meant to be made again and again with the same arguments (polling); the loop detection does
                not count it. What ends it is the workflow, the run's budget and its deadline.

        A ``once`` call whose function raised may have taken effect, unless the dependency said that the request
        was wrong (4xx): the step then stays begun, and later attempts of the run end as ``unknown_outcome``.

        Raises:
            Overloaded: the resource refused; or no answer passed ``check``, and so many did not lately that a repair
                is not affordable. UnusableResult: no answer passed it. LoopDetected: the call was made too often
                without getting anywhere.
            BudgetExhausted: the run's own ceiling is reached and its budget says ``at_ceiling: fail``; otherwise the
                run is paused here.
            UnknownOutcome: a ``once`` step was begun before, by this attempt or one that vanished, and nobody knows
                how it ended.
            StepNotSerializable: arguments or result have no JSON form. UnknownResource: nothing of that name.
            Exception: whatever the function raised; failures are not remembered.
        """
        names = names_of(resource, postponable)
        wish = CallWish(
            resource, function, args, kwargs, Effect(effect), key, returns, model_tokens, check, names, repeats
        )
        return await make_call(wish, self._progress)

    @asynccontextmanager
    async def stage(self, name: str) -> AsyncIterator[None]:
        """Hold a slot of the stage ``name``: a bounded part of the workflow, which slows what comes before it.

        Raises:
            Overloaded: no slot within the stage's bounds. UnknownResource: there is no such stage.
        """
        resource = self._progress.equipment.resources.get(name)
        await self._progress.attempt.may_call()
        async with resource.slot():
            yield

    async def approval(self, queue: str, payload: Any) -> dict[str, Any]:
        """Ask people, and wait without holding anything (the run is suspended until somebody answers).

        Returns ``{"approved_by": ..., "note": ...}``. Before that, other branches of the workflow come to rest: none
        of them is in a call.

        Raises:
            ApprovalDenied: somebody said no, or nobody answered in time and the queue's rule is to deny.
            Overloaded: the queue of questions is full. UnknownResource: there is no such queue.
        """
        return await approvals.ask(queue, payload, self._progress)

    # -- having things done by other runs -------------------------------------------------------------------------

    async def spawn(
        self,
        workflow: str,
        input: Any = None,
        *,
        key: str | None = None,
        lane: str | None = None,
        deadline_s: float | None = None,
        share: float = SPAWN_SHARE,
        detached: bool = False,
        on_refusal: OnRefusal = "wait",
    ) -> SubRun:
        """Have ``workflow`` carried out as a run of its own, once, also when this one is resumed or replayed.

        It comes in like any other run, for the same tenant and user. When this run ends, however, an unfinished
        sub-run is cancelled.

        Args:
            input: any JSON value.
            key: stands for the input in the step's identity.
            lane: this run's lane by default; never one that goes before it.
            deadline_s: seconds from now; it never passes this run's deadline.
            share: how much of what this run has left of calls, model tokens and money it may use, above 0 up to 1
                and within its workflow's own ceilings. What it does not use comes back when it ends.
            detached: it lives on when this run ends, with its workflow's own budget; nobody here waits for it.
            on_refusal: ``wait`` suspends this run until there may be room, at the latest until its deadline (without
                one, a day after its start); ``raise`` raises `Rejected`.

        Raises:
            Rejected: refused, and waiting is not wanted, not possible in time or of no use.
            BudgetExhausted: too many sub-runs, too many in the whole tree, or nested too deep.
            LoopDetected: the same workflow with the same input stands above it.
            ChildFailed: it goes back to a run whose ``once`` step has an unknown outcome.
            InvalidRequest: an argument is malformed. UnknownWorkflow: there is no such workflow.
        """
        wish = SpawnWish(workflow, input, key, lane, deadline_s, share, detached, on_refusal)
        run_id = await spawn(wish, self._progress)
        return SubRun(self._progress, workflow, run_id, detached=detached)

    async def map(
        self,
        workflow: str,
        inputs: Iterable[Any],
        *,
        at_most: int | None = None,
        return_exceptions: bool = False,
        lane: str | None = None,
        deadline_s: float | None = None,
    ) -> list[Any]:
        """Have ``workflow`` carried out for each of the inputs, and return the results in their order.

        What this run has left is split evenly. It waits for all of them, holding nothing; then the first failure in
        the order of the inputs is raised as `ChildFailed`, or with ``return_exceptions`` stands in its place. What
        succeeded is not done again when this run is replayed.

        Args:
            at_most: so many at once.

        Raises:
            As `spawn`; ChildFailed: a sub-run did not succeed.
        """
        wish = SpawnWish(workflow, None, lane=lane, deadline_s=deadline_s)
        return await spawn_each(wish, inputs, self._progress, at_most=at_most, return_exceptions=return_exceptions)

    # -- doing things more cheaply ------------------------------------------------------------------------------

    def knob(self, name: str, default: Any) -> Any:
        """A number (or word) that the workflow's degrade ladder may change: ``default`` unless a rung says
        otherwise at the pressure of this moment. The answer is remembered, so a resumed run sees the same."""
        if name not in self._progress.ladder.knobs:
            return default
        return self._choose("knob", name, default)

    def allows(self, name: str) -> bool:
        """Whether the optional part ``name`` is to be done: *no* once the ladder skips it. Remembered like `knob`."""
        return name not in self._progress.ladder.skippable or bool(self._choose("allows", name, True))

    async def confirm(self, name: str, payload: Any) -> dict[str, Any] | None:
        """Ask people before the part ``name`` is done, if a rung says ``require_approval: {name: queue}``; below such
        a rung it returns ``None`` at once. Whether to ask is remembered like `knob`.

        Raises:
            As `approval`.
        """
        queue = self._choose("confirm", name, None) if name in self._progress.ladder.confirms else None
        return None if queue is None else await self.approval(queue, payload)

    def _choose(self, kind: str, name: str, default: Any) -> Any:
        progress, used = self._progress, f"{kind} {name}"
        times = self._chosen.get(used, 0)
        self._chosen[used] = times + 1
        identity = str(min(times, CHOICES_AT_MOST))
        place = progress.journal.fixed_place(name, kind, identity)
        known = progress.journal.done(place.key)
        if known is not None and known.result is not None:
            return decode(known.result)
        active, words, found = progress.decide(), None, None
        if kind == "knob":
            value = active.knobs.get(name, default)
        else:
            value = name not in active.skip if kind == "allows" else active.require_approval.get(name)
        if value != default:
            words = {"knob": f"{name}={value}", "allows": f"without {name}"}.get(kind, f"{name} after {value}")
            found = Degradation(name, default, value, progress.why((kind, name)))
            progress.note_degraded(words, found)
        text = to_json(value, what=f"the default of knob {name!r}")
        degradation = None if found is None else found.text()
        now_ms = progress.equipment.clock.now_ms()
        progress.journal.choose(place, text, now_ms, degraded=words, degradation=degradation)
        return value
