"""Raising the ceilings of a run, for somebody who decided that it may go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypedDict, Unpack

from headgate.errors import InvalidRequest
from headgate.model.run import RunRecord
from headgate.observe.bus import EventBus
from headgate.store.protocols import Ceilings, Store

_LARGEST = 1e15


class Raised(TypedDict, total=False):
    """New ceilings, as totals over all attempts. ``None`` leaves one as it is."""

    calls: int | None
    model_tokens: int | None
    money: float | None
    wall_s: float | None
    """Seconds of running time."""


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
        InvalidRequest: nothing is raised, or to something that is not positive.
    """
    given: dict[str, Any] = {name: value for name, value in ceilings.items() if value is not None}
    wrong = [(name, "must be positive and finite") for name, value in given.items() if not 0 < value < _LARGEST]
    if wrong or not given:
        raise InvalidRequest(wrong or [("calls", "name at least one ceiling to raise")])
    if "wall_s" in given:
        given["wall_ms"] = round(1000 * given.pop("wall_s"))
    run = await store.runs.raise_budget(run_id, tenant=tenant, ceilings=Ceilings(**given))
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
