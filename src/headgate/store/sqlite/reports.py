"""What processes tell each other: reports as JSON, one row a process, and tracks of numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter

from headgate.model.resource_report import KnownTrack, OwnerReport, ResourceReport, TrackSample
from headgate.policy.calibration import WINDOW
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.transaction import Reading, Transaction

TRACKS_AT_MOST = 5000
TEXTS_REMEMBERED = 256
"""Stored tracks whose numbers are remembered: what a process has written is read back by it within a second."""

_numbers_of = attrgetter(*(field.name for field in fields(ResourceReport)))


class SqliteReports:
    """`headgate.store.report_protocols.Reports`."""

    def __init__(self, writer: Operations, reader: Operations) -> None:
        self._writer = writer
        self._reader = reader

    async def put(self, owner: str, resources: Sequence[ResourceReport], *, now_ms: int, until_ms: int) -> None:
        text = json.dumps([_numbers_of(one) for one in resources], separators=(",", ":"))

        def keep(tx: Transaction) -> None:
            tx.run("drop_reports_that_ended", now_ms)
            tx.run("keep_report", owner, now_ms, until_ms, text)

        await self._writer.submit(keep)

    async def withdraw(self, owner: str) -> None:
        await self._writer.submit(lambda tx: tx.run("drop_report", owner))

    async def all(self, *, now_ms: int) -> list[OwnerReport]:
        def read(tx: Reading) -> list[OwnerReport]:
            found = [_report(*row) for row in tx.rows("reports_that_count", now_ms)]
            return sorted((one for one in found if one is not None), key=lambda one: one.owner)

        reports: list[OwnerReport] = await self._reader.submit(read)
        return reports

    async def learn(self, samples: Sequence[TrackSample], *, now_ms: int) -> None:
        wanted = tuple(samples)
        if wanted:
            await self._writer.submit(lambda tx: _learn(tx, wanted, now_ms))

    async def tracks(self, *, after: int = 0) -> list[KnownTrack]:
        def read(tx: Reading) -> list[KnownTrack]:
            return [
                KnownTrack(name, revision, _samples(text)) for name, revision, text in tx.rows("tracks_since", after)
            ]

        tracks: list[KnownTrack] = await self._reader.submit(read)
        return tracks


def _learn(tx: Transaction, samples: Sequence[TrackSample], now_ms: int) -> None:
    by_name: dict[str, list[tuple[float, ...]]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample.numbers)
    row = tx.row("last_track_revision")
    revision = 0 if row is None else row[0]
    grown = False
    for name, new in by_name.items():
        row = tx.row("track", name)
        grown = grown or row is None
        revision += 1
        tx.run("keep_track", name, revision, now_ms, _with("[]" if row is None else row[0], new))
    if grown:
        tx.run("drop_stalest_tracks", TRACKS_AT_MOST)


def _with(text: str, new: Sequence[tuple[float, ...]]) -> str:
    """A stored track with new samples. Its text is only cut at the beginning: to write all numbers anew takes most of
    the time."""
    kept = new[-WINDOW:]
    added = json.dumps([[round(number, 4) for number in one] for one in kept], separators=(",", ":"))
    known = len(_samples(text))
    too_many = max(0, known + len(kept) - WINDOW)
    if known == too_many:
        return added
    return f"[{text[1:-1].split('],', too_many)[-1]},{added[1:]}"


def _report(owner: str, at_ms: int, text: str) -> OwnerReport | None:
    try:
        return OwnerReport(owner, at_ms, tuple(ResourceReport(*one) for one in json.loads(text)))
    except (ValueError, TypeError):
        return None  # its owner writes it anew within seconds


@lru_cache(TEXTS_REMEMBERED)
def _samples(text: str) -> tuple[tuple[float, ...], ...]:
    """A stored track; a damaged one is learned anew."""
    try:
        return tuple([tuple(map(float, one)) for one in json.loads(text)])
    except (ValueError, TypeError):
        return ()
