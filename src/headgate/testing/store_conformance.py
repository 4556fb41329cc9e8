"""Every promise of `headgate.store.protocols`, as cases that any store must pass.

For a store of your own::

    @pytest.mark.parametrize("case", store_conformance.CASES, ids=store_conformance.name_of)
    def test_my_store(case, tmp_path):
        asyncio.run(store_conformance.check(case, lambda: open_my_store(tmp_path)))

The opener is called several times within one case: the first time the store is empty, later it must hold what was
answered before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from headgate.testing import (
    store_conformance_admissions,
    store_conformance_budgets,
    store_conformance_children,
    store_conformance_claims,
    store_conformance_controls,
    store_conformance_dead,
    store_conformance_fairness,
    store_conformance_follow_ups,
    store_conformance_full,
    store_conformance_holds,
    store_conformance_people,
    store_conformance_profiles,
    store_conformance_replays,
    store_conformance_reports,
    store_conformance_runs,
    store_conformance_upkeep,
)
from headgate.testing.store_conformance_ground import Ground, OpenStore

Case = Callable[[Ground], Awaitable[None]]

CASES: tuple[Case, ...] = (
    *store_conformance_admissions.CASES,
    *store_conformance_replays.CASES,
    *store_conformance_full.CASES,
    *store_conformance_dead.CASES,
    *store_conformance_claims.CASES,
    *store_conformance_fairness.CASES,
    *store_conformance_follow_ups.CASES,
    *store_conformance_runs.CASES,
    *store_conformance_upkeep.CASES,
    *store_conformance_people.CASES,
    *store_conformance_budgets.CASES,
    *store_conformance_controls.CASES,
    *store_conformance_reports.CASES,
    *store_conformance_profiles.CASES,
    *store_conformance_holds.CASES,
    *store_conformance_children.CASES,
)


def name_of(case: Case) -> str:
    """The case's name, as a sentence with underscores."""
    return str(getattr(case, "__name__", case))


async def check(case: Case, open_store: OpenStore) -> None:
    """Run one case on a fresh store.

    Raises:
        AssertionError: the store does not keep this promise.
    """
    ground = Ground(open_store)
    await ground.enter()
    try:
        await case(ground)
    finally:
        await ground.leave()
