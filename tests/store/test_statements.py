"""Statements are found by name, prepare on the layout, and the hot ones stay searches in an index."""

from __future__ import annotations

import re
from pathlib import Path

import apsw
import pytest

from headgate.store.sqlite.connection import connect_writer, create_file
from headgate.store.sqlite.migrations import migrate
from headgate.store.sqlite.statements import STATEMENTS

NOT_HOT = {
    "recounted_queues": "repair: counts every run anew",
    "started_counts": "repair",
    "drop_queue_numbers": "repair",
    "tenants_seen": "when somebody sets something on a tenant by hand; reads one row per workflow and tenant",
    "controls_in_force": "few, set by operators; read once a second",
    "drop_controls_that_ended": "few, set by operators",
    "control_changes": "the newest of the record, backwards by its key",
    "dead_changes": "the newest of the record, backwards by its key",
    "prune_dead_changes": "by an operator; at most 10,000 lines",
    "prune_control_changes": "by an operator; at most 10,000 lines",
    "all_api_keys": "few, listed by an operator",
    "revoke_api_key": "by an operator",
    "lanes_with_numbers": "one range of a primary key, once per writer from another process",
    "queues_of_overview": "one row per workflow, tenant and lane",
    "ids_of_page": "follows the index of ids; filters read on until the page is full",
    "runs_of_ids": "sorts one page",
    "due_runs": "sorts one batch of upkeep",
    "waiting_approvals": "sorts a bounded queue of people",
    "last_waiting_approval": "sorts a bounded queue of people, when it is full",
    "queues_that_wait": "reads what waits for people, which is bounded, for somebody who looks",
    "prune_queues": "hourly; reads the counters, one row per workflow and tenant",
    "recounted_flows": "repair",
    "empty_tenant_flows": "repair",
    "empty_user_flows": "repair",
    "prune_tenant_flows": "hourly; reads tenants' flows until enough have passed",
    "prune_user_flows": "hourly; the same for users",
    "prune_rates": "hourly; reads buckets until enough are full",
    "steps_of_runs": "sorts the steps of one batch of claims",
    "steps_of_run_id": "sorts the steps of one run",
    "copy_done_steps": "sorts the steps of one run and its replays",
    "usage_below": "one tree of sub-runs, bounded by its budget",
    "used_below": "one tree of sub-runs, bounded by its budget",
    "unfinished_below": "one tree of sub-runs, bounded by its budget",
    "ancestors_of_run": "one chain, bounded by its depth",
    "count_children": "the sub-runs of one run",
    "any_hold": "reads one entry",
    "used_by_steps": "groups the steps of one run that ends",
    "all_shared": "one row per limit on what is held at once; by operators",
    "held_by_rows": "for checks",
    "drop_stalest_profiles": "once a second; one row per workflow",
    "drop_stalest_tracks": "only when there is a new kind of forecast; at most 5000 tracks",
    "oldest_in_lane": "min() of one range, which reads its first entry",
}


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> apsw.Connection:
    path = tmp_path_factory.mktemp("plans") / "runs.db"
    create_file(path)
    connection = connect_writer(path, synchronous="off")
    migrate(connection, url="plans")
    return connection


