"""The part of a store in which processes tell each other how it goes.

The semantics at the top of `headgate.store.protocols` hold here as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from headgate.model.resource_report import KnownTrack, OwnerReport, ResourceReport, TrackSample


class Reports(Protocol):
    """What workers report of their resources, and what was learned from forecasts that came out otherwise."""

    async def put(self, owner: str, resources: Sequence[ResourceReport], *, now_ms: int, until_ms: int) -> None:
        """Replace what ``owner`` told before. It counts until ``until_ms``; what others told and no longer counts is
        removed."""
        ...

    async def withdraw(self, owner: str) -> None:
        """Remove what ``owner`` told: it leaves."""
        ...

    async def all(self, *, now_ms: int) -> list[OwnerReport]:
        """Every report that counts, by owner. One that cannot be read back is left out."""
        ...

    async def learn(self, samples: Sequence[TrackSample], *, now_ms: int) -> None:
        """Append samples to their tracks. A track keeps its latest `headgate.policy.calibration.WINDOW`; the number
        of tracks is bounded, and those that learned last stay."""
        ...

    async def tracks(self, *, after: int = 0) -> list[KnownTrack]:
        """The tracks that changed after that revision, in order of their revisions. One that cannot be read back
        comes empty."""
        ...
