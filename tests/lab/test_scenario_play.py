"""Scenarios on the real code: repeatable, complete, and honest against no limits."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace

import pytest

from headgate.lab.scenario.bound import bound
from headgate.lab.scenario.description import Scenario, parse_scenario
from headgate.lab.scenario.facts import ResourceFacts
from headgate.lab.scenario.play import Fate, Played, play, unlimited
from headgate.lab.scenario.scores import max_min, score
from headgate.lab.scenario.traffic import wishes, work_s
from headgate.lab.scenario.world import Effect

SMALL_WORLD = """
name: small
title: A small surge
seconds: 60s
recovered_from: 40
dependencies:
  large: {kind: model, parallel: 6, most: 18, takes: 200ms, reads: 20000, writes: 600}
  desk: {kind: tool, parallel: 6, most: 20, takes: 200ms}
lanes:
  critical: {part: 0.1, deadline: 20s, value: 8}
  standard: {part: 0.9, deadline: 30s, value: 2}
tenants: {count: 4}
calls: {least: 3, most: 5}
traffic: {load: 0.6, changes: [{since: 20, until: 40, times: 8}]}
troubles: [{since: 20, until: 40, on: large, capacity: 50%, errors: 0.3}]
headgate:
  workers: {slots: 32}
  models: {large: {concurrency: 1..18}}
  tools: {desk: {concurrency: 1..20}}
  workflows: {agent: {queue: {depth: 50}}}
