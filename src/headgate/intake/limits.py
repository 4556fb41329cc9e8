"""Which bounds, rates and holds a run must pass, looked up from the settings once per kind of run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from headgate.config.settings import GateSettings, LimitAmounts, LimitRule, Mode, WhenFull, WorkflowSettings
from headgate.config.units import Rate
from headgate.intake.in_force import NOTHING, InForce
from headgate.intake.limit_keys import Asked, key_of
from headgate.model.cost import Estimate
from headgate.policy.admission import HELD_BACK
from headgate.policy.holds import MEMORY, TOOL_CALLS, Need
from headgate.policy.run_order import RunOrder
from headgate.policy.token_bucket import RateTake
from headgate.store.protocols import DepthBound

DEGRADE_FROM = 0.8
"""With ``when_full: degrade`` the rest of the queue is open only on the cheaper path."""


@dataclass(frozen=True, slots=True)
class Bucket:
    """A rate, or a number of places, that still lacks the run's key or amount."""

    prefix: str
    paths: tuple[str, ...]
    unit: str
    rate: Rate | None
    """``None``: ``places`` bounds unfinished runs."""
    places: int = 0
    burst: float | None = None
    shadow: bool = False
    resource: str = ""
    """Counts only this resource; with ``resource`` among the paths, each for itself."""
    label: str = ""
    """The scope, where it is not the key."""
    if_used: bool = False
    """Only for runs that are known to use the resource."""
    rule: str = ""
    """Which of the configured limits."""
    declared: float | None = None
    """What it gives but for an override."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything about one (workflow, tenant, lane) that does not depend on the single request."""

    workflow: WorkflowSettings
    lane: str
    ahead_of: tuple[str, ...]
    bounds: tuple[DepthBound, ...]
    rates: tuple[RateTake, ...]
    """Rates of runs whose key is known already."""
    buckets: tuple[Bucket, ...]
    """All others."""
    queue_ms: int
    weight: float
    sheddable: bool
    order: RunOrder


@dataclass(frozen=True, slots=True)
class Demand:
    """What a run asks of rates and of what is held at once."""

    rates: tuple[RateTake, ...]
    needs: tuple[Need, ...] = ()


