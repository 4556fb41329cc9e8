"""Fairness between tenants inside a lane, as one number in the row.

Decides: the *virtual start* of a run when it is enqueued, so that claiming is one indexed ``ORDER BY``.

Source: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996), with the lift of VTC (OSDI 2024) and of
Kubernetes API Priority and Fairness: a tenant that was idle starts at the lane's present, so idle time earns no
credit.

Rule: ``start = max(lane's virtual time, tenant's last finish)``, ``finish = start + cost / weight``. The lane's
virtual time is the largest virtual start dispatched so far.

Invariants: a tenant's starts never fall; two backlogged tenants of equal weight are served in turn, each within
one largest cost of the other. Known failure: a cost estimate that is wrong stays wrong until it is corrected
at the end of the run.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands in its lane's virtual time."""

    start: float
    finish: float


def enqueue(lane_virtual_time: float, tenant_finish: float, *, cost: float, weight: float) -> Place:
    """The place of a new run. ``cost`` > 0 in fairness units, ``weight`` > 0.

    Raises:
        ValueError: ``cost`` or ``weight`` is not positive.
    """
    if cost <= 0 or weight <= 0:
        raise ValueError(f"cost and weight must be positive, got cost={cost!r}, weight={weight!r}")
    start = max(lane_virtual_time, tenant_finish)
    return Place(start, start + cost / weight)


def dispatch(lane_virtual_time: float, virtual_start: float) -> float:
    """The lane's virtual time after a run with this virtual start was started; it never falls."""
    return max(lane_virtual_time, virtual_start)
