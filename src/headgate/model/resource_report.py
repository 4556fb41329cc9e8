"""What one process tells of a resource, so that others can say when runs will start."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResourceReport:
    """One resource in one process. Worker slots are reported in the same way, as `headgate.policy.eta.WORKERS`."""

    name: str
    limit: float
    """Calls that may be in flight now."""
    most: float
    """What the limit may ever become."""
    inflight: float
    waiting: float
    done: float
    """Calls that ended well, since the process began."""
    busy_s: float
    """Seconds that these took."""
    call_s: float | None = None
    """A typical call."""
    breaker: str = "closed"

    @property
    def saturated(self) -> bool:
        """Whether more work would only wait."""
        return self.waiting > 0 or self.inflight >= self.limit


@dataclass(frozen=True, slots=True)
class OwnerReport:
    """What one process told last, at ``at_ms``."""

    owner: str
    at_ms: int
    resources: tuple[ResourceReport, ...]


@dataclass(frozen=True, slots=True)
class TrackSample:
    """Some numbers to be remembered under a name, for instance by how much a forecast was wrong."""

    name: str
    numbers: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class KnownTrack:
    """The latest samples under a name, the oldest first."""

    name: str
    revision: int
    """Rises with every change of any track."""
    samples: tuple[tuple[float, ...], ...]
