"""The part of a store that remembers what runs take, and shows what they hold.

The semantics at the top of `headgate.store.protocols` hold here as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from headgate.model.cost import RunSample
from headgate.store.values import KnownProfile


class Profiles(Protocol):
    """Cost profiles by workflow and size class of the input, bounded in both: workflows that learned last stay."""

    async def learn(self, samples: Sequence[RunSample], *, now_ms: int) -> None:
        """Fold what runs took into the profile of their workflow and into that of their size class, by
        `headgate.policy.cost_profile.fold`. What several processes learn adds up."""
        ...

    async def all(self, *, after: int = 0) -> list[KnownProfile]:
        """The profiles that changed after that revision, in order of their revisions. One that cannot be read back
        comes empty."""
        ...


class Holds(Protocol):
    """What runs hold of budgets and limits. They take it with `Admissions.admit` and `Claims.claim`, and lose it in
    the transaction that ends them, or (what they hold while they run) that takes them from their worker."""

    async def held(self) -> Mapping[str, int]:
        """The sum of what is held at once, by key; nothing that is 0."""
        ...

    async def held_by_runs(self) -> Mapping[str, int]:
        """The same, counted from the runs. For checks; reads all of them."""
        ...
