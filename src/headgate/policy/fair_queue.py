"""Fairness inside a lane, between tenants and between the users of a tenant, by what runs really cost.

Decides: whose run is next. Every tenant of a lane, and every user of a tenant, is a *flow* with a virtual time: the
cost that it was charged, divided by its weight. The flow with the smallest virtual time is served next.

Source: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996); charging an estimate and correcting it, as
Kubernetes API Priority and Fairness does with seat-seconds; the lift of VTC (OSDI 2024).

Rules: a run is charged its estimate when it is dispatched, what goes beyond the estimate while it runs, and the rest
(up or down) when it ends. A flow that begins to wait is lifted to the present, so that idle time earns no credit:
the present is the largest virtual time at which the lane dispatched, or the smallest virtual time of a flow that
waits already, whichever is less.

Invariants: what was charged for a run is never negative, so a correction gives back at most what was charged. Two
flows of equal weight that always wait never differ by more than (largest single cost) * (slots + 1) in charged
service. Known failures: a flow whose runs nobody could carry out for a while (no worker, or a paused workflow) keeps
its place and catches up on what it missed.
"""

from __future__ import annotations


def present(reached: float, least_waiting: float | None) -> float:
    """To which virtual time a flow is lifted that begins to wait.

    ``reached`` is the largest at which a run was dispatched; ``least_waiting`` the smallest of the flows that wait.
    """
    return reached if least_waiting is None else min(reached, least_waiting)


def arrive(virtual: float, now: float) -> float:
    """A flow's virtual time when it begins to wait at the lane's present ``now``: debts stay, credit goes."""
    return max(virtual, now)


def due(cost: float, charged: float) -> float:
    """What to charge at a dispatch for a run of which ``charged`` was charged before (in earlier attempts)."""
    return max(0.0, cost - charged)


def charge(virtual: float, amount: float, weight: float) -> float:
    """A flow's virtual time after it was charged ``amount`` (less than 0: given back) at ``weight`` > 0.

    Raises:
        ValueError: ``weight`` is not positive.
    """
    if weight <= 0:
        raise ValueError(f"weight must be positive, got weight={weight!r}")
    return virtual + amount / weight


def dispatch(reached: float, virtual: float) -> float:
    """The largest virtual time at which a run was dispatched, after one was at ``virtual``; it never falls."""
    return max(reached, virtual)


def check(cost: float, weight: float) -> None:
    """Raises ``ValueError`` if the cost or the weight of a new run is not positive."""
    if cost <= 0 or weight <= 0:
        raise ValueError(f"cost and weight must be positive, got cost={cost!r}, weight={weight!r}")
