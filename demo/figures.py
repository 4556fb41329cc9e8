"""From what was asked and recorded to the figures of the report. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from demo.ledger import Asked, Audit, RunFacts, StepFacts
from demo.watch import Look

MODELS = frozenset({"large", "small"})
TOOLS = frozenset({"search", "crm"})
"""Of the example. Journals also remember choices (knobs), which are no calls."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Median and tails, in seconds; ``None`` where nothing was measured."""

    count: int
    p50: float | None
    p95: float | None
    p99: float | None
    most: float | None


def spread(values: Iterable[float]) -> Spread:
    """Nearest-rank quantiles."""
    ordered = sorted(values)
    if not ordered:
        return Spread(0, None, None, None, None)

    def at(share: float) -> float:
        return ordered[min(len(ordered) - 1, max(0, -int(-share * len(ordered) // 1) - 1))]

    return Spread(len(ordered), at(0.50), at(0.95), at(0.99), ordered[-1])


@dataclass(frozen=True, slots=True)
class Figures:
    """One side of the report. Counts are of requests (a user who comes back is one request)."""

    offered: int
    withheld: int
    """Follow-ups never sent, because their earlier turn had not ended."""
    admitted: int
    admitted_later: int
    """Of those, after having been refused once."""
    refused: dict[str, int]
    """By the reason of the last refusal."""
    on_time: int
    late: int
    failed: dict[str, int]
    """Ended without success, by reason."""
    lost: int
    """Accepted and unknown afterwards."""
    unfinished: int
    """Accepted and in no terminal state when the records were read."""
    degraded: int
    """Finished on time, but more cheaply: with less looked up, a part skipped, or the smaller model."""
    smaller_model: int
    """Of those, with at least one call of the smaller model."""
    queueing: Spread
    """From submission to the first start of a run."""
    slot_wait: Spread
    """Waits of one call for its slot."""
    model: Spread
    """One model call that succeeded, with its tries."""
    tool: Spread
    """One tool call that succeeded, with its tries."""
    whole: Spread
    """From first asking to the result, for runs that succeeded."""
    oldest_waiting_s: float
    """Greatest age of a run that waited to be started."""
    oldest_unfinished_s: float
    """Greatest age of an accepted run that had not ended."""
    provider_calls: int
    calls_per_finished: float | None
    calls_per_on_time: float | None
    kept: bool
    """Every accepted run is accounted for."""

    @property
    def on_time_share(self) -> float:
        return self.on_time / self.offered if self.offered else 0.0

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "on_time_share": round(self.on_time_share, 4)}


def is_on_time(asked: Asked, run: RunFacts | None) -> bool:
    """Success within the user's patience, counted from when they first asked."""
    return (
        run is not None
        and run.state == "succeeded"
        and run.finished_s is not None
        and run.finished_s <= asked.patience_ends_s
    )


def _is_smaller(step: StepFacts) -> bool:
    return step.resource in MODELS and "small" in (step.degraded or "")


def figures(
    asked: Sequence[Asked],
    records: Sequence[RunFacts],
    looks: Sequence[Look],
    *,
    withheld: int,
    provider_calls: int,
    checked: Audit,
    end_s: float,
) -> Figures:
    """Everything of one side. ``end_s``: when the records were read."""
    known = {record.id: record for record in records}
    pairs = [(one, known.get(one.run_id) if one.run_id else None) for one in asked]
    succeeded = [(one, run) for one, run in pairs if run is not None and run.state == "succeeded"]
    on_time = [(one, run) for one, run in succeeded if is_on_time(one, run)]
    steps = [step for record in records for step in record.steps if step.resource in MODELS | TOOLS]
    waits = [(r.started_s if r.started_s is not None else r.finished_s or end_s) - r.submitted_s for r in records]
    ages = [(r.finished_s if r.finished_s is not None else end_s) - r.submitted_s for r in records]
    wholes = [run.finished_s - one.offered_s for one, run in succeeded if run.finished_s is not None]
    return Figures(
        offered=len(asked),
        withheld=withheld,
        admitted=checked.accepted,
        admitted_later=sum(one.run_id is not None and bool(one.refusals) for one in asked),
        refused=dict(Counter(one.refusals[-1][1] for one in asked if one.run_id is None and one.refusals)),
        on_time=len(on_time),
        late=len(succeeded) - len(on_time),
        failed=dict(Counter(r.reason for r in records if r.terminal and r.state != "succeeded")),
        lost=len(checked.lost),
        unfinished=len(checked.unfinished),
        degraded=sum(run.degraded for _, run in on_time),
        smaller_model=sum(any(_is_smaller(step) for step in run.steps) for _, run in on_time),
        queueing=spread(waits),
        slot_wait=spread(step.queued_s for step in steps),
        model=spread(step.ran_s for step in steps if step.resource in MODELS),
        tool=spread(step.ran_s for step in steps if step.resource in TOOLS),
        whole=spread(wholes),
        oldest_waiting_s=max([*waits, *(look.oldest_s for look in looks if look.waiting)], default=0.0),
        oldest_unfinished_s=max(ages, default=0.0),
        provider_calls=provider_calls,
        calls_per_finished=provider_calls / len(succeeded) if succeeded else None,
        calls_per_on_time=provider_calls / len(on_time) if on_time else None,
        kept=checked.kept,
    )


def per_second(moments: Iterable[float], seconds: int) -> list[int]:
    """How many moments fall into each second from 0."""
    counts = [0] * seconds
    for moment in moments:
        if 0 <= moment < seconds:
            counts[int(moment)] += 1
    return counts


def oldest_unfinished(records: Sequence[RunFacts], moments: Sequence[float]) -> list[float]:
    """Age of the oldest accepted, unfinished run at each moment."""
    return [
        max(
            (
                moment - r.submitted_s
                for r in records
                if r.submitted_s <= moment and (r.finished_s is None or r.finished_s > moment)
            ),
            default=0.0,
        )
        for moment in moments
    ]
