"""Everything that is set by hand or held back by a rule now, as the door and the reports see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from headgate.config.settings import GateSettings
from headgate.config.units import Rate
from headgate.intake.effective import effective, rate_of, tokens_of
from headgate.model.control import FLEET, Control, ControlKind
from headgate.policy.pause import HeldBack


@dataclass(frozen=True, slots=True)
class InForce:
    """One moment's controls, by target; operators' before rules'."""

    pauses: Mapping[str, Control] = field(default_factory=dict)
    overrides: Mapping[str, Control] = field(default_factory=dict)
    thinned: Mapping[str, float] = field(default_factory=dict)
    """Lane → part of its slots that a rule leaves it."""

    def of(self, target: str, kind: ControlKind) -> Control | None:
        """What is in force of one kind."""
        return (self.pauses if kind is ControlKind.PAUSE else self.overrides).get(target)

    def effective(self, settings: GateSettings) -> GateSettings:
        """The settings with what is set by hand in place of what is declared."""
        return effective(settings, self.overrides) if self.overrides else settings

    def pause_of(self, workflow: str, lane: str, tenant: str = "") -> Control | None:
        """Why runs of this workflow and tenant in this lane are not taken up, if they are not."""
        for target in (f"tenant:{tenant}", f"workflow:{workflow}", f"lane:{lane}"):
            if target in self.pauses:
                return self.pauses[target]
        return None

    @property
    def drain(self) -> Control | None:
        """Why nothing new is taken in, if the fleet is drained."""
        return self.pauses.get(FLEET)

    def depth(self, workflow: str, declared: int) -> int:
        """How many runs of a workflow may wait."""
        override = self.overrides.get(f"workflow:{workflow}")
        return declared if override is None or override.depth_to is None else override.depth_to

    def _of_limit(self, limit: str | None, tenant: str | None) -> Control | None:
        """What is set on a named limit: for one tenant, or for all."""
        if limit is None:
            return None
        own = None if tenant is None else self.overrides.get(f"limit:{limit}@{tenant}")
        return own or self.overrides.get(f"limit:{limit}")

    def places(self, limit: str | None, declared: int, tenant: str | None = None) -> int:
        """How many runs of a named limit may be unfinished."""
        override = self._of_limit(limit, tenant)
        return declared if override is None or override.limit_to is None else override.limit_to

    def rate(self, limit: str | None, declared: Rate, tenant: str | None = None) -> Rate:
        """The first rate of a named limit."""
        return rate_of(self._of_limit(limit, tenant)) or declared

    def model_tokens(self, limit: str | None, declared: Rate, tenant: str | None = None) -> Rate:
        """The model tokens of a named limit, where they are not its first rate."""
        return tokens_of(self._of_limit(limit, tenant)) or declared

    @property
    def held_back(self) -> HeldBack:
        """What workers leave alone."""
        names = [target.partition(":")[::2] for target in self.pauses]
        paused = {name: 0.0 for what, name in names if what == "lane"}
        return HeldBack(
            lanes={**self.thinned, **paused},
            workflows=frozenset(name for what, name in names if what == "workflow"),
            tenants=frozenset(name for what, name in names if what == "tenant"),
            stopping=frozenset(target for target, pause in self.pauses.items() if pause.stops_running),
        )


NOTHING = InForce()