"""


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return parse_scenario(SMALL_WORLD)


@pytest.fixture(scope="module")
def played(scenario: Scenario) -> Played:
    return play(scenario, seed=3)


def test_a_play_repeats_event_by_event(scenario: Scenario, played: Played) -> None:
    again = play(scenario, seed=3)
    assert played.events > 500
    assert (again.event_hash, again.fates) == (played.event_hash, played.fates)
    assert play(scenario, seed=4).event_hash != played.event_hash


def test_every_wish_has_one_fate_and_every_accepted_run_ends(scenario: Scenario, played: Played) -> None:
    assert Counter(fate.wish.number for fate in played.fates) == Counter(wish.number for wish in wishes(scenario, 3))
    assert all(fate.finished_s is not None for fate in played.fates if fate.admitted)
    assert all(fate.reason for fate in played.fates)


def test_the_ledger_agrees_with_the_fates(played: Played) -> None:
    answered = {(e.run, e.place) for e in played.effects if e.status == 200}
    for fate in played.fates:
        if fate.succeeded:
            needed = [place for place, call in enumerate(fate.wish.plan) if not call.part]
            assert all((fate.wish.number, place) in answered for place in needed)
        if not fate.admitted:
            assert not any(effect.run == fate.wish.number for effect in played.effects)


def test_the_facts_agree_with_the_ledger_and_survive_json(played: Played) -> None:
    for name, facts in played.facts.items():
        assert facts.started == sum(effect.dependency == name for effect in played.effects)
        assert facts.started == sum(facts.outcomes.values())
        assert facts.asked >= facts.started
        assert ResourceFacts.from_json(json.loads(json.dumps(facts.to_json()))).to_json() == facts.to_json()
    assert sum(facts.retried for facts in played.facts.values()) > 0


def test_no_limits_meet_the_same_wishes_and_do_worse(scenario: Scenario, played: Played) -> None:
    control = unlimited(scenario, seed=3)
    assert [fate.wish for fate in control.fates] == sorted(
        (fate.wish for fate in played.fates), key=lambda wish: wish.number
    )
    could = bound(scenario, [fate.wish for fate in played.fates])
    ours, theirs = score(played, could).measures, score(control, could).measures
    assert theirs["goodput"] < ours["goodput"] <= 1.0
    assert theirs["wasted-work"] > ours["wasted-work"]
    assert theirs["amplification"] > ours["amplification"]


def test_several_gates_share_a_store(scenario: Scenario) -> None:
    shared = play(scenario.model_copy(update={"gates": 3}), seed=3)
    assert all(fate.finished_s is not None for fate in shared.fates if fate.admitted)
    assert sum(fate.on_time for fate in shared.fates) > 0


def test_a_tenant_that_stays_away_changes_no_other_wish(scenario: Scenario) -> None:
    def others(without: tuple[str, ...]) -> list[tuple[float, str, object]]:
        drawn = wishes(scenario, 5, without=without)
        return [(wish.at_s, wish.tenant, wish.plan) for wish in drawn if wish.tenant != "tenant-00"]

    assert others(()) == others(("tenant-00",))


def test_the_bound_is_everything_when_little_is_asked_and_capacity_when_much_is(scenario: Scenario) -> None:
    calm = scenario.model_copy(
        update={"troubles": (), "traffic": scenario.traffic.model_copy(update={"load": 0.3, "changes": ()})}
    )
    wanted = wishes(calm, 1)
    assert bound(calm, wanted).value == pytest.approx(sum(wish.value for wish in wanted))
    assert bound(calm, wanted).by_lane == {"critical": pytest.approx(1.0), "standard": pytest.approx(1.0)}

    flood = calm.model_copy(update={"traffic": calm.traffic.model_copy(update={"load": 20.0})})
    wanted = wishes(flood, 1)
    could = bound(flood, wanted)
    densest = max(wish.value / work_s(wish.plan, flood.dependencies)["large"] for wish in wanted)
    assert could.value < 0.5 * sum(wish.value for wish in wanted)
    assert could.value <= densest * 6 * (60 + 30 + 20)
    assert could.by_lane["critical"] > could.by_lane["standard"]


@pytest.mark.parametrize(("bad_until", "expected"), [(0.0, 0.0), (55.0, 15.0), (100.0, float("inf"))])
def test_recovery_is_when_those_who_come_are_served_again_whatever_finishes(
    scenario: Scenario, bad_until: float, expected: float
) -> None:
    calm = scenario.model_copy(update={"seconds": 80.0})
    first = wishes(calm, 1)[0]
    fates = [
        # one of them every half second; those who come in the bad time are refused while a backlog finishes
        Fate(wish, 1, admitted=fine, succeeded=fine, finished_s=wish.at_s + 1 if fine else None)
        for wish, fine in (
            (replace(first, number=n, at_s=n / 2, deadline_s=9.0), not 20 <= n / 2 < bad_until) for n in range(160)
        )
    ]
    played = Played(calm, 1, fates, [], dict.fromkeys(calm.dependencies, 0.0), 90.0)
    could = bound(calm, [fate.wish for fate in fates])
    assert score(played, could).measures["recovery-s"] == expected


def test_max_min_gives_the_modest_all_and_the_rest_equally() -> None:
    assert max_min(10.0, {"a": 1.0, "b": 20.0, "c": 20.0}) == {"a": 1.0, "b": 4.5, "c": 4.5}
    assert max_min(10.0, {"a": 1.0, "b": 2.0}) == {"a": 1.0, "b": 2.0}


def test_who_leaves_after_the_end_did_not_go_away(scenario: Scenario) -> None:
    users = scenario.users.model_copy(update={"impatient": 1.0, "patience": 0.3})
    played = play(scenario.model_copy(update={"users": users}), seed=3)
    left = [fate for fate in played.fates if fate.went_away]
    assert left
    assert {fate.reason for fate in left} == {"cancelled"}
    assert any(fate.on_time for fate in played.fates)


def test_money_is_paid_for_model_tokens_however_long_they_take(scenario: Scenario) -> None:
    first = wishes(scenario, 1)[0]
    priced = {"large": scenario.dependencies["large"].model_copy(update={"price_per_1k": 0.01})}
    calm = scenario.model_copy(update={"dependencies": scenario.dependencies | priced})
    good, bad = (replace(first, number=n, at_s=50.0) for n in (1, 2))
    fates = [Fate(good, 1, admitted=True, succeeded=True, finished_s=51.0), Fate(bad, 1, admitted=True)]
    effects = [
        Effect(1, 0, "large", 50.0, 200, "", 9.0, 51.0, tokens=1000),
        Effect(2, 0, "large", 50.0, 200, "", 1.0, 51.0, tokens=1000),
        Effect(2, 1, "large", 50.0, 500, "server_error", 1.0, 51.0, tokens=1000),
    ]
    played = Played(calm, 1, fates, effects, dict.fromkeys(calm.dependencies, 0.0), 90.0)
    measures = score(played, bound(calm, [good, bad])).measures
    assert measures["money-wasted"] == pytest.approx(0.5)
    assert measures["wasted-work"] == pytest.approx(2 / 11)
