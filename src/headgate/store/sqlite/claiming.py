"""Claiming: leasing the waiting runs that are next, as `search` finds them."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.model.step import Step
from headgate.policy import lane_shares
from headgate.store.protocols import Claim, ClaimRequest
from headgate.store.sqlite import holds
from headgate.store.sqlite.damage import end_undecodable
from headgate.store.sqlite.flows import Whose
from headgate.store.sqlite.numbers import recount
from headgate.store.sqlite.rows import RUN_WIDTH, UNREADABLE, Row, json_list, run_of, step_of
from headgate.store.sqlite.search import Pick, Search
from headgate.store.sqlite.transaction import Transaction

_STEPS_WIDTH = 18
DELAYS_AT_MOST = 1000
"""Runs whose delay is over, put in line by one claim."""
LOOKED_AT_FOR_DAMAGE = 1000
LINES_COUNTED = 8
"""Lines that one claim counts because fewer runs were found in them than should wait (most often, some are late)."""


def claim(tx: Transaction, request: ClaimRequest) -> list[Claim]:
    """Lease at most what each lane may have, in the order of the lanes."""
    queue_of = tx.numbers.queue
    # Where nothing waits nothing is searched: most claims are polls of an empty line.
    workflows = [workflow for workflow in request.workflows if queue_of(workflow, "", "").waiting]
    if not workflows:
        return []
    left = sum(count for _, count in request.lanes)
    if request.total is not None:
        left = min(left, request.total)
    lanes = request.lanes
    if request.max_running is not None and request.max_running - tx.numbers.running() < left:
        left = request.max_running - tx.numbers.running()
        lanes = _by_fleet(tx, request, left)
    fitting = holds.Fitting(tx, request.most, now_ms=request.now_ms)
    ready: set[str] = set()
    claims: list[Claim] = []
    for lane, most in lanes:
        count = min(most, left)
        if count <= 0 or not queue_of("", "", lane).waiting:
            continue
        if lane not in ready:
            ready.add(lane)
            _end_delays(tx, lane, request.now_ms)
        found = _claim_in_lane(tx, request, lane, workflows, count, fitting)
        left -= len(found)
        claims += found
    return claims


def _by_fleet(tx: Transaction, request: ClaimRequest, free: int) -> tuple[tuple[str, int], ...]:
    """The lanes' turns while the fleet may not run as many as this worker could take."""
    if not request.shares or free <= 0:
        return request.lanes
    most: dict[str, int] = {}
    for lane, quota in request.lanes:
        most[lane] = most.get(lane, 0) + quota
    loads = {}
    for lane, share in request.shares:
        queue = tx.numbers.queue("", "", lane)
        if queue.waiting and lane in most:
            room = min(most[lane], queue.waiting)
            loads[lane] = lane_shares.LaneLoad(share, room, queue.running, tx.numbers.lane(lane).claimed_ms)
    return lane_shares.fleet(loads, whole=request.max_running or free, free=free, now_ms=request.now_ms)


def _end_delays(tx: Transaction, lane: str, now_ms: int) -> None:
    """Put in line what was taken in for later and may start now."""
    rows = tx.rows("delayed_runs_now_due", lane, now_ms, DELAYS_AT_MOST)
    if rows:
        tx.run("end_delay", json_list([row[0] for row in rows]))
        for _, *labels, cost in rows:
            tenant, user, workflow = (label.decode("utf-8", "replace") for label in labels)
            tx.numbers.enter(tx, Whose(lane, tenant, user, workflow), cost)


def _claim_in_lane(
    tx: Transaction,
    request: ClaimRequest,
    lane: str,
    workflows: Sequence[str],
    count: int,
    fitting: holds.Fitting,
) -> list[Claim]:
    for _ in range(3):
        tx.numbers.flows.write(tx)
        search = Search(
            tx,
            lane,
            workflows,
            now_ms=request.now_ms,
            newest_after_ms=dict(request.newest_after).get(lane),
            not_tenants=frozenset(request.not_tenants),
        )
        picks = search.picks(count + fitting.ahead)
        if len(picks) < count and _mended(tx, search, lane, request.now_ms):
            continue
        if not picks:
            return []
        try:
            found = _read(tx, request, picks)
        except UNREADABLE:
            end_undecodable(tx, [pick.seq for pick in picks], now_ms=request.now_ms)
            continue  # the room of those ended may be taken by others that cannot be read either
        if fitting.ahead:
            fit = fitting.takes([pick.seq for pick in picks], at_most=count)
            found = [one for one in found if one[0][RUN_WIDTH] in fit]
            picks = [pick for pick in picks if pick.seq in fit]
        if picks:
            _lease(tx, request, picks, found)
            tx.numbers.pass_over(lane, search.passed)
        return [claimed for _, claimed in found]
    return []  # what was ended stays ended, so the next claim gets further


def _mended(tx: Transaction, search: Search, lane: str, now_ms: int) -> bool:
    """Whether a flow has fewer runs waiting than it should, which only a damaged row explains; then it is ended."""
    flows, short = tx.numbers.flows, []
    for _, workflow, tenant, user, found in search.exhausted:
        line = flows.user(lane, tenant, user).lines.get(workflow)
        if line is not None and found < line.waiting:
            short.append((lane, workflow, tenant, user, line.waiting))
    if all(tx.row("count_in_line", *line) == (line[-1],) for line in short[:LINES_COUNTED]):
        return False
    before = tx.numbers.queue("", "", lane).waiting
    end_undecodable(tx, [seq for (seq,) in tx.rows("seqs_in_lane", lane, LOOKED_AT_FOR_DAMAGE)], now_ms=now_ms)
    if tx.numbers.queue("", "", lane).waiting == before:
        recount(tx)
    return True


def _read(tx: Transaction, request: ClaimRequest, picks: Sequence[Pick]) -> list[tuple[Row, Claim]]:
    """The rows of the picks as they will be once claimed, in the order of the picks."""
    seqs = json_list([pick.seq for pick in picks])
    rows = tx.rows("claimed_runs", request.owner, request.lease_until_ms, request.now_ms, seqs)
    if len(rows) > 1:
        place = {pick.seq: index for index, pick in enumerate(picks)}
        rows.sort(key=lambda row: place[row[RUN_WIDTH]])
    runs = [run_of(row) for row in rows]
    # A run that starts for the first time remembers nothing, unless it replays another.
    remembering = [
        row[RUN_WIDTH] for row, run in zip(rows, runs, strict=True) if run.term > 1 or run.replay_of is not None
    ]
    if not remembering:
        return [(row, Claim(run, ())) for row, run in zip(rows, runs, strict=True)]
    steps: dict[int, list[Step]] = {}
    for row in tx.rows("steps_of_runs", json_list(remembering)):
        steps.setdefault(row[_STEPS_WIDTH], []).append(step_of(row))
    return [(row, Claim(run, tuple(steps.get(row[RUN_WIDTH], ())))) for row, run in zip(rows, runs, strict=True)]


def _lease(tx: Transaction, request: ClaimRequest, picks: Sequence[Pick], found: Sequence[tuple[Row, Claim]]) -> None:
    numbers = tx.numbers
    tx.run(
        "claim_runs", request.owner, request.lease_until_ms, request.now_ms, json_list([pick.seq for pick in picks])
    )
    for pick, (row, claimed) in zip(picks, found, strict=True):
        run = claimed.run
        numbers.scopes(run.workflow, run.tenant, run.lane).claimed(fresh=run.term == 1, size=row[RUN_WIDTH + 1])
        numbers.dispatch(pick.whose, cost=pick.cost, charged=pick.charged, now_ms=request.now_ms)
