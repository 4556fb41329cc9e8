"""A run that states more than it may use is not taken in."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.load import parse_settings
from headgate.errors import Rejected
from headgate.gate import Gate
from headgate.intake import Submission
from headgate.intake.own_ceilings import beyond
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.cost import CostHint
from headgate.model.decision import Admission, Refusal
from headgate.model.reason import Reason
from headgate.policy.run_budget import Ceiling

SETTINGS = """
store: sqlite:///{path}
workflows:
  report: {{budget: {{calls: 20, model_tokens: 9k, money: 0.5}}}}
  plain: {{}}
"""
AMOUNTS = st.none() | st.floats(0.01, 1e6)


@given(st.none() | st.integers(1, 10**6), AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS, AMOUNTS)
def test_refused_is_exactly_what_exceeds_a_ceiling(
    most_calls: int | None,
    most_tokens: float | None,
    most_money: float | None,
    calls: float | None,
    tokens: float | None,
    money: float | None,
) -> None:
    pairs = ((tokens, most_tokens), (money, most_money), (calls, most_calls))
    over = any(wanted is not None and most is not None and wanted > most for wanted, most in pairs)
    ceiling = Ceiling(calls=most_calls, model_tokens=most_tokens, money=most_money)  # type: ignore[arg-type]
    refusal = beyond("report", ceiling, CostHint(model_tokens=tokens, money=money, calls=calls))
    assert (refusal is not None) == over
    if refusal is not None:
        assert (refusal.reason, refusal.scope, refusal.retry_after_ms) == (Reason.NEVER_FITS, "workflow:report", None)
        assert not refusal.contended
        assert not refusal.nothing_there


async def _gate(path: Path, clock: LoopClock) -> Gate:
    gate = Gate(
        parse_settings(SETTINGS.format(path=path / "runs.db")), clock=clock, rng=Random(1), store_mode="inline"
    )

    @gate.workflow("report")
    async def report(run: Any, given: Any) -> None:
        return None

    return gate


@pytest.mark.parametrize(
    ("cost", "unit", "most"),
    [({"calls": 30}, "calls", 20), ({"model_tokens": 9_001}, "model tokens", 9_000), ({"money": 0.6}, "money", 0.5)],
)
def test_embedded_it_is_rejected_for_good_and_says_why(
    tmp_path: Path, cost: dict[str, float], unit: str, most: float
) -> None:
    async def main(clock: LoopClock) -> None:
        async with await _gate(tmp_path, clock) as gate:
            with pytest.raises(Rejected) as refused:
                await gate.submit("report", 1, cost=cost)
            error = refused.value
            assert (error.reason, error.scope, error.limit) == ("never_fits", "workflow:report", most)
            assert not error.retryable
            (wanted,) = cost.values()
            assert f"it states {wanted:g} {unit}" in error.advice
            exact = {"calls": 20, "model_tokens": 9_000, "money": 0.5}
            assert (await gate.submit("report", 1, cost=exact)).created

    run_virtual(main)


def test_the_ordinary_ceiling_of_calls_counts_too(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with await _gate(tmp_path, clock) as gate:
            most = gate.settings.workflows["plain"].budget.calls
            answer = await gate.intake.submit(Submission("plain", cost=CostHint(calls=most + 1)))
            assert isinstance(answer, Refusal)
            assert answer.limit == most
            assert isinstance(await gate.intake.submit(Submission("plain", cost=CostHint(calls=most))), Admission)

    run_virtual(main)


def test_a_draining_process_says_it_as_well_and_a_known_key_leads_to_its_run(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with await _gate(tmp_path, clock) as gate:
            small, large = CostHint(calls=5), CostHint(calls=50)
            first = await gate.intake.submit(Submission("report", idempotency_key="k", cost=small))
            again = await gate.intake.submit(Submission("report", idempotency_key="k", cost=large))
            assert isinstance(first, Admission)
            assert isinstance(again, Admission)
            assert (again.run.id, again.created) == (first.run.id, False)
            other = await gate.intake.submit(Submission("report", idempotency_key="other", cost=large))
            assert isinstance(other, Refusal)
            assert other.reason is Reason.NEVER_FITS
            gate.intake.draining = True
            draining = await gate.intake.submit(Submission("report", cost=large))
            assert isinstance(draining, Refusal)
            assert draining.reason is Reason.NEVER_FITS

    run_virtual(main)


def test_a_sub_run_is_judged_by_what_it_was_given(tmp_path: Path) -> None:
    async def main(clock: LoopClock) -> None:
        async with await _gate(tmp_path, clock) as gate:
            asked = Submission("report", grant=Ceiling(calls=3), cost=CostHint(calls=4))
            answer = await gate.intake.submit(asked)
            assert isinstance(answer, Refusal)
            assert answer.limit == 3

    run_virtual(main)
