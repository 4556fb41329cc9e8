"""What the demo plays: phases, the provider's weather, who asks and how long they wait."""

from __future__ import annotations

import random
from dataclasses import dataclass

from headgate.lab.trace import Arrival, Phase, load_trace, replay
from headgate.lab.weather import Spell

NORMAL_RATE = 1.6
"""Runs per second in ordinary times; about a third of what the provider carries."""
SURGE = 10.0
PATIENCE_S = {"interactive": 10.0, "background": 20.0}
"""How long after asking a result is still wanted, by lane."""
TRACE_FROM_S = 600.0
"""Where in the hour the replay begins."""


@dataclass(frozen=True, slots=True)
class User:
    """One request of the replay with the person behind it."""

    arrival: Arrival
    tenant: str
    lane: str
    patience_s: float
    polite: bool
    """Half of the users, when refused, come back once after the time they were told, if it is still worth it. The
    other half give up."""
    followed: bool
    """Whether a later turn waits for this one to end."""


@dataclass(frozen=True, slots=True)
class Span:
    """A named stretch of the demo, for the eyes. Seconds after the start."""

    name: str
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that is decided before the first request."""

    seconds: float
    seed: int
    users: tuple[User, ...]
    spells: tuple[Spell, ...]
    spans: tuple[Span, ...]
    arrivals_end_s: float

    def span_at(self, at_s: float) -> str:
        """The name of what is played at a moment."""
        return next((span.name for span in reversed(self.spans) if span.start_s <= at_s < span.end_s), "finishing")


def make_plan(*, seconds: float, seed: int, rate: float = NORMAL_RATE) -> Plan:
    """The demo of so many seconds: 20 % normal, 50 % surge with the outage in its middle, 20 % recovery, and the
    rest to finish.

    During the outage the large model keeps 40 % of its capacity and a third of its calls end in 500 or 503.
    """
    normal_s, surge_s, recovery_s = 0.2 * seconds, 0.5 * seconds, 0.2 * seconds
    phases = [
        Phase("normal", normal_s, rate),
        Phase("surge", surge_s, SURGE * rate),
        Phase("recovery", recovery_s, rate),
    ]
    outage_from = normal_s + surge_s * 5 / 18
    outage_to = outage_from + surge_s * 8 / 18
    end = normal_s + surge_s + recovery_s
    spans = (
        Span("normal", 0.0, normal_s),
        Span("surge", normal_s, normal_s + surge_s),
        Span("surge + outage", outage_from, outage_to),
        Span("recovery", normal_s + surge_s, end),
    )
    arrivals = replay(load_trace(seed=seed), phases, start_s=TRACE_FROM_S)
    earlier = {arrival.follows for arrival in arrivals}
    return Plan(
        seconds=seconds,
        seed=seed,
        users=tuple(_user(arrival, seed, followed=arrival.index in earlier) for arrival in arrivals),
        spells=(Spell(outage_from, outage_to, capacity=0.4, errors=0.33, models=("large",)),),
        spans=spans,
        arrivals_end_s=end,
    )


def _user(arrival: Arrival, seed: int, *, followed: bool) -> User:
    """A session keeps its tenant, its lane and its manners."""
    rng = random.Random(f"{seed}/{arrival.session}")
    tenants = ["acme", "birch", "cobalt", "dune", "ember", "fjord", "grove", "harbor"]
    tenant = rng.choices(tenants, weights=[1 / (rank + 1) for rank in range(len(tenants))])[0]
    lane = "background" if rng.random() < 0.125 else "interactive"
    return User(arrival, tenant, lane, PATIENCE_S[lane], polite=rng.random() < 0.5, followed=followed)
