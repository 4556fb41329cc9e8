"""What a configuration should change, in words, each with the number that says so.

A rule looks at the `Evidence` of one play and speaks only when a measured number crosses its threshold; the number is
in its words. What the lab knows and an operator does not (where a dependency's knee is) is used to tell a limit that
is too tight from a dependency that is full.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean

from headgate.lab.advice import call_rules, run_rules
from headgate.lab.advice.evidence import Evidence
from headgate.lab.advice.words import Word

Rule = Callable[[Evidence], Iterator[Word]]

RULES: dict[str, Rule] = {
    "queue-age": call_rules.queue_age,
    "queue-depth": call_rules.queue_depth,
    "concurrency-low": call_rules.concurrency_low,
    "concurrency-high": call_rules.concurrency_high,
    "retries": call_rules.retries,
    "timeout-short": call_rules.timeout_short,
    "timeout-long": call_rules.timeout_long,
    "fallback": call_rules.fallback,
    "breaker": call_rules.breaker,
    "slots": run_rules.slots,
    "late-in-line": run_rules.late_in_line,
    "late-at-work": run_rules.late_at_work,
    "people": run_rules.people,
    "run-depth": run_rules.run_depth,
    "run-age": run_rules.run_age,
    "lane-share": run_rules.lane_share,
    "sheddable": run_rules.sheddable,
    "ladder": run_rules.ladder,
    "tenants": run_rules.tenants,
}
"""By name. The order is that in which advice is shown when evidence is equally strong."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing to change."""

    rule: str
    setting: str
    """Where in ``headgate.yaml``, with dots."""
    words: str
    evidence: float
    """The number that the rule fired on; a share, unless the words say otherwise."""
    plays: int = 1
    """Plays in which it was seen …"""
    of: int = 1
    """… of so many."""


def advise_on(evidence: Evidence) -> list[Advice]:
    """What one play says."""
    return [
        Advice(name, word.setting, word.text, word.evidence)
        for name, rule in RULES.items()
        for word in rule(evidence)
    ]


def advise(plays: Sequence[Evidence]) -> list[Advice]:
    """What the plays of one scenario say together: advice that most of them give, the strongest evidence first. The
    words are those of the play whose number is the nearest to the mean."""
    given: dict[tuple[str, str], list[Advice]] = {}
    for play in plays:
        for one in advise_on(play):
            given.setdefault((one.rule, one.setting), []).append(one)
    kept: list[Advice] = []
    for some in given.values():
        if 2 * len(some) > len(plays):
            middle = mean(one.evidence for one in some)
            typical = min(some, key=lambda one: abs(one.evidence - middle))
            kept.append(replace(typical, plays=len(some), of=len(plays)))
    return sorted(kept, key=lambda one: -one.evidence if math.isfinite(one.evidence) else 0.0)
