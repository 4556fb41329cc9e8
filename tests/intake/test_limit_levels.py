"""Levels of limits and the fleet's budget at the door, on the real store in virtual time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.load import parse_settings
from headgate.config.units import Rate
from headgate.errors import InvalidRequest
from headgate.intake.in_force import InForce
from headgate.intake.limit_keys import Asked, key_of
from headgate.intake.limits import RuleBook
from headgate.model.control import Control, ControlKind
from headgate.model.cost import CostHint, ResourceUse, RunSample
from headgate.model.reason import Reason
from headgate.model.run import RunState
from headgate.policy.holds import MEMORY
from headgate.store.protocols import ClaimRequest, RunEnd

from .test_intake import Door, at_door

WORKFLOW = "workflows: {triage: {}, batch: {}}\n"


def with_limits(text: str) -> Any:
    return parse_settings(WORKFLOW + text)


def hint(**amounts: float) -> dict[str, Any]:
    return {"cost": CostHint(**amounts)}


async def run_one(door: Door, **used: Any) -> None:
    now = door.clock.now_ms()
    request = ClaimRequest("w", now, now + 15_000, (("standard", 1),), ("triage", "batch"))
    (claim,) = await door.store.claims.claim(request)
    end = RunEnd(claim.run.id, "w", claim.run.term, RunState.SUCCEEDED, "succeeded", now, **used)
    assert await door.store.claims.finish([end]) == [True]


@pytest.mark.parametrize(
    ("rule", "same", "other", "scope"),
    [
        ("per: tenant", {"tenant": "a"}, {"tenant": "b"}, "tenant:a"),
        ("per: user", {"user": "ann"}, {"user": "bob"}, "user:ann"),
        ("per: user", {"user": "ann", "tenant": "a"}, {"user": "ann", "tenant": "b"}, "user:ann"),
        ("per: workflow", {"workflow": "triage"}, {"workflow": "batch"}, "workflow:triage"),
        ("per: lane", {"lane": "critical"}, {"lane": "background"}, "lane:critical"),
        ("per: api_key", {"api_key": "key_1"}, {"api_key": "key_2"}, "api_key:key_1"),
        ("per: input.customer.id", {"input": {"customer": {"id": 7}}}, {"input": {}}, "input.customer.id:7"),
        (
            "per: [tenant, input.region]",
            {"tenant": "a", "input": {"region": "eu"}},
            {"tenant": "b", "input": {"region": "eu"}},
            "tenant:a+input.region:eu",
        ),
        ("per: fleet, tenant: a", {"tenant": "a"}, {"tenant": "b"}, "fleet"),
        ("per: fleet, lane: critical", {"lane": "critical"}, {"lane": "background"}, "fleet"),
    ],
)
def test_every_level_has_its_own_bucket(
    tmp_path: Path, rule: str, same: dict[str, Any], other: dict[str, Any], scope: str
) -> None:
    async def act(door: Door) -> None:
        await door.yes(**same)
        refusal = await door.no(**same)
        assert (refusal.reason, refusal.scope, refusal.window_s) == (Reason.RATE_LIMITED, scope, 3600)
        await door.yes(**other)

    at_door(tmp_path, with_limits(f"limits: [{{{rule}, runs: 1/h}}]"), act)


def test_a_run_without_the_key_is_not_judged_but_an_input_without_it_is(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        for _ in range(3):
            await door.yes()
        await door.yes(workflow="batch", input={"other": 1})
        refusal = await door.no(workflow="batch", input=[])
        assert refusal.scope == "input.customer:-"

    rules = "{per: user, runs: 1/h}, {per: api_key, runs: 1/h}, {per: input.customer, workflow: batch, runs: 1/h}"
    at_door(tmp_path, with_limits(f"limits: [{rules}]"), act)


def test_each_and_total_are_different_words(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        await door.yes(tenant="a")
        await door.yes(tenant="a")
        assert (await door.no(tenant="a")).scope == "tenant:a"
        await door.yes(tenant="b")
        refusal = await door.no(tenant="c")
        assert (refusal.scope, refusal.limit) == ("total:tenant", 3)

    at_door(tmp_path, with_limits("limits: [{per: tenant, each: {runs: 2/h}, total: {runs: 3/h}}]"), act)


def test_every_level_must_have_room_and_a_refusal_takes_from_none(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        await door.yes(tenant="a", user="ann")
        for _ in range(3):
            assert (await door.no(tenant="a", user="ann")).scope == "user:ann"
        await door.yes(tenant="a", user="bob")
        assert (await door.no(tenant="a", user="eve")).scope == "tenant:a"
        await door.yes(tenant="b", user="eve")

    at_door(tmp_path, with_limits("limits: [{per: tenant, runs: 2/h}, {per: user, runs: 1/h}]"), act)


@pytest.mark.parametrize(
    ("unit", "used"),
    [("model_tokens", {"used_model_tokens": 10}), ("money", {"used_money": 10.0}), ("calls", {"used_calls": 10})],
)
def test_quantities_are_taken_on_the_estimate_and_settled(tmp_path: Path, unit: str, used: dict[str, Any]) -> None:
    async def act(door: Door) -> None:
        await door.yes(**hint(**{unit: 60}))
        refusal = await door.no(**hint(**{unit: 60}))
        assert (refusal.reason, refusal.scope, refusal.unit) == (Reason.RATE_LIMITED, "tenant:default", unit)
        assert refusal.used == pytest.approx(60, abs=0.1)
        await run_one(door, **used)
        await door.yes(**hint(**{unit: 60}))
        never = await door.no(**hint(**{unit: 101}))
        assert (never.reason, never.scope, never.retry_after_ms) == (Reason.NEVER_FITS, "tenant:default", None)

    at_door(tmp_path, with_limits(f"limits: [{{per: tenant, {unit}: 100/day}}]"), act)


def test_unfinished_runs_are_bounded_per_key(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        first = await door.yes(tenant="a")
        refusal = await door.no(tenant="a")
        assert (refusal.reason, refusal.scope, refusal.limit) == (Reason.CONCURRENCY, "tenant:a", 1)
        assert refusal.retry_after_ms
        await door.yes(tenant="b")
        await door.store.runs.cancel(first.run.id, tenant=None, now_ms=door.clock.now_ms(), detail="x")
        await door.yes(tenant="a")

    at_door(tmp_path, with_limits("limits: [{per: tenant, concurrent: 1}]"), act)


def test_shadow_reports_and_refuses_nothing(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        for count in range(3):
            answer = await door.yes(tenant="a", **hint(model_tokens=80))
            assert set(answer.shadowed) == ({"tenant:a"} if count else set())

    rules = "{per: tenant, concurrent: 1, mode: shadow}, {per: tenant, model_tokens: 100/day, mode: shadow}"
    at_door(tmp_path, with_limits(f"limits: [{rules}]"), act)


def test_tenants_have_amounts_of_their_own_also_at_run_time(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        for _ in range(3):
            await door.yes(tenant="acme")
        assert (await door.no(tenant="acme")).scope == "tenant:acme"
        await door.yes(tenant="b")
        await door.no(tenant="b")
        wide = Control(
            "limit:starts@c", ControlKind.OVERRIDE, "a busy day", "ann", 0, rate_amount=5, rate_window_s=3600
        )
        door.intake.use(InForce(overrides={"limit:starts@c": wide}))
        for _ in range(5):
            await door.yes(tenant="c")
        assert (await door.no(tenant="c")).limit == 5
        await door.no(tenant="b")
        await door.no(tenant="acme")

    text = "limits: [{name: starts, per: tenant, runs: 1/h}]\ntenants: {acme: {limits: {starts: {runs: 3/h}}}}"
    at_door(tmp_path, with_limits(text), act)


def test_the_budget_of_the_fleet_is_taken_all_together_or_not(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        await door.yes(**hint(model_tokens=600, money=1))
        refusal = await door.no(**hint(model_tokens=300, money=10))
        assert (refusal.scope, refusal.unit) == ("fleet", "money")
        await door.yes(**hint(model_tokens=400, money=1))
        assert (await door.no(**hint(model_tokens=1))).unit == "model_tokens"

    at_door(tmp_path, with_limits("budget: {model_tokens: 1000/day, money: 10/day}"), act)


def test_a_learned_estimate_above_the_whole_takes_the_whole_and_is_charged_later(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        samples = [RunSample("triage", 4, model_tokens=5000, wall_s=1.0)] * 10
        await door.store.profiles.learn(samples, now_ms=1)
        await door.outlook.estimates.refresh(door.store)
        await door.yes()
        assert (await door.no(workflow="batch", **hint(model_tokens=1))).reason is Reason.RATE_LIMITED
        await run_one(door, used_model_tokens=3000)
        refusal = await door.no(workflow="batch", **hint(model_tokens=1))
        assert refusal.retry_after_ms is not None
        assert refusal.retry_after_ms >= 2 * 86_400_000

    at_door(tmp_path, with_limits("budget: {model_tokens: 1000/day}"), act)


def test_models_are_counted_where_a_profile_knows_them(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        use = {"large": ResourceUse(2, 1.0, 600), "crm": ResourceUse(3, 4.0, 0)}
        await door.store.profiles.learn(
            [RunSample("triage", 4, model_tokens=600, wall_s=2.0, per_resource=use)] * 400, now_ms=1
        )
        await door.yes(workflow="batch")
        await door.outlook.estimates.refresh(door.store)
        await door.yes()
        refusal = await door.no()
        assert (refusal.scope, refusal.unit) == ("resource:large", "model_tokens")
        await door.yes(workflow="batch")

    text = "models: {large: {model_tokens: 1000/day}}\ntools: {crm: {}}\n"
    at_door(tmp_path, with_limits(text), act)


def test_memory_is_held_while_runs_run(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        for _ in range(3):
            await door.yes()
        now = door.clock.now_ms()
        request = ClaimRequest("w", now, now + 15_000, (("standard", 9),), ("triage",), most={MEMORY: 10})
        assert len(await door.store.claims.claim(request)) == 2
        assert await door.store.holds.held() == {MEMORY: 8}
        refusal = await door.no(workflow="batch")
        assert (refusal.reason, refusal.scope, refusal.unit) == (Reason.NEVER_FITS, "fleet", "memory")

    text = "budget: {memory: 10}\nworkflows: {triage: {expects: {memory: 4}}, batch: {expects: {memory: 11}}}\n"
    at_door(tmp_path, parse_settings(text), act)


def test_without_limits_a_run_takes_nothing() -> None:
    book = RuleBook(parse_settings(WORKFLOW))
    rules = book.rules("triage", "a", None)
    assert not book.asks_for_estimates(rules)
    assert (rules.rates, rules.buckets) == ((), ())


def test_buckets_keep_their_names_when_rates_are_overridden() -> None:
    book = RuleBook(with_limits("limits: [{name: n, per: tenant, runs: 1/h}]"))
    (before,) = book.rules("triage", "a", None).rates
    override = Control("limit:n", ControlKind.OVERRIDE, "x", "ann", 0, rate_amount=9, rate_window_s=60)
    book.use(InForce(overrides={"limit:n": override}))
    (after,) = book.rules("triage", "a", None).rates
    assert (before.key, before.per_window) == (after.key, 1)
    assert Rate(after.per_window, after.window_ms / 1000) == Rate(9, 60)


@given(st.text(), st.text(), st.text(), st.text())
def test_different_values_never_share_a_key(one: str, two: str, three: str, four: str) -> None:
    paths = ("tenant", "user")
    first = key_of(paths, Asked("w", one, "l", user=two))
    second = key_of(paths, Asked("w", three, "l", user=four))
    assert first is not None
    assert second is not None
    assert (first[0] == second[0]) == ((one, two) == (three, four))


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(VALUES)
def test_any_input_has_a_printable_key(value: Any) -> None:
    found = key_of(("input.a.0", "input.b"), Asked("w", "t", "l", text=json.dumps({"a": value, "b": value})))
    assert found is not None
    assert len(found[0]) < 500
    assert found[1].isprintable()


@pytest.mark.parametrize("amount", [0, -1, float("nan"), float("inf"), True, "many"])
def test_a_hint_is_a_number_above_zero(tmp_path: Path, amount: Any) -> None:
    async def act(door: Door) -> None:
        with pytest.raises(InvalidRequest, match=r"cost\.calls"):
            await door.submit(**hint(calls=amount))

    at_door(tmp_path, with_limits(""), act)


def test_a_refusal_names_its_rule_and_answers_list_places_too(tmp_path: Path) -> None:
    async def act(door: Door) -> None:
        first = await door.yes(tenant="a")
        uses = [(use.rule, use.name, use.limit, use.remaining, use.window_s) for use in first.limits if use.rule]
        assert sorted(uses) == [("limits[1]", "tenant:a", 5, 4, None), ("steady", "tenant:a", 1, 0, 3600)]
        refusal = await door.no(tenant="a")
        assert (refusal.reason, refusal.scope, refusal.rule) == (Reason.RATE_LIMITED, "tenant:a", "steady")

    rules = "{name: steady, per: tenant, runs: 1/h}, {per: tenant, concurrent: 5}"
    at_door(tmp_path, with_limits(f"limits: [{rules}]"), act)


@pytest.mark.parametrize("turned", [False, True])
def test_of_two_rules_for_the_same_runs_the_smaller_refuses_and_what_is_tried_is_told(
    tmp_path: Path, turned: bool
) -> None:
    async def act(door: Door) -> None:
        await door.yes(tenant="a")
        second = await door.yes(tenant="a")
        assert second.shadowed == ("tenant:a",)
        refusal = await door.no(tenant="a")
        assert (refusal.reason, refusal.rule, refusal.limit, refusal.used) == (Reason.CONCURRENCY, "small", 2, 2)
        await door.yes(tenant="b")

    rules = [
        "{name: large, per: tenant, concurrent: 3}",
        "{name: tried, per: tenant, concurrent: 1, mode: shadow}",
        "{name: small, per: tenant, concurrent: 2}",
    ]
    rules = rules[::-1] if turned else rules
    at_door(tmp_path, with_limits(f"limits: [{', '.join(rules)}]"), act)
