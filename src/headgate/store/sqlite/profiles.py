"""What runs of each kind take, kept for every process: `headgate.policy.cost_profile` on rows."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from headgate.model.cost import RunSample
from headgate.policy import cost_profile
from headgate.policy.cost_profile import Profile
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.transaction import Reading, Transaction
from headgate.store.values import KnownProfile

WORKFLOWS_AT_MOST = 1000
TEXTS_REMEMBERED = 256
"""Stored profiles that need not be read from their text again: what was written is asked for within a second."""


class SqliteProfiles:
    """`headgate.store.profile_protocols.Profiles`."""

    def __init__(self, writer: Operations, reader: Operations) -> None:
        self._writer = writer
        self._reader = reader

    async def learn(self, samples: Sequence[RunSample], *, now_ms: int) -> None:
        wanted = tuple(samples)
        if wanted:
            await self._writer.submit(lambda tx: _learn(tx, wanted, now_ms))

    async def all(self, *, after: int = 0) -> list[KnownProfile]:
        def find(tx: Reading) -> list[KnownProfile]:
            found = []
            for workflow, size_class, revision, text in tx.rows("profiles_since", after):
                found.append(KnownProfile(workflow, size_class, revision, _read(text) or Profile()))
            return found

        profiles: list[KnownProfile] = await self._reader.submit(find)
        return profiles


def _learn(tx: Transaction, samples: Sequence[RunSample], now_ms: int) -> None:
    by_kind: dict[tuple[str, int], list[RunSample]] = {}
    for sample in samples:
        for size_class in (cost_profile.WHOLE, cost_profile.size_class(sample.input_bytes)):
            by_kind.setdefault((sample.workflow, size_class), []).append(sample)
    row = tx.row("last_profile_revision")
    revision = 0 if row is None else row[0]
    for (workflow, size_class), own in by_kind.items():
        row = tx.row("profile", workflow, size_class)
        profile = cost_profile.fold(None if row is None else _read(row[0]), own)
        revision += 1
        tx.run("keep_profile", workflow, size_class, revision, now_ms, cost_profile.dump(profile))
    tx.run("drop_stalest_profiles", WORKFLOWS_AT_MOST)


@lru_cache(TEXTS_REMEMBERED)
def _read(text: str) -> Profile | None:
    """A stored profile; a damaged one is learned anew."""
    try:
        return cost_profile.load(text)
    except ValueError:
        return None