class RuleBook:
    """Answers which rules apply. Lookups over frozen settings and what is set by hand, remembered for the busiest
    kinds."""

    def __init__(self, settings: GateSettings) -> None:
        self._declared = settings
        self._lanes = tuple(settings.lanes)
        self._holds = settings.budget.memory is not None or settings.budget.tool_calls is not None
        self.rules = lru_cache(maxsize=4096)(self._rules)
        self.use(NOTHING)

    def use(self, in_force: InForce) -> None:
        """From now on, with these numbers set by hand."""
        self._in_force = in_force
        self._settings = settings = in_force.effective(self._declared)
        self._budget = _overridden(_budget_buckets(settings), _budget_buckets(self._declared))
        self._models = _overridden(_model_buckets(settings), _model_buckets(self._declared))
        self.rules.cache_clear()

    def _rules(self, name: str, tenant: str, lane: str | None) -> Rules:
        settings = self._settings
        workflow = settings.workflows.get(name, WorkflowSettings(lane=self._default_lane()))
        lane = lane or workflow.lane
        lane_settings = settings.lanes[lane]
        waits = [workflow.queue.max_age]
        if lane_settings.max_wait is not None:
            waits.append(lane_settings.max_wait)
        asked = Asked(name, tenant, lane)
        rates: dict[str, RateTake] = {}
        buckets: list[Bucket] = []
        for bucket in self._buckets(asked):
            if bucket.unit == "runs" and bucket.rate is not None and _KNOWN.issuperset(bucket.paths):
                for take in _takes(bucket, asked, Estimate()):
                    rates.setdefault(take.key, take)
            else:
                buckets.append(bucket)
        return Rules(
            workflow=workflow,
            lane=lane,
            ahead_of=self.ahead_of(lane),
            bounds=tuple(self._bounds(name, tenant, lane, workflow)),
            rates=tuple(rates.values()),
            buckets=(*buckets, *self._budget, *self._models),
            queue_ms=round(1000 * min(waits)),
            weight=settings.tenants[tenant].weight if tenant in settings.tenants else 1.0,
            sheddable=lane_settings.sheddable,
            order=lane_settings.order,
        )

    def knows_lane(self, lane: str) -> bool:
        return lane in self._settings.lanes

    def ahead_of(self, lane: str) -> tuple[str, ...]:
        """The lanes whose runs start before those of this one, in the same slots."""
        if lane not in self._lanes:
            return self._lanes
        sharing = self._settings.sharing(lane)
        return sharing[: sharing.index(lane)]

    @property
    def lanes(self) -> tuple[str, ...]:
        return self._lanes

    def asks_for_estimates(self, rules: Rules) -> bool:
        """Whether what the run is expected to take matters."""
        return self._holds or bool(rules.buckets)

    def demand(self, rules: Rules, asked: Asked, estimate: Estimate) -> Demand:
        """What the run takes: every level that fits it. A run without a user is not judged per user."""
        rates = {take.key: take for take in rules.rates}
        needs: dict[str, Need] = {}
        for bucket in rules.buckets:
            if bucket.rate is None:
                found = key_of(bucket.paths, asked)
                if found is not None:
                    key = f"{bucket.prefix}/{found[0]}" if found[0] else bucket.prefix
                    name = bucket.label or found[1]
                    need = Need(key, name, "runs", 1, bucket.places, shadow=bucket.shadow, rule=bucket.rule)
                    _keep_apart(needs, need)
                continue
            for take in _takes(bucket, asked, estimate):
                rates.setdefault(take.key, take)
        if self._holds:
            needs |= {need.key: need for need in self._while_running(estimate)}
        return Demand(tuple(rates.values()), tuple(needs.values()))

    def _while_running(self, estimate: Estimate) -> Iterator[Need]:
        budget, declared, stated = self._settings.budget, self._declared.budget, estimate.stated
        if budget.memory is not None and estimate.memory:
            yield Need(
                MEMORY, "fleet", "memory", estimate.memory, budget.memory, running=True, declared=declared.memory
            )
        if budget.tool_calls is not None:
            calls, most = self._tool_calls(estimate), budget.tool_calls
            if calls:
                said = "parallel" in stated
                yield Need(
                    TOOL_CALLS, "fleet", "tool_calls", calls, most,
                    running=True, stated=said, declared=declared.tool_calls,
                )  # fmt: skip

    def _tool_calls(self, estimate: Estimate) -> int:
        """Tool calls in flight at once: as declared; as learned it is the mean over a run's time in its slot. The
        peak is bounded in each process, call by call."""
        if "parallel" in estimate.stated or not estimate.wall_s:
            return estimate.parallel if "parallel" in estimate.stated else 0
        busy_s = math.fsum(use.busy_s for name, use in estimate.per_resource.items() if name in self._settings.tools)
        return math.ceil(busy_s / estimate.wall_s)

    def _default_lane(self) -> str:
        return "standard" if "standard" in self._settings.lanes else self._lanes[-1]

    def _bounds(self, name: str, tenant: str, lane: str, workflow: WorkflowSettings) -> list[DepthBound]:
        queue = workflow.queue
        depth = self._in_force.depth(name, queue.depth)  # also of those that only exist in code
        degrade_from = None
        if workflow.when_full is WhenFull.DEGRADE:
            degrade_from = int(DEGRADE_FROM * depth)
        bounds = [
            DepthBound(f"workflow:{name}", workflow=name, depth=depth, bytes=queue.bytes, degrade_from=degrade_from)
        ]
        most_of_one = queue.per_tenant
        if f"tenant:{tenant}" in self._in_force.pauses:  # what nobody takes up must leave room for the others
            most_of_one = min(most_of_one or depth, max(1, int(HELD_BACK * depth)))
        if most_of_one is not None:
            bounds.append(DepthBound(f"tenant:{tenant}", workflow=name, tenant=tenant, depth=most_of_one))
        if (most := self._settings.lanes[lane].depth) is not None:
            bounds.append(DepthBound(f"lane:{lane}", lane=lane, depth=most))
        if (most := self._settings.budget.waiting) is not None:
            bounds.append(DepthBound("fleet", lanes=self._lanes, depth=most))
        return bounds

    def _buckets(self, asked: Asked) -> Iterator[Bucket]:
        for place, rule in enumerate(self._settings.limits):
            fits = (
                rule.workflow in (None, asked.workflow)
                and rule.tenant in (None, asked.tenant)
                and rule.lane in (None, asked.lane)
            )
            if not fits:
                continue
            named = rule.name or f"limits[{place}]"
            for bucket in self._of_rule(rule, rule.amounts, rule.paths, asked.tenant, ""):
                yield replace(bucket, rule=named)
            if rule.total is not None:
                per = rule.per if isinstance(rule.per, str) else "+".join(rule.per)
                for bucket in self._of_rule(rule, rule.total, (), asked.tenant, f"total:{per}"):
                    yield replace(bucket, rule=named)

    def _of_rule(
        self, rule: LimitRule, amounts: LimitAmounts, paths: tuple[str, ...], tenant: str, label: str
    ) -> Iterator[Bucket]:
        """The buckets of a rule, named by the declared amounts, so that they stay the same under an override."""
        own = LimitAmounts()
        if not label and rule.of_tenant and rule.name is not None and tenant in self._settings.tenants:
            own = self._settings.tenants[tenant].limits.get(rule.name, own)
        who = tenant if rule.of_tenant and not label else None
        per = rule.per if isinstance(rule.per, str) else "+".join(rule.per)
        scope = f"{per}/{rule.workflow or '*'}/{rule.tenant or '*'}"
        scope += "".join(f"/{part}" for part in (rule.lane, rule.resource, label) if part)
        shadow = rule.mode is Mode.SHADOW
        first = next(iter(amounts.rates), None)
        for unit, declared in amounts.rates.items():
            base = own.rates.get(unit, declared)
            rate = base
            if not label:
                rate = self._in_force.rate(rule.name, base, who) if unit == first else base
                rate = self._in_force.model_tokens(rule.name, rate, who) if unit == "model_tokens" else rate
            yield Bucket(
                prefix=f"{unit}/{declared.amount:g}/{declared.window_s:g}/{scope}",
                paths=paths,
                unit=unit,
                rate=rate,
                burst=rule.burst if rate == declared else None,
                declared=None if rate == base else base.amount,
                shadow=shadow,
                resource=rule.resource or "",
                label=label,
            )
        if amounts.concurrent is not None:
            places = own.concurrent or amounts.concurrent
            if not label:
                places = self._in_force.places(rule.name, places, who)
            yield Bucket(f"concurrent/{scope}", paths, "runs", None, places=places, shadow=shadow, label=label)