def _plan(db: apsw.Connection, name: str) -> list[str]:
    sql = STATEMENTS[name]
    numbered = [int(number) for number in re.findall(r"\?(\d+)", sql)]
    count = max(numbered, default=0) or sql.count("?")
    return [str(row[3]) for row in db.execute(f"EXPLAIN QUERY PLAN {sql}", (None,) * count)]


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - NOT_HOT.keys() - {"data_version"}))
def test_it_searches(db: apsw.Connection, name: str) -> None:
    plan = _plan(db, name)
    for line in plan:
        assert "TEMP B-TREE" not in line, plan
        assert not line.startswith("SCAN") or "json_each" in line or "CONSTANT ROW" in line or "subquery" in line, (
            plan
        )


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("tenants_in_line", "INDEX tenant_flows_in_line (lane=? AND workflow=?)"),
        ("users_in_line", "INDEX user_flows_in_line (lane=? AND tenant=? AND workflow=?)"),
        ("runs_in_line", "runs_in_line (lane=? AND tenant=? AND <expr>=? AND workflow=?)"),
        ("newest_runs_in_line", "runs_in_line (lane=? AND tenant=? AND <expr>=? AND workflow=?)"),
        ("delayed_runs_now_due", "runs_delayed (lane=? AND available_ms<?)"),
        ("least_virtual_in_line", "INDEX tenant_flows_in_line (lane=? AND workflow=?)"),
        ("count_ahead_in_lane", "COVERING INDEX runs_by_start (lane=? AND virtual_start<?)"),
        ("count_ahead_in_lane", "COVERING INDEX runs_by_start (lane=? AND virtual_start=? AND rowid<?)"),
        ("start_of_nth_in_lane", "COVERING INDEX runs_by_start (lane=?)"),
        ("seqs_overdue_in_line", "runs_due (state=? AND due_ms<?)"),
        ("seqs_with_lapsed_lease", "COVERING INDEX runs_due (state=? AND due_ms<?)"),
        ("seqs_to_wake", "runs_due (state=? AND due_ms<?)"),
        ("next_due", "COVERING INDEX runs_due (state=?"),
        ("oldest_in_lane", "COVERING INDEX runs_by_age (lane=?)"),
        ("run_of_idempotency_key", "runs_by_idempotency_key (tenant=? AND idempotency_key=?)"),
        ("unfinished_run_of_content", "runs_by_content (content_key=?)"),
        ("unfinished_replay", "runs_by_origin (origin_id=?)"),
        ("has_unknown_steps", "runs_by_origin (origin_id=? AND rowid>?)"),
        ("ids_of_tenant_page", "runs_by_tenant (tenant=? AND id<?)"),
        ("ids_of_dead_page", "runs_dead (id<?)"),
        ("seqs_to_prune", "runs_finished (finished_ms<?)"),
        ("seqs_of_resolved_to_prune", "runs_resolved (finished_ms<?)"),
        ("held_back_of_workflow", "COVERING INDEX runs_held_back (workflow=?)"),
        ("delayed_of_workflow", "runs_held_back (workflow=? AND reason=?)"),
        ("has_delayed_of_tenant", "runs_delayed_of_tenant (workflow=? AND tenant=?)"),
        ("to_shed_of_workflow", "runs_to_shed_of_workflow (workflow=? AND lane=?)"),
        ("to_shed_of_lane", "runs_to_shed (lane=?)"),
        ("ids_of_dead_letters", "runs_dead (id<?)"),
        ("ids_of_dead_letters_oldest_first", "runs_dead (id>?)"),
        ("due_approvals", "approvals_due (expires_ms<?)"),
        ("count_waiting_approvals", "COVERING INDEX approvals_waiting (queue=?)"),
        ("load_of_approvals", "approvals_waiting (queue=?)"),
        ("queue_of_waiting_question", "approvals_by_step (run_id=?)"),
        ("latest_answers", "approvals_answered (queue=?)"),
        ("children_of_run", "runs_by_parent (parent_id=?)"),
        ("run_of_spawn_key", "runs_by_spawn_key (spawn_key=?)"),
        ("ids_of_children_page", "runs_by_parent (parent_id=? AND id<?)"),
        ("waits_for_child", "PRIMARY KEY (child=?)"),
        ("has_waits_left", "child_waits_by_parent (parent=? AND branch=?)"),
        ("fenced_run", "runs_by_id (id=?)"),
        ("running_runs", "runs_by_id (id=?)"),
    ],
)
def test_hot_statements_use_their_index(db: apsw.Connection, name: str, index: str) -> None:
    plan = _plan(db, name)
    assert any(index in line for line in plan), plan


@pytest.mark.parametrize(
    "name", ["delayed_runs_now_due", "runs_in_line", "least_virtual_in_line", "count_ahead_in_lane"]
)
def test_statements_on_partial_indexes_are_planned_once(db: apsw.Connection, name: str) -> None:
    planned: list[int] = []

    def ask(operation: int, *_: object) -> int:  # SQLite asks while it plans, and not when it carries out a plan
        planned.append(operation)
        return apsw.SQLITE_OK

    sql = STATEMENTS[name]
    count = max(int(number) for number in re.findall(r"\?(\d+)", sql))
    db.authorizer = ask
    try:
        db.execute(sql, (1,) * count).fetchall()
        assert planned
        planned.clear()
        db.execute(sql, (2,) * count).fetchall()
    finally:
        db.authorizer = None
    assert not planned


@pytest.mark.parametrize("name", sorted(NOT_HOT))
def test_the_others_prepare(db: apsw.Connection, name: str) -> None:
    assert _plan(db, name) or STATEMENTS[name].startswith("DELETE"), "only emptying a table needs no plan"


def test_placeholders_are_filled() -> None:
    assert not [name for name, sql in STATEMENTS.items() if "{" in sql or not sql]


def test_every_statement_is_used() -> None:
    room = Path(__file__).parents[2] / "src" / "headgate" / "store" / "sqlite"
    code = "\n".join(file.read_text() for file in room.glob("*.py"))
    assert [name for name in STATEMENTS if f'"{name}"' not in code] == []
