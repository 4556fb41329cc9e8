"""What one tenant asks for beyond its fair share while others are hurt: counted, and refused to that tenant.

Every process counts what it is asked itself, and takes for its own part of what the fleet carries the part of the
fleet's admissions that it made.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp

from headgate.config.settings import GateSettings
from headgate.model.decision import Refusal
from headgate.model.reason import Reason
from headgate.policy import tenant_excess
from headgate.store.protocols import Overview

MEMORY_S = 20.0
"""Time constant of what is counted."""
HURT_MS = 10_000
"""For so long it counts that somebody was hurt."""
TENANTS_AT_MOST = 1000
"""Beyond this those that ask for least are forgotten; they are far below any level."""
FORGOTTEN = 1e-4
"""Cost per second below which a tenant is forgotten."""


@dataclass(slots=True)
class Excess:
    """Of one process."""

    room: float = tenant_excess.MOST_ROOM
    parts: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Tenant → lane → part that is refused; tenants within their share are left out."""
    keeps: Mapping[str, float] = field(default_factory=dict)
    """The cost per second that such a tenant keeps."""
    _asked: dict[str, dict[str, float]] = field(default_factory=dict)
    _admitted: float = 0.0
    _admitted_cost: float = 0.0
    _entered: float = 0.0
    _carried: float = 0.0
    """Runs per second that the fleet starts."""
    _before: tuple[int, int, int] | None = None
    """At the last look: the moment, runs that had started, runs that had entered."""
    _hurt_ms: int | None = None
    _credit: dict[tuple[str, str], float] = field(default_factory=dict)

    def offer(self, tenant: str, lane: str, cost: float) -> None:
        """Somebody asks to come in."""
        lanes = self._asked.setdefault(tenant, {})
        lanes[lane] = lanes.get(lane, 0.0) + cost / MEMORY_S

    def admitted(self, cost: float) -> None:
        """A run was taken in here."""
        self._admitted += 1 / MEMORY_S
        self._admitted_cost += cost / MEMORY_S

    def felt(self, tenant: str, tightness: float, *, now_ms: int) -> None:
        """A run was refused for want of room (1), or is to wait for this part (0..1) of what it can afford."""
        if tightness > tenant_excess.HURT and tenant not in self.parts:
            self._hurt_ms = now_ms

    def look(self, overview: Overview, settings: GateSettings, *, now_ms: int, busy: bool = True) -> None:
        """Follow what was counted; about once a second. While the fleet is not ``busy`` it is no other tenant's work
        that hurts, but something of one's own, such as a queue without a worker."""
        queues = [queue for queue in overview.queues if queue.lane and not queue.workflow]
        started, waiting = sum(queue.started for queue in queues), sum(queue.depth for queue in queues)
        before, self._before = self._before, (now_ms, started, started + waiting)
        if before is None or now_ms <= before[0]:
            return
        elapsed_s = (now_ms - before[0]) / 1000
        keep = exp(-elapsed_s / MEMORY_S)
        carried = max(0, started - before[1]) / elapsed_s
        # While nothing waits or the fleet is half idle, starts are limited by what comes, or by what is refused here.
        if (waiting and busy) or carried > self._carried:
            self._carried = keep * self._carried + (1 - keep) * carried
        self._entered = keep * self._entered + max(0, started + waiting - before[2]) / MEMORY_S
        hurt = busy and self._hurt_ms is not None and now_ms - self._hurt_ms < HURT_MS
        self.room = tenant_excess.move(self.room, hurt=hurt, elapsed_s=elapsed_s)
        self._judge(settings)
        self._admitted, self._admitted_cost = keep * self._admitted, keep * self._admitted_cost
        faded = {
            tenant: {lane: keep * cost for lane, cost in lanes.items()}
            for tenant, lanes in self._asked.items()
            if math.fsum(lanes.values()) > FORGOTTEN
        }
        if len(faded) > TENANTS_AT_MOST:
            most = sorted(faded, key=lambda tenant: -math.fsum(faded[tenant].values()))[:TENANTS_AT_MOST]
            faded = {tenant: faded[tenant] for tenant in most}
        self._asked = faded

    def _judge(self, settings: GateSettings) -> None:
        asked = {tenant: math.fsum(lanes.values()) for tenant, lanes in self._asked.items()}
        weights = {tenant: one.weight for tenant, one in settings.tenants.items()}
        level, many = None, frozenset[str]()
        hurt_lately = self.room < tenant_excess.MOST_ROOM
        if hurt_lately and self._admitted > 0 and self._entered > 0 and self._carried > 0:
            here = min(1.0, self._admitted / self._entered) * self._admitted_cost / self._admitted
            level = tenant_excess.level(self.room * self._carried * here, asked, weights)
            many = frozenset() if level is None else tenant_excess.above(level, asked, weights)
        lanes = list(settings.lanes)
        self.keeps = {tenant: (level or 0.0) * weights.get(tenant, 1.0) for tenant in many}
        self.parts = {
            tenant: tenant_excess.refused_parts(keeps, lanes, self._asked[tenant])
            for tenant, keeps in self.keeps.items()
        }
        self._credit = {key: credit for key, credit in self._credit.items() if key[0] in many}

    def part(self, tenant: str, lane: str) -> float:
        """Which part (0..1) of what the tenant asks for in the lane is refused now."""
        lanes = self.parts.get(tenant)
        return 0.0 if lanes is None else lanes.get(lane, 0.0)

    def rate(self, tenant: str) -> float | None:
        """Runs per second that a tenant above its share keeps; ``None``: it is not above it."""
        if tenant not in self.keeps or self._admitted <= 0:
            return None
        return self.keeps[tenant] * self._admitted / self._admitted_cost

    def refusal(self, tenant: str, lane: str) -> Refusal | None:
        """The refusal of a run of this tenant, if it is its turn to be refused."""
        part = self.part(tenant, lane)
        if part <= 0:
            return None
        credit = self._credit.get((tenant, lane), 0.0) + 1 - part
        self._credit[tenant, lane] = credit - 1 if credit >= 1 else credit
        if credit >= 1:
            return None
        keeps, asked = self.keeps[tenant], math.fsum(self._asked.get(tenant, {}).values())
        return Refusal(
            Reason.SHED,
            f"tenant:{tenant}",
            f"it asks for {asked:.2g} seconds of work per second, its share is {keeps:.2g}, and others are hurt",
            limit=round(keeps, 3),
            used=round(asked, 3),
            unit="seconds per second",
        )
