"""Stops running runs at their next step while a pause asks for it."""

from __future__ import annotations

from headgate.model.reason import Reason
from headgate.policy.pause import HeldBack
from headgate.runs.attempt import Attempt, Stop
from headgate.runs.carrier import Carrier


def stop_paused(carrier: Carrier, held: HeldBack) -> None:
    """Ask runs to stop whose lane, workflow or tenant is paused so; withdraw it where the pause has ended meanwhile.

    They go back in line unharmed; nothing is cancelled. A run that is asked to stop for another reason already is
    left to that.
    """
    stopping = bool(held.stopping)
    if carrier.leaving or not (stopping or carrier.pausing):
        return
    carrier.pausing = stopping
    for attempt in list(carrier.running):
        if stopping and _stops(attempt, held):
            if attempt.stop is None:
                attempt.step_reason = Reason.PAUSED
                carrier.stop(attempt, Stop.STEP)
        elif attempt.step_reason is Reason.PAUSED:
            attempt.withdraw()


def _stops(attempt: Attempt, held: HeldBack) -> bool:
    run = attempt.run
    return held.stops(lane=run.lane, workflow=run.workflow, tenant=run.tenant)
