"""What runs hold of budgets and limits: taken with their admission or claim, settled in the transaction of their end.

A row per run and thing says what it took; ``shared`` keeps the sums of what is held at once. Rates live with all
other rates in `numbers`. Where nothing is held nothing is done: one look at an empty table per transaction that ends
runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from headgate.model.decision import LimitUse, Refusal
from headgate.model.reason import Reason
from headgate.policy import token_bucket
from headgate.policy.holds import Need, Shared, fits, free_to_keep, out_of_patience
from headgate.policy.token_bucket import RateTake
from headgate.store.sqlite.operations import Operations
from headgate.store.sqlite.rows import Row, json_list
from headgate.store.sqlite.transaction import Reading, Transaction

RETRY_FLOOR_MS = 1000
LOWERED_RETRY_MS = 60_000
"""When to ask again for what is more than an override leaves."""
AHEAD = 32
"""Runs that a claim looks at beyond those it wants, to find some that fit."""


class SqliteHolds:
    """`headgate.store.profile_protocols.Holds`."""

    def __init__(self, reader: Operations) -> None:
        self._reader = reader

    async def held(self) -> dict[str, int]:
        def look(tx: Reading) -> dict[str, int]:
            return {key: held for key, held in tx.rows("all_shared") if held}

        held: dict[str, int] = await self._reader.submit(look)
        return held

    async def held_by_runs(self) -> dict[str, int]:
        def count(tx: Reading) -> dict[str, int]:
            return dict(tx.rows("held_by_rows"))

        held: dict[str, int] = await self._reader.submit(count)
        return held


def find_room(tx: Transaction, needs: Sequence[Need]) -> Refusal | tuple[list[str], list[LimitUse]]:
    """The first need without room as a refusal; or the names of those in shadow mode that would have refused, and
    what is left of places."""
    shadowed, places = [], []
    for need in needs:
        held = _shared(tx, need.key).held if not need.running else 0
        if need.never or (not need.running and need.amount and held + need.amount > need.most):
            if not need.shadow:
                return _refusal(need, held)
            shadowed.append(need.name)
        elif not need.running and not need.shadow:
            left = need.most - held - need.amount
            places.append(LimitUse(need.name, need.most, left, need.unit, None, None, rule=need.rule))
    return shadowed, places


def beside(tx: Transaction, needs: Sequence[Need], *, parent: int, detached: bool) -> tuple[Need, ...]:
    """The needs of a sub-run. Where its parent has a place already, it takes none, and a ``detached`` one, which
    outlives it, is not waited for: parents that have all places, and wait for sub-runs which find none, would wait
    for ever."""
    theirs = {
        key for _, key, _, _, _, _, _, running, _ in tx.rows("holds_of_runs", json_list([parent])) if not running
    }
    change: dict[str, Any] = {"waits": False} if detached else {"amount": 0}
    return tuple(replace(need, **change) if not need.running and need.key in theirs else need for need in needs)


def _refusal(need: Need, held: int) -> Refusal:
    if need.never and need.declared is not None and need.amount <= need.declared:
        return Refusal(
            Reason.OVER_BUDGET,
            need.name,
            f"it needs {need.amount} of {need.unit}; an override leaves {need.most} of {need.declared}",
            limit=need.most,
            retry_after_ms=LOWERED_RETRY_MS,
            unit=need.unit,
        )
    if need.never:
        return Refusal(
            Reason.NEVER_FITS,
            need.name,
            f"it needs {need.amount} of {need.unit} and there is {need.most} in all",
            limit=need.most,
            unit=need.unit,
        )
    return Refusal(
        Reason.CONCURRENCY,
        need.name,
        f"{held} of at most {need.most} {need.unit} are unfinished",
        limit=need.most,
        used=held,
        rule=need.rule or None,
        retry_after_ms=RETRY_FLOOR_MS if need.waits else None,
        unit=need.unit,
    )


def keep(
    tx: Transaction,
    seq: int,
    needs: Sequence[Need],
    taken: Sequence[tuple[RateTake, float]],
    *,
    now_ms: int,
) -> None:
    """Write down what a new run takes: its needs, and rates with their arrival times after the take."""
    for wish, after_ms in taken:
        if wish.unit != "runs":  # a submission was made, whatever becomes of it
            tx.run(
                "keep_hold", seq, wish.key, wish.unit, wish.of, wish.amount, wish.interval_ms, after_ms, None, 0, 1,
                now_ms,
            )  # fmt: skip
    for need in needs:
        amount = min(need.amount, need.most)
        held = not need.running
        tx.run(
            "keep_hold", seq, need.key, need.unit, "", amount, None, None, need.most, need.running, held,
            0 if need.running else now_ms,  # its patience begins when it is looked at and does not fit
        )  # fmt: skip
        if held and amount:
            shared = _shared(tx, need.key)
            _keep(tx, need.key, replace(shared, held=shared.held + amount))


class Fitting:
    """Which of the runs that a claim looks at fit, in the order in which it looks at them."""

    def __init__(self, tx: Transaction, most: Mapping[str, int], *, now_ms: int) -> None:
        """``most`` is what there is of each thing now; what it does not name has no limit any more."""
        self._tx, self._most, self._now_ms = tx, most, now_ms
        self.ahead = AHEAD if most and tx.row("any_hold") is not None else 0
        """How many runs more than wanted to look at; 0: nothing is held, and every run fits."""
        self._blocked: dict[int, frozenset[str]] = {}

    def takes(self, seqs: Sequence[int], *, at_most: int) -> set[int]:
        """The first ``at_most`` of the runs that fit; they hold what they need from now on."""
        needs: dict[int, list[Row]] = {}
        for row in self._tx.rows("needs_of_runs", json_list(seqs)):
            if row[1] in self._most:
                needs.setdefault(row[0], []).append(row)
        fit: set[int] = set()
        for seq in seqs:
            if len(fit) < at_most and self._take(seq, needs.get(seq, ())):
                fit.add(seq)
        return fit

    def _take(self, seq: int, needs: Sequence[Row]) -> bool:
        if not needs:
            return True
        tx, now_ms, most = self._tx, self._now_ms, self._most
        wanted = [(key, amount, _shared(tx, key)) for _, key, amount, *_ in needs]
        if not all(fits(shared, amount, most[key], run=seq, now_ms=now_ms) for key, amount, shared in wanted):
            self._wait(seq, needs)
            return False
        for key, amount, shared in wanted:
            kept_for = None if shared.kept_for == seq else shared.kept_for
            held = min(int(amount), most[key])
            if held != amount:  # there is less of it now than when it was admitted
                tx.run("shrink_hold", seq, key, held)
            _keep(tx, key, Shared(shared.held + held, kept_for, shared.kept_ms))
        tx.run("mark_held", seq, 1, now_ms)
        keys = {key for key, *_ in wanted}
        for waiting, its_keys in self._blocked.items():
            if keys & its_keys:
                tx.run("note_passed", waiting)
        return True

    def _wait(self, seq: int, needs: Sequence[Row]) -> None:
        tx, now_ms = self._tx, self._now_ms
        self._blocked[seq] = frozenset(key for _, key, *_ in needs)
        _, _, _, _, since_ms, passed = needs[0]
        if since_ms == 0:
            tx.run("begin_to_wait", seq, now_ms)
            return
        if not out_of_patience(passed=passed, waited_ms=now_ms - since_ms):
            return
        wanted = [(key, _shared(tx, key)) for _, key, *_ in needs]
        if all(free_to_keep(shared, run=seq, now_ms=now_ms) for _, shared in wanted):
            for key, shared in wanted:
                _keep(tx, key, Shared(shared.held, seq, now_ms))
            return
        for key, shared in wanted:  # two runs that each keep what the other lacks would wait for ever
            if shared.kept_for == seq:
                _keep(tx, key, Shared(shared.held))


def give_back(tx: Transaction, seq: int) -> None:
    """The run does not run any more, and waits: what it held while it ran is free."""
    if tx.row("any_hold") is None:
        return
    stopped = False
    for _, key, _, _, amount, _, _, running, held in tx.rows("holds_of_runs", json_list([seq])):
        if running and held:
            _free(tx, key, int(amount), seq)
            stopped = True
    if stopped:
        tx.run("mark_held", seq, 0, 0)


def settle(tx: Transaction, seqs: Sequence[int], *, now_ms: int) -> None:
    """The runs have ended: give back what they held, and correct their rates to what they used."""
    if not seqs or tx.row("any_hold") is None:
        return
    ended = json_list(seqs)
    used: dict[int, dict[tuple[str, str], float]] = {}
    rows = tx.rows("holds_of_runs", ended)
    for seq, key, unit, resource, amount, interval_ms, after_ms, _, held in rows:
        if interval_ms is None:
            _free(tx, key, int(amount) if held else 0, seq)
            continue
        if seq not in used:
            used[seq] = _used(tx, seq)
        arrival = token_bucket.settle(
            tx.numbers.arrival(key),
            taken=amount,
            after_ms=after_ms,
            actual=used[seq].get((unit, resource), 0.0),
            interval_ms=interval_ms,
            now_ms=now_ms,
        )
        if arrival is not None:
            tx.numbers.set_arrival(key, arrival)
    if rows:
        tx.run("drop_holds", ended)


def _used(tx: Transaction, seq: int) -> dict[tuple[str, str], float]:
    """What a run used in all, by (unit, resource). A worker that vanished left its steps and no totals."""
    row = tx.row("used_by_run", seq)
    if row is None:
        return {}
    calls, model_tokens, money, submitted_ms = row
    steps = tx.rows("used_by_steps", seq, submitted_ms)
    found: dict[tuple[str, str], float] = {
        ("calls", ""): max(calls, sum(step[1] for step in steps)),
        ("model_tokens", ""): max(model_tokens, sum(step[2] for step in steps)),
        ("money", ""): max(money, sum(step[3] for step in steps)),
    }
    for resource, tries, tokens, cost in steps:
        found["calls", resource] = tries
        found["model_tokens", resource] = tokens
        found["money", resource] = cost
    return found


def _shared(tx: Transaction, key: str) -> Shared:
    row = tx.row("shared", key)
    return Shared() if row is None else Shared(*row)


def _keep(tx: Transaction, key: str, shared: Shared) -> None:
    tx.run("keep_shared", key, shared.held, shared.kept_for, shared.kept_ms)


def _free(tx: Transaction, key: str, amount: int, seq: int) -> None:
    shared = _shared(tx, key)
    left = Shared(shared.held - amount, None if shared.kept_for == seq else shared.kept_for, shared.kept_ms)
    if left.held or left.kept_for is not None:
        _keep(tx, key, left)
    else:
        tx.run("drop_shared", key)
