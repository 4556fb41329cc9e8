"""What a run takes of the fleet: what it is expected to take, and what it took.

Units: model tokens and calls are counts, money is in the unit of the models' prices, times are seconds, memory is
bytes. ``parallel`` is how many calls are in flight at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


@dataclass(frozen=True, slots=True)
class ResourceUse:
    """What one run takes of one resource."""

    calls: float = 0.0
    busy_s: float = 0.0
    """Seconds in calls, those in parallel added up."""
    model_tokens: float = 0.0
    answers: float = 0.0
    """Calls that it answered well, each counted once however often it was tried."""


ASKED = "approval:"
"""Before the name of a queue of people, where questions to it are counted beside the calls on resources: a queue may
be called like a resource."""


@dataclass(frozen=True, slots=True)
class RunSample:
    """What one run took over all its attempts, when it ended."""

    workflow: str
    input_bytes: int
    whole: bool = True
    """It succeeded. One that did not took less than it would have, so it can only raise an estimate."""
    model_tokens: float = 0.0
    money: float = 0.0
    calls: float = 0.0
    ran_s: float = 0.0
    """Seconds in calls, those in parallel added up."""
    wall_s: float = 0.0
    """Seconds in a worker's slot."""
    parallel: float = 0.0
    """The most calls that were in flight at once."""
    per_resource: Mapping[str, ResourceUse] = field(default_factory=dict)


class Evidence(StrEnum):
    """What an estimate stands on."""

    SIZE_CLASS = "size_class"
    """Runs of this workflow with inputs of this size."""
    WORKFLOW = "workflow"
    """Runs of this workflow with inputs of any size."""
    DECLARED = "declared"
    """What the settings say; too few runs have ended."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class CostHint:
    """What a caller says a run will take; ``None``: nothing said."""

    model_tokens: float | None = None
    money: float | None = None
    calls: float | None = None

    def given(self) -> list[tuple[str, float]]:
        """The quantities that are said, by name."""
        every = (("model_tokens", self.model_tokens), ("money", self.money), ("calls", self.calls))
        return [(name, value) for name, value in every if value is not None]


NO_HINT = CostHint()


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a run is expected to take. 0 where nothing is known."""

    model_tokens: float = 0.0
    money: float = 0.0
    calls: float = 0.0
    ran_s: float = 0.0
    """Seconds in calls, those in parallel added up."""
    wall_s: float = 0.0
    """Seconds in a worker's slot."""
    memory: int = 0
    """Bytes; only from the settings, because one run's part of a process cannot be measured."""
    parallel: int = 0
    """Calls in flight at once."""
    per_resource: Mapping[str, ResourceUse] = field(default_factory=dict)
    evidence: Evidence = Evidence.NONE
    stated: frozenset[str] = frozenset()
    """Quantities that the caller or the settings state as such. More of one than a whole limit is refused for good;
    a learned estimate is never a reason for that."""
