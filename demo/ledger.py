"""What was asked and what became of it, as the users saw it and as each side's own records tell it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx2

from demo.plan import User

TERMINAL = frozenset({"succeeded", "failed", "cancelled", "expired"})
AT_ONCE = 8
"""Records that are read at the same time."""


@dataclass(slots=True)
class Asked:
    """One request of one user to one side. Times are seconds after the demo's start."""

    user: User
    offered_s: float
    run_id: str | None = None
    admitted_s: float | None = None
    tries: int = 0
    refusals: list[tuple[float, str]] = field(default_factory=list)
    """(when, reason) of each refusal, the last one final unless there is a run."""
    ended_s: float | None = None
    """When the run ended, as far as its user looked."""

    @property
    def patience_ends_s(self) -> float:
        return self.offered_s + self.user.patience_s


@dataclass(frozen=True, slots=True)
class StepFacts:
    """One remembered call."""

    resource: str
    queued_s: float
    ran_s: float
    tries: int
    degraded: str | None
    """What it was degraded to, e.g. a smaller model."""


@dataclass(frozen=True, slots=True)
class RunFacts:
    """One run's record. Times are seconds after the demo's start."""

    id: str
    state: str
    reason: str
    submitted_s: float
    started_s: float | None
    finished_s: float | None
    degraded: bool
    steps: tuple[StepFacts, ...]

    @property
    def terminal(self) -> bool:
        return self.state in TERMINAL


def facts(told: Mapping[str, Any], *, start_ms: int) -> RunFacts:
    """A run's record as ``GET /v1/runs/{id}`` tells it."""

    def seconds(name: str) -> float | None:
        text = told.get(name)
        return None if text is None else datetime.fromisoformat(text).timestamp() - start_ms / 1000

    submitted_s = seconds("submitted_at")
    if submitted_s is None:
        raise ValueError(f"run {told['id']} has no submitted_at")
    steps = tuple(
        StepFacts(
            resource=step["resource"],
            queued_s=step["queued_ms"] / 1000,
            ran_s=step["ran_ms"] / 1000,
            tries=step["tries"],
            degraded=step["degraded"],
        )
        for step in told["steps"]
    )
    return RunFacts(
        id=told["id"],
        state=told["state"],
        reason=told["reason"] or told["state"],
        submitted_s=submitted_s,
        started_s=seconds("started_at"),
        finished_s=seconds("finished_at"),
        degraded=told["degraded"] or any(step.degraded is not None for step in steps),
        steps=steps,
    )


@dataclass(frozen=True, slots=True)
class Audit:
    """Whether the side kept its word about every run that it accepted."""

    accepted: int
    lost: tuple[str, ...]
    """Accepted (202) and unknown to the side's records."""
    unfinished: tuple[str, ...]
    """Accepted and in no terminal state."""
    twice: tuple[str, ...]
    """Ids that two requests were given."""
    unasked: tuple[str, ...]
    """Runs in the records that no 202 named."""

    @property
    def kept(self) -> bool:
        return not (self.lost or self.unfinished or self.twice or self.unasked)


def audit(asked: Sequence[Asked], records: Sequence[RunFacts]) -> Audit:
    """Compare the 202s that users hold with the side's records."""
    ids = [one.run_id for one in asked if one.run_id is not None]
    known = {record.id: record for record in records}
    return Audit(
        accepted=len(ids),
        lost=tuple(sorted(set(ids) - set(known))),
        unfinished=tuple(sorted(one for one in set(ids) & set(known) if not known[one].terminal)),
        twice=tuple(sorted(one for one, count in Counter(ids).items() if count > 1)),
        unasked=tuple(sorted(set(known) - set(ids))),
    )


async def listed_ids(http: httpx2.AsyncClient, *, states: Sequence[str] = ()) -> list[str]:
    """All run ids that a side lists, page by page."""
    ids: list[str] = []
    parameters: dict[str, str | Sequence[str]] = {"limit": "200", "state": list(states)}
    while True:
        answer = await http.get("/v1/runs", params=parameters)
        answer.raise_for_status()
        page = answer.json()
        ids.extend(run["id"] for run in page["runs"])
        if not page.get("next"):
            return ids
        parameters["before"] = page["next"]
