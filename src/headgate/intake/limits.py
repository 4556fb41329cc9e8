"""Which bounds and rates a run must pass, looked up from the settings once per kind of run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

from headgate.config.settings import GateSettings, LimitRule, Mode, WhenFull, WorkflowSettings
from headgate.intake.in_force import NOTHING, InForce
from headgate.policy.token_bucket import RateTake
from headgate.store.protocols import DepthBound

DEGRADE_FROM = 0.8
"""With ``when_full: degrade`` the rest of the queue is open only on the cheaper path."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything about one (workflow, tenant, lane) that does not depend on the single request."""

    workflow: WorkflowSettings
    lane: str
    ahead_of: tuple[str, ...]
    bounds: tuple[DepthBound, ...]
    rates: tuple[RateTake, ...]
    per_user: tuple[RateTake, ...]
    """Templates whose key and name still lack the user."""
    queue_ms: int
    weight: float
    sheddable: bool


class RuleBook:
    """Answers which rules apply. Lookups over frozen settings and what is set by hand, remembered for the busiest
    kinds."""

    def __init__(self, settings: GateSettings) -> None:
        self._settings = settings
        self._lanes = tuple(settings.lanes)
        self._in_force = NOTHING
        self.rules = lru_cache(maxsize=4096)(self._rules)

    def use(self, in_force: InForce) -> None:
        """From now on, with these numbers set by hand."""
        self._in_force = in_force
        self.rules.cache_clear()

    def _rules(self, name: str, tenant: str, lane: str | None) -> Rules:
        settings = self._settings
        workflow = settings.workflows.get(name, WorkflowSettings(lane=self._default_lane()))
        lane = lane or workflow.lane
        lane_settings = settings.lanes[lane]
        waits = [workflow.queue.max_age]
        if lane_settings.max_wait is not None:
            waits.append(lane_settings.max_wait)
        rates = [self._take(rule, name, tenant) for rule in self._matching(name, tenant) if rule.per != "user"]
        per_user = [self._take(rule, name, tenant) for rule in self._matching(name, tenant) if rule.per == "user"]
        return Rules(
            workflow=workflow,
            lane=lane,
            ahead_of=self._lanes[: self._lanes.index(lane)],
            bounds=tuple(self._bounds(name, tenant, workflow)),
            rates=tuple(rates),
            per_user=tuple(per_user),
            queue_ms=round(1000 * min(waits)),
            weight=settings.tenants[tenant].weight if tenant in settings.tenants else 1.0,
            sheddable=lane_settings.sheddable,
        )

    def knows_lane(self, lane: str) -> bool:
        return lane in self._settings.lanes

    @property
    def lanes(self) -> tuple[str, ...]:
        return self._lanes

    def for_user(self, rules: Rules, tenant: str, user: str | None) -> tuple[RateTake, ...]:
        """The rates of ``rules`` with those that are per user filled in; a run without a user has none of them."""
        if user is None or not rules.per_user:
            return rules.rates
        mine = tuple(replace(take, key=f"{take.key}/{tenant}/{user}", name=f"user:{user}") for take in rules.per_user)
        return (*rules.rates, *mine)

    def _default_lane(self) -> str:
        return "standard" if "standard" in self._settings.lanes else self._lanes[-1]

    def _bounds(self, name: str, tenant: str, workflow: WorkflowSettings) -> list[DepthBound]:
        queue = workflow.queue
        depth = self._in_force.depth(name, queue.depth)
        degrade_from = None
        if workflow.when_full is WhenFull.DEGRADE:
            degrade_from = int(DEGRADE_FROM * depth)
        bounds = [
            DepthBound(f"workflow:{name}", workflow=name, depth=depth, bytes=queue.bytes, degrade_from=degrade_from)
        ]
        if queue.per_tenant is not None:
            bounds.append(DepthBound(f"tenant:{tenant}", workflow=name, tenant=tenant, depth=queue.per_tenant))
        return bounds

    def _matching(self, name: str, tenant: str) -> list[LimitRule]:
        return [
            rule
            for rule in self._settings.limits
            if rule.runs is not None and rule.workflow in (None, name) and rule.tenant in (None, tenant)
        ]

    def _take(self, rule: LimitRule, name: str, tenant: str) -> RateTake:
        if rule.runs is None:
            raise ValueError("only rules with a rate of runs are judged at intake")
        of = (
            f"runs/{rule.runs.amount:g}/{rule.runs.window_s:g}/{rule.per}/{rule.workflow or '*'}/{rule.tenant or '*'}"
        )
        rate = self._in_force.rate(rule.name, rule.runs)  # the bucket, named by the declared rate, stays the same
        who = {"fleet": "", "workflow": name, "tenant": tenant, "user": ""}[rule.per]
        label = {"fleet": "fleet", "workflow": f"workflow:{name}", "tenant": f"tenant:{tenant}", "user": "user"}
        return RateTake(
            key=f"{of}/{who}" if who else of,
            name=label[rule.per],
            per_window=rate.amount,
            window_ms=1000 * rate.window_s,
            burst=rule.burst if rate == rule.runs else None,
            shadow=rule.mode is Mode.SHADOW,
        )