def _overridden(buckets: Iterator[Bucket], declared: Iterator[Bucket]) -> tuple[Bucket, ...]:
    """The buckets; those that an override changed know what is declared."""
    amounts = {one.prefix: one.rate.amount for one in declared if one.rate is not None}
    return tuple(
        one
        if one.rate is None or one.rate.amount == amounts[one.prefix]
        else replace(one, declared=amounts[one.prefix])
        for one in buckets
    )


def _keep_apart(needs: dict[str, Need], need: Need) -> None:
    """Add a number of places. Several rules may count the same runs: of those that refuse the smallest counts, and
    what is only tried counts for itself."""
    known = needs.get(need.key)
    if known is None:
        needs[need.key] = need
    elif known.shadow != need.shadow:
        tried, kept = (need, known) if need.shadow else (known, need)
        needs[need.key] = kept
        _keep_apart(needs, replace(tried, key=f"{tried.key}/shadow"))
    elif need.most < known.most:
        needs[need.key] = need


_KNOWN = frozenset({"workflow", "tenant", "lane"})


def _budget_buckets(settings: GateSettings) -> Iterator[Bucket]:
    budget = settings.budget
    for unit, rate in (("model_tokens", budget.model_tokens), ("money", budget.money)):
        if rate is not None:
            yield Bucket(f"budget/{unit}", (), unit, rate, label="fleet")


def _model_buckets(settings: GateSettings) -> Iterator[Bucket]:
    for name, model in settings.models.items():
        if model.model_tokens is not None:
            yield Bucket(
                f"model_tokens/{name}", (), "model_tokens", model.model_tokens, resource=name,
                label=f"resource:{name}", if_used=True,
            )  # fmt: skip


def _takes(bucket: Bucket, asked: Asked, estimate: Estimate) -> Iterator[RateTake]:
    """The bucket's takes for one run: one, or one per resource that it is expected to use."""
    if bucket.rate is None:
        return
    resources: Sequence[str] = (bucket.resource,)
    if "resource" in bucket.paths and not bucket.resource:
        resources = tuple(estimate.per_resource)
    for resource in resources:
        found = key_of(bucket.paths, asked, resource=resource)
        if found is None:
            continue
        use = estimate.per_resource.get(resource)
        if bucket.if_used and (use is None or not use.model_tokens):
            continue
        size = bucket.rate.amount if bucket.burst is None else bucket.burst
        yield RateTake(
            key=f"{bucket.prefix}/{found[0]}" if found[0] else bucket.prefix,
            name=bucket.label or found[1],
            per_window=bucket.rate.amount,
            window_ms=1000 * bucket.rate.window_s,
            amount=_amount(bucket.unit, resource, estimate, size),
            burst=bucket.burst,
            unit=bucket.unit,
            shadow=bucket.shadow,
            of=resource,
            rule=bucket.rule,
            declared=bucket.declared,
        )


def _amount(unit: str, resource: str, estimate: Estimate, size: float) -> float:
    """How much of a rate a run is expected to take. What was only learned never asks for more than the bucket holds:
    the rest is charged when it is known."""
    if unit == "runs":
        return 1.0
    if resource:
        use = estimate.per_resource.get(resource)
        return 0.0 if use is None else min(size, float(getattr(use, unit)))
    amount = float(getattr(estimate, unit))
    return amount if unit in estimate.stated else min(size, amount)
