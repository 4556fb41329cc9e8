"""Whether the flows of a SQLite store say what its rows say."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest


def check_flows(path: Path) -> None:
    """The flows' counts say what the rows say."""
    db = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
    queued = "FROM runs WHERE state = 'queued' AND delayed = 0"
    line = f"SELECT lane, tenant, coalesce(user, ''), workflow, count(*) {queued} GROUP BY 1, 2, 3, 4"
    users = "SELECT lane, tenant, user, workflow, waiting FROM user_flows WHERE waiting <> 0"
    assert set(db.execute(users)) == set(db.execute(line))
    line = f"SELECT lane, tenant, workflow, count(*) {queued} GROUP BY 1, 2, 3"
    tenants = "SELECT lane, tenant, workflow, waiting FROM tenant_flows WHERE waiting <> 0"
    assert set(db.execute(tenants)) == set(db.execute(line))
    costs = dict(db.execute(f"SELECT lane || tenant, sum(cost) {queued} GROUP BY 1"))
    for key, backlog, numbers in db.execute(
        "SELECT lane || tenant, max(backlog), count(DISTINCT virtual || '/' || backlog) FROM tenant_flows GROUP BY 1"
    ):
        assert numbers == 1, "the rows of a flow carry the same numbers"
        assert backlog == pytest.approx(costs.get(key, 0.0))
    db.close()
