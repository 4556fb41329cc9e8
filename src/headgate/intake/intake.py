"""The door: turns a submission into an offer to the store, and the store's answer into an honest one.

Order, cheapest first: is the request well-formed and within what one run may use; is this process taking anything;
is the lane being shed or memory spent; then one transaction in the store checks every bound and rate and writes the
run, or nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from random import Random

from headgate.clock import Clock
from headgate.config.settings import GateSettings
from headgate.errors import InvalidRequest, UnknownWorkflow
from headgate.intake.by_hand import drained, full_and_paused
from headgate.intake.coming_back import ComingBack
from headgate.intake.feasible import Feasibility
from headgate.intake.in_force import NOTHING, InForce
from headgate.intake.limit_keys import Asked
from headgate.intake.limits import Demand, RuleBook, Rules
from headgate.intake.outlook import Outlook
from headgate.intake.own_ceilings import beyond
from headgate.intake.people import SCOPE as OF_PEOPLE
from headgate.intake.places import Places
from headgate.intake.replays import Pace
from headgate.intake.standing import Times, times
from headgate.intake.submission import Submission, check
from headgate.intake.when_full import WaysIn, held_back_ms, tell
from headgate.model.canonical import digest
from headgate.model.cost import Evidence
from headgate.model.decision import Admission, Refusal
from headgate.model.duplicates import Duplicates
from headgate.model.ids import is_uuid, uuid7
from headgate.model.reason import Reason
from headgate.model.run import RunRecord, RunState
from headgate.observe.bus import EventBus
from headgate.policy.feasibility import Wish, tightness
from headgate.policy.pause import NOTHING_HELD
from headgate.policy.run_cost import estimated
from headgate.policy.run_order import sorted_by
from headgate.store.protocols import RunOffer, Store

DRAIN_RETRY_MS = 5_000
"""A draining process is usually replaced within seconds."""


class Intake:
    """Admits runs. One per process; any number of callers at once."""

    def __init__(
        self,
        settings: GateSettings,
        store: Store,
        *,
        clock: Clock,
        rng: Random,
        bus: EventBus,
        outlook: Outlook,
        workflows: Callable[[], Collection[str]],
    ) -> None:
        self._settings = settings
        self._store = store
        self._clock = clock
        self._rng = rng
        self._bus = bus
        self._outlook = outlook
        self._workflows = workflows
        self._book = RuleBook(settings)
        self._places = Places()
        self._ways_in = WaysIn(settings, outlook)
        self._feasibility = Feasibility(settings, outlook)
        self._coming_back = ComingBack(outlook, self._feasibility)
        self._in_force = NOTHING
        self.draining = False

    def use(self, in_force: InForce) -> None:
        """From now on, with these bounds and pauses set by hand."""
        self._in_force = in_force
        self._book.use(in_force)

    async def submit(self, wanted: Submission) -> Admission | Refusal:
        """Take the run in, or say why not.

        Raises:
            InvalidRequest: the submission is malformed; all mistakes are listed.
            UnknownWorkflow: nobody here carries out such a workflow.
            StoreError: the store cannot take a write now; nothing was stored.
        """
        if wanted.workflow not in self._settings.workflows and wanted.workflow not in self._workflows():
            raise UnknownWorkflow(self._unknown(wanted.workflow))
        if wanted.lane is not None and not self._book.knows_lane(wanted.lane):
            raise InvalidRequest([("lane", f"unknown; the lanes are {', '.join(self._book.lanes)}")])
        text = check(wanted, max_bytes=self._settings.server.max_body)
        rules = self._book.rules(wanted.workflow, wanted.tenant, wanted.lane)
        now_ms = self._clock.now_ms()
        deadline_ms = wanted.deadline_ms
        if deadline_ms is None and rules.workflow.deadline is not None:
            deadline_ms = now_ms + round(1000 * rules.workflow.deadline)
        if wanted.latest_ms is not None:
            deadline_ms = wanted.latest_ms if deadline_ms is None else min(deadline_ms, wanted.latest_ms)
        early = self._refuse_early(wanted, rules, text, now_ms, deadline_ms)
        wish = None
        if early is None:
            wish = self._wish(wanted, rules, now_ms, deadline_ms)
            if wish is not None:
                may = self._feasibility.never(wish, wanted.workflow, now_ms=now_ms)
                early, wish = (may, None) if isinstance(may, Refusal) else (None, may)
        if early is not None and wanted.idempotency_key is None and wanted.spawn is None:
            return self._refused(wanted, rules, early)
        offer = self._ways_in.open(self._offer(wanted, rules, text, now_ms, deadline_ms, wish), rules.workflow)
        if early is not None:  # but a caller whose answer was lost must hear that its run was taken in before
            offer = replace(offer, refusal=early)
        answer = await self._store.admissions.admit(offer)
        if wish is not None:
            self._note_lateness(wanted, rules.lane, wish, answer, now_ms)
        if isinstance(answer, Refusal):
            return self._refused(wanted, rules, answer, wish)
        return self._admitted(rules, answer)

    async def replay(
        self, run_id: str, *, tenant: str | None = None, assume: str | None = None, pace: Pace | None = None
    ) -> Admission | Refusal:
        """Ask for a dead letter to be carried out again, as a new run that remembers its finished steps.

        It is admitted like any other run, and within ``pace``. ``assume`` says what became of ``once`` steps whose
        outcome is unknown.

        Raises:
            InvalidRequest: ``assume`` is neither ``done`` nor ``not_done``.
            UnknownWorkflow: nobody here carries out its workflow any more.
        """
        source = await self._store.runs.get(run_id, tenant=tenant) if is_uuid(run_id) else None
        if source is None:
            return Refusal(Reason.UNKNOWN_RUN, "run", f"there is no run {run_id}", run_id=run_id)
        return await self.submit(
            Submission(
                workflow=source.workflow,
                input_text=source.input,
                tenant=source.tenant,
                user=source.user,
                lane=source.lane if self._book.knows_lane(source.lane) else None,
                replay_of=source.id,
                origin_id=source.origin_id,
                assume=assume,
                pace=pace,
            )
        )

    async def locate(self, run_id: str, *, tenant: str | None = None) -> Admission | None:
        """A stored run with its present position and ETA; ``None`` if unknown (or another tenant's)."""
        run = await self._store.runs.get(run_id, tenant=tenant) if is_uuid(run_id) else None
        if run is None:
            return None
        ahead = self._book.ahead_of(run.lane)
        position = 0
        if run.state is RunState.QUEUED:
            position = await self._store.runs.position(run, ahead_of=ahead)
        return self._standing(Admission(run, created=False, position=position), ahead)

    def _note_lateness(
        self, wanted: Submission, lane: str, wish: Wish, answer: Admission | Refusal, now_ms: int
    ) -> None:
        if isinstance(answer, Refusal):
            tight = 1.0 if answer.reason is Reason.TOO_LATE else None
        else:
            tight = None if answer.finish_ms is None else tightness(wish, answer.finish_ms / 1000)
        if tight is not None:
            self._outlook.lateness.note(wanted.workflow, lane, tight, now_ms=now_ms)
            self._outlook.excess.felt(wanted.tenant, tight, now_ms=now_ms)

    def _refuse_early(
        self, wanted: Submission, rules: Rules, text: str, now_ms: int, deadline_ms: int | None
    ) -> Refusal | None:
        too_much = beyond(wanted.workflow, wanted.grant or rules.workflow.budget.ceiling, wanted.cost)
        if too_much is not None:  # before all that a later try could get past
            return too_much
        if self.draining:
            return Refusal(
                Reason.DRAINING, "server", "this server is shutting down", retry_after_ms=self._jitter(DRAIN_RETRY_MS)
            )
        drain = self._in_force.drain
        if drain is not None and wanted.spawn is None:  # sub-runs are part of work that is to be finished
            return self._later(drained(drain, now_ms=now_ms))
        if deadline_ms is not None and deadline_ms <= now_ms:
            return Refusal(Reason.DEADLINE_UNREACHABLE, "deadline", "the deadline has passed already")
        pressure = self._outlook.pressure
        if pressure.memory >= 1.0:
            return Refusal(
                Reason.OVER_BUDGET,
                "fleet",
                "the memory budget is used up",
                limit=self._outlook.settings.budget.memory,
                used=self._outlook.resident_bytes(),
                retry_after_ms=self._jitter(DRAIN_RETRY_MS),
                unit="content-bytes",
            )
        outlook, asks = self._outlook, rules.workflow.asks
        left_s = None if deadline_ms is None else (deadline_ms - now_ms) / 1000
        if asks and (behind := outlook.people_refusal(asks, wanted.workflow, rules.lane, left_s)) is not None:
            people = outlook.people
            wait_ms = outlook.come_back_ms(behind.scope, people.rate(behind.scope), over_ms=people.over_ms(behind))
            return replace(behind, retry_after_ms=wait_ms)
        spawned = wanted.spawn is not None
        if not spawned:
            outlook.excess.offer(wanted.tenant, rules.lane, self._cost(wanted.workflow, rules.workflow.cost, text))
            if (own := outlook.excess.refusal(wanted.tenant, rules.lane)) is not None:
                outlook.lateness.note(wanted.workflow, rules.lane, 1.0, now_ms=now_ms)
                return own
        return self._outlook.shed(
            rules.lane, wanted.tenant, rules.workflow.cost, workflow=wanted.workflow, spawned=spawned
        )

    def _offer(
        self, wanted: Submission, rules: Rules, text: str, now_ms: int, deadline_ms: int | None, wish: Wish | None
    ) -> RunOffer:
        workflow = rules.workflow
        run_id = uuid7(now_ms, self._rng.getrandbits)
        body_hash = ""
        if wanted.idempotency_key is not None:
            deadline = (
                "" if wanted.deadline_ms is None else "set"
            )  # a moment moves between two tries; its presence counts
            body_hash = digest(
                wanted.workflow,
                wanted.tenant,
                wanted.user or "",
                wanted.lane or "",
                deadline,
                text,
                wanted.replay_of or "",
            )
        queue_deadline_ms = now_ms + rules.queue_ms
        demand = self._demand(wanted, rules, text)
        budget = wanted.grant or workflow.budget.ceiling
        return RunOffer(
            id=run_id,
            origin_id=wanted.origin_id or run_id,
            replay_of=wanted.replay_of,
            workflow=wanted.workflow,
            tenant=wanted.tenant,
            user=wanted.user,
            lane=rules.lane,
            input=text,
            now_ms=now_ms,
            available_ms=now_ms,
            queue_deadline_ms=queue_deadline_ms,
            deadline_ms=deadline_ms,
            cost=self._cost(wanted.workflow, workflow.cost, text),
            weight=rules.weight,
            idempotency_key=wanted.idempotency_key,
            body_hash=body_hash,
            content_key=None,
            duplicates=Duplicates.ALLOW,
            bounds=self._places.bounds(wanted.workflow, rules, now_ms),
            rates=demand.rates if wanted.pace is None else (*demand.rates, wanted.pace.take),
            needs=demand.needs,
            budget_calls=budget.calls,
            budget_model_tokens=None if budget.model_tokens is None else int(budget.model_tokens),
            budget_money=budget.money,
            budget_wall_ms=None if budget.wall_s is None else round(1000 * budget.wall_s),
            ahead_of=rules.ahead_of,
            assume=wanted.assume,
            spawn=wanted.spawn,
            order_ms=sorted_by(rules.order, submitted_ms=now_ms, deadline_ms=deadline_ms),
            wish=wish,
            remember_promise=wish is not None and self._feasibility.remember(now_ms),
            held_back=self._in_force.held_back if wish is not None and self._in_force.pauses else NOTHING_HELD,
        )

    def _demand(self, wanted: Submission, rules: Rules, text: str) -> Demand:
        if not self._book.asks_for_estimates(rules):
            return Demand(rules.rates)
        estimate = self._outlook.estimates.of(wanted.workflow, len(text), wanted.cost)
        asked = Asked(wanted.workflow, wanted.tenant, rules.lane, wanted.user, wanted.api_key, text)
        return self._book.demand(rules, asked, estimate)

    def _cost(self, workflow: str, factor: float, text: str) -> float:
        """What a tenant is charged for the run at first, in fairness units."""
        estimate = self._outlook.estimates.of(workflow, len(text))
        known = estimate.evidence not in (Evidence.NONE, Evidence.DECLARED)
        return estimated(factor, estimate.ran_s if known else None)

    def _wish(self, wanted: Submission, rules: Rules, now_ms: int, deadline_ms: int | None) -> Wish | None:
        """What a forecast of this run is made from. What is paused waits for somebody, and nobody knows how long."""
        if self._in_force.pause_of(wanted.workflow, rules.lane, wanted.tenant) is not None:
            return None
        return self._feasibility.wish(rules, wanted.workflow, now_ms=now_ms, deadline_ms=deadline_ms)

    def _refused(self, wanted: Submission, rules: Rules, refusal: Refusal, wish: Wish | None = None) -> Refusal:
        paused = self._in_force.pause_of(wanted.workflow, rules.lane, wanted.tenant)
        of_people = refusal.scope.startswith(OF_PEOPLE)  # they answer no sooner if a tenant's other runs are refused
        if refusal.reason in (Reason.SHED, Reason.QUEUE_FULL) and paused is None and not of_people:
            self._outlook.excess.felt(wanted.tenant, 1.0, now_ms=self._clock.now_ms())
        if refusal.reason is Reason.QUEUE_FULL and paused is not None:
            refusal = self._later(full_and_paused(refusal, paused, now_ms=self._clock.now_ms()))
        elif refusal.reason in (Reason.TOO_LATE, Reason.SHED) or (
            refusal.reason in (Reason.QUEUE_FULL, Reason.CONCURRENCY) and refusal.retry_after_ms is not None
        ):
            refusal = self._coming_back.told(refusal, wanted, rules, wish)
        elif refusal.retry_after_ms is not None and refusal.reason in (Reason.RATE_LIMITED, Reason.OVER_BUDGET):
            refusal = self._later(refusal)
        if self._bus.active:
            self._bus.emit(
                "run_refused",
                workflow=wanted.workflow,
                tenant=wanted.tenant,
                lane=rules.lane,
                scope=refusal.scope,
                reason=refusal.reason.value,
                queue_depth=refusal.used,
                queue_limit=refusal.limit,
                retry_after_ms=refusal.retry_after_ms,
            )
        return refusal

    def _standing(self, answer: Admission, ahead_of: tuple[str, ...]) -> Admission:
        """The same with what is known now of its start and finish."""
        run, paused = answer.run, self._paused(answer.run)
        now_ms = self._clock.now_ms()
        told = Times(held_back_ms(run, now_ms))
        if paused is None and told.eta_ms is None:
            told = times(self._outlook, run, ahead_of=ahead_of, position=answer.position, now_ms=now_ms)
        return replace(
            answer,
            paused=paused,
            eta_ms=told.eta_ms,
            eta_p90_ms=told.eta_p90_ms,
            finish_ms=told.finish_ms,
            finish_p90_ms=told.finish_p90_ms,
        )

    def _admitted(self, rules: Rules, answer: Admission) -> Admission:
        run = answer.run
        if answer.created:
            self._outlook.excess.admitted(run.cost)
        if self._bus.active and answer.created:
            first = answer.limits[0] if answer.limits else None
            self._bus.emit(
                "run_admitted",
                workflow=run.workflow,
                tenant=run.tenant,
                lane=run.lane,
                run_id=run.id,
                queue_depth=None if first is None else first.limit - first.remaining,
                queue_limit=None if first is None else first.limit,
                degraded=run.degraded,
            )
            for scope in answer.shadowed:  # rates are the only limits of runs that can be tried in shadow
                self._bus.emit(
                    "run_refused",
                    workflow=run.workflow,
                    tenant=run.tenant,
                    lane=run.lane,
                    run_id=run.id,
                    scope=scope,
                    reason=Reason.RATE_LIMITED.value,
                    shadow=True,
                )
        tell(self._bus, answer)
        return answer if answer.finish_ms is not None else self._standing(answer, rules.ahead_of)

    def _paused(self, run: RunRecord) -> str | None:
        """What is paused so that nobody takes the run up, if it waits."""
        pause = self._in_force.pause_of(run.workflow, run.lane, run.tenant) if self._in_force.pauses else None
        return None if pause is None or run.state is not RunState.QUEUED else pause.target

    def _later(self, refusal: Refusal) -> Refusal:
        """The same with its wait spread."""
        return replace(refusal, retry_after_ms=self._jitter(refusal.retry_after_ms or 1))

    def _jitter(self, wait_ms: int) -> int:
        return max(1, round(wait_ms * (1 + self._rng.random() / 4)))

    def _unknown(self, name: str) -> str:
        known = sorted({*self._settings.workflows, *self._workflows()})
        return f"there is no workflow {name!r}; known: {', '.join(known) or 'none'}"
