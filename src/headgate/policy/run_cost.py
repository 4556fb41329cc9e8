"""What a run costs, in the units in which tenants are compared.

Decides: the estimate that a run is charged when it starts, and what it has really cost so far. One unit is one
second of resource time: a second in which a call of the run was being carried out, counted for each call. A run
that makes no call has used its worker's slot, and that time counts. Both are multiplied by the workflow's ``cost``.

Source: seat-seconds of Kubernetes API Priority and Fairness: work is width times time.

Rules: waiting in line for a resource costs nothing; a failed try costs its time like any other. A run costs at least
`LEAST_S` seconds, else a flood of empty runs would cost nothing and always be next. While nothing is known about how
long a workflow's runs take, `UNKNOWN_S` is assumed; the end corrects it.

Known failure: resources are not priced against each other. A second of a large model counts as much as one of a
search, unless their workflows say otherwise.
"""

from __future__ import annotations

UNKNOWN_S = 1.0
LEAST_S = 0.01


def estimated(factor: float, ran_s: float | None) -> float:
    """Units to charge at the start of a run that is expected to take ``ran_s`` seconds of resource time (``None``:
    unknown). ``factor`` > 0 is the workflow's ``cost``."""
    return factor * max(LEAST_S, UNKNOWN_S if ran_s is None else ran_s)


def spent(factor: float, *, calls_s: float, slot_s: float, called: bool) -> float:
    """Units that an attempt has cost so far: ``calls_s`` seconds in calls (parallel ones added up), or, if it
    ``called`` nothing, ``slot_s`` seconds in its worker's slot."""
    return factor * max(LEAST_S, calls_s if called else slot_s)
