"""Pause rules of the settings, followed look by look."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from headgate.config.settings import GateSettings, PauseWhen
from headgate.guard.resource import ResourceStatistics
from headgate.policy import pause
from headgate.policy.pause import PauseRule, Seen, Watch


@dataclass(frozen=True, slots=True)
class RuleEffect:
    """One target that a rule holds back now."""

    target: str
    thin_to: float | None
    """``None``: paused."""
    reason: str
    rule: str
    """The scope of the resource that it watches."""


class PauseRules:
    """Remembers how each rule stands."""

    def __init__(self, settings: GateSettings) -> None:
        named = (settings.tools, settings.models, settings.stages)
        self._rules: dict[str, PauseWhen] = {
            name: one.pause_when for group in named for name, one in group.items() if one.pause_when is not None
        }
        self._watches: dict[str, Watch] = {}

    @property
    def any(self) -> bool:
        return bool(self._rules)

    def look(self, resources: Mapping[str, ResourceStatistics], *, now_s: float) -> list[RuleEffect]:
        """Take one look at every resource with a rule; what is held back from now on."""
        effects = []
        for name, when in self._rules.items():
            one = resources[name]
            untried = not one.breaker_refuses and one.inflight == 0
            seen = Seen(one.p95_s, one.error_rate, one.breaker != "closed", one.calls, untried)
            watch = pause.follow(self._watches.get(name, Watch()), _rule(when), seen, now_s=now_s)
            self._watches[name] = watch
            if watch.on:
                why = f"resource:{name}: {watch.why}"
                effects += [RuleEffect(target, when.thin_to, why, f"resource:{name}") for target in when.pauses]
        return effects


def _rule(when: PauseWhen) -> PauseRule:
    return PauseRule(
        p95_s=when.p95,
        until_p95_s=when.until.p95,
        error_rate=when.error_rate,
        until_error_rate=when.until.error_rate,
        breaker=when.breaker is not None,
        after_s=when.after,
        least_calls=when.least_calls,
    )
