"""Where a stored run stands: when it should start and finish, as far as known now."""

from __future__ import annotations

from dataclasses import dataclass

from headgate.intake.outlook import Outlook
from headgate.model.run import RunRecord, RunState
from headgate.policy.eta import Ahead, forecast, rest_s


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds from now; ``None`` where nothing is known."""

    eta_ms: int | None = None
    eta_p90_ms: int | None = None
    finish_ms: int | None = None
    finish_p90_ms: int | None = None


NOTHING_KNOWN = Times()


def times(outlook: Outlook, run: RunRecord, *, ahead_of: tuple[str, ...], position: int, now_ms: int) -> Times:
    """When the run should start and finish. ``position`` counts the runs before it, those of ``ahead_of`` included.

    Without enough runs of its workflow behind it, only its start is told, from the rate at which its lane starts.
    """
    prospect = outlook.forecaster.prospect(run.workflow, run.lane, degraded=run.degraded)
    if run.state is RunState.RUNNING and prospect is not None and run.started_ms is not None:
        left = rest_s(prospect, max(0, now_ms - run.started_ms) / 1000)
        return Times(None, None, round(1000 * left[0]), round(1000 * left[1]))
    if run.state is not RunState.QUEUED:
        return NOTHING_KNOWN
    if prospect is None:
        return Times(outlook.eta_ms(run.lane, ahead_of, position))
    earlier = min(position, outlook.waiting(ahead_of))
    told = forecast(
        prospect,
        Ahead(
            position - earlier, earlier, outlook.running_beside(run.lane), outlook.running_in((*ahead_of, run.lane))
        ),
    )
    return Times(
        round(1000 * told.start_p50_s),
        round(1000 * told.start_p90_s),
        round(1000 * told.finish_p50_s),
        round(1000 * told.finish_p90_s),
    )
