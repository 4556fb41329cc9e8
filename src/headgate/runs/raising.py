"""Raising the ceilings of a run, for somebody who decided that it may go on."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypedDict, Unpack

from headgate.errors import InvalidRequest
from headgate.model.run import RunRecord
from headgate.observe.bus import EventBus
from headgate.policy.run_budget import MOST
from headgate.store.protocols import Ceilings, Store


class Amounts(TypedDict, total=False):
    """One number for each ceiling that is meant. ``None`` leaves one as it is."""

    calls: int | None
    model_tokens: int | None
    money: float | None
    wall_s: float | None
    """Seconds of running time."""


class Raised(Amounts, total=False):
    """New ceilings, as totals over all attempts."""

    more: Amounts | None
    """Raise these by so much, from what they are when the store does it: two who add 20 add 40."""


async def raise_budget(
    store: Store,
    bus: EventBus,
    run_id: str,
    *,
    tenant: str | None,
    then: Callable[[], None],
    **ceilings: Unpack[Raised],
) -> RunRecord | None:
    """Raise ceilings of an unfinished run. A run that waits for it goes back in line; ``then`` is told.

    No ceiling is lowered, and none is added where there is none. Returns the run as it is now, or ``None`` if there
    is none (or it is another tenant's).

    Raises:
        InvalidRequest: nothing is raised, or to or by something that is not positive.
    """
    by = _given(ceilings.pop("more", None) or {})
    to = _given(ceilings)
    wrong = [(name, "must be positive and finite") for one in (to, by) for name, n in one.items() if not 0 < n < MOST]
    wrong += [(name, "is either a new total or an amount more") for name in to if name in by]
    if wrong or not (to or by):
        raise InvalidRequest(wrong or [("calls", "name at least one ceiling to raise")])
    run = await store.runs.raise_budget(run_id, tenant=tenant, ceilings=_ceilings(to), more=_ceilings(by))
    if run is not None and not run.state.terminal:
        bus.emit(
            "budget_raised",
            run_id=run.id,
            workflow=run.workflow,
            tenant=run.tenant,
            lane=run.lane,
            calls=run.budget_calls,
            model_tokens=run.budget_model_tokens,
            money=run.budget_money,
            wall_ms=run.budget_wall_ms,
        )
        then()
    return run


def _given(amounts: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in amounts.items() if value is not None}


def _ceilings(amounts: Mapping[str, Any]) -> Ceilings:
    wall_s = amounts.get("wall_s")
    return Ceilings(
        amounts.get("calls"),
        amounts.get("model_tokens"),
        amounts.get("money"),
        None if wall_s is None else max(1, round(1000 * wall_s)),
    )
