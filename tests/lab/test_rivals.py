"""The other policies: their rules as published, and plays that repeat and end."""

from __future__ import annotations

import asyncio
import math

import pytest

from headgate.lab.contest.contestants import contestants
from headgate.lab.contest.rivals.facts import facts_of
from headgate.lab.contest.rivals.field import recipes
from headgate.lab.contest.rivals.line import ByRank, CodelLifo, Fifo, Line, NoPlace, Order
from headgate.lab.contest.rivals.playing import play_rival
from headgate.lab.contest.rivals.rules import ActiveShare, ClientThrottle, Pacer, RequestShare, VolumeBreaker
from headgate.lab.scenario.bound import Bound, bound
from headgate.lab.scenario.description import Scenario, load_scenario, parse_scenario
from headgate.lab.scenario.play import Played, unlimited
from headgate.lab.scenario.scores import score
from headgate.lab.scenario.traffic import wishes
from headgate.lab.virtual_time import LoopClock, run_virtual
from headgate.model.outcome import Outcome

WORLD = """
name: small
title: A small surge
seconds: 60s
dependencies:
  large: {kind: model, parallel: 6, most: 40, takes: 200ms, reads: 20000, writes: 600, thrash: 0.6, goes_on: false}
  desk: {kind: tool, parallel: 6, most: 20, takes: 200ms}
lanes:
  critical: {part: 0.1, deadline: 8s, value: 8}
  standard: {part: 0.9, deadline: 12s, value: 2}
tenants: {count: 4}
calls: {least: 3, most: 5}
traffic: {load: 0.7, changes: [{since: 15, until: 45, times: 5}]}
headgate:
  workers: {slots: 32}
  models: {large: {concurrency: 1..40}}
  tools: {desk: {concurrency: 1..20, rate: 1200/min}}
"""
FIXED = next(recipe for recipe in recipes() if recipe.name == "fixed")
RIVALS = [recipe.name for recipe in recipes()]


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return parse_scenario(WORLD)


@pytest.fixture(scope="module")
def plays(scenario: Scenario) -> dict[str, Played]:
    return {recipe.name: play_rival(recipe, scenario, seed=1) for recipe in recipes()}


def goodput(played: Played) -> float:
    return score(played, bound(played.scenario, [fate.wish for fate in played.fates])).measures["goodput"]


def test_every_rival_is_a_contestant() -> None:
    assert set(RIVALS) < set(contestants())
    assert len(RIVALS) == len(set(RIVALS))


@pytest.mark.parametrize("name", RIVALS)
def test_every_wish_has_one_fate_and_ends_by_its_deadline(
    scenario: Scenario, plays: dict[str, Played], name: str
) -> None:
    played = plays[name]
    assert sorted(fate.wish.number for fate in played.fates) == [wish.number for wish in wishes(scenario, 1)]
    for fate in played.fates:
        assert fate.reason
        if fate.admitted:
            assert fate.finished_s is not None
            assert fate.finished_s <= fate.wish.at_s + fate.wish.deadline_s + 1e-6
    assert sum(fate.on_time for fate in played.fates) > 0


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_repeats_itself(scenario: Scenario, plays: dict[str, Played], name: str) -> None:
    again = contestants()[name].play(scenario, seed=1)
    assert again.event_hash == plays[name].event_hash
    assert contestants()[name].play(scenario, seed=2).event_hash != again.event_hash


def test_limits_hold_in_the_world(scenario: Scenario, plays: dict[str, Played]) -> None:
    most = {name: max(played.timeline.columns["inflight:large"]) for name, played in plays.items()}
    assert most["fixed"] <= 6 < most["fixed-high"] <= 18
    assert most["fixed-low"] <= 2
    assert most["retry-budget-only"] > 18
    assert math.isnan(plays["breaker-only"].timeline.columns["limit:large"][0])


def test_the_right_limit_beats_one_that_is_three_times_too_high(plays: dict[str, Played]) -> None:
    assert goodput(plays["fixed"]) > goodput(plays["fixed-high"]) + 0.02
    assert goodput(plays["fixed"]) > goodput(plays["fixed-low"]) + 0.02


def test_order_by_lane_serves_the_valuable_first(plays: dict[str, Played]) -> None:
    def served(played: Played) -> float:
        critical = [fate for fate in played.fates if fate.wish.lane == "critical"]
        return sum(fate.on_time for fate in critical) / len(critical)

    assert served(plays["fixed-by-lane"]) > served(plays["fixed"])


def test_no_limits_miss_the_goals_of_the_surge_with_outage() -> None:
    scenario = load_scenario("surge-outage")
    played = unlimited(scenario, seed=1)
    all_of_it = Bound(
        worth := sum(fate.wish.value for fate in played.fates), worth, "", dict.fromkeys(scenario.lanes, 1.0)
    )
    measures = score(played, all_of_it).measures
    missed = {goal.measure for goal in scenario.goals if not goal.met(measures[goal.measure])}
    assert {"wasted-work", "accepted-late", "amplification"} <= missed


def test_what_is_in_memory_only_is_lost_in_a_restart() -> None:
    played = play_rival(FIXED, load_scenario("rolling-restart"), seed=1)
    lost = [fate for fate in played.fates if fate.reason == "cancelled"]
    assert lost
    assert not any(fate.on_time for fate in lost)
    assert {fate.went_away for fate in lost} == {False}


def test_agents_repair_unusable_output_with_a_rival_too() -> None:
    scenario = load_scenario("malformed-output")
    played = play_rival(FIXED, scenario, seed=1)
    plans = {fate.wish.number: fate.wish.plan for fate in played.fates}
    repairs = [e for e in played.effects if scenario.dependencies[e.dependency].kind == "model"]
    repairs = [e for e in repairs if plans[e.run][e.place].dependency == "search"]
    assert len(repairs) > 20
    assert sum(fate.on_time for fate in played.fates) > 0.5 * len(played.fates)


def test_people_answer_the_runs_of_a_rival() -> None:
    played = play_rival(FIXED, load_scenario("approval-backlog"), seed=1)
    assert sum(fate.on_time for fate in played.fates) > 0.5 * len(played.fates)


@pytest.mark.parametrize("fallback", ["small", "[]"])
def test_a_call_in_vain_goes_to_the_stand_in_if_one_is_declared(fallback: str) -> None:
    small = (
        "small: {kind: model, parallel: 12, most: 40, takes: 100ms, reads: 20000, writes: 900, in_place_of: large}"
    )
    text = WORLD.replace("  desk: {kind", f"  {small}\n  desk: {{kind")
    text = text.replace("{large: {concurrency: 1..40}}", f"{{large: {{fallback: {fallback}}}, small: {{}}}}")
    text += "troubles: [{since: 0, until: 100, on: large, errors: 1.0, fault: '503'}]\n"
    played = play_rival(FIXED, parse_scenario(text), seed=1)
    answered = {effect.dependency for effect in played.effects if effect.status == 200 and not effect.code}
    assert ("small" in answered, any(fate.on_time for fate in played.fates)) == (fallback == "small",) * 2


def test_the_facts_are_those_of_the_undisturbed_world(scenario: Scenario) -> None:
    facts = facts_of(scenario)
    desk = facts.dependencies["desk"]
    assert (desk.knee, desk.concurrency.most, facts.slots) == (6, 20, 32)
    assert desk.mean_s == pytest.approx(0.2 * math.exp(0.3**2 / 2), rel=0.1)
    assert desk.p95_s == pytest.approx(0.2 * math.exp(1.645 * 0.3), rel=0.15)


def test_the_facts_know_the_sizes_of_a_trace() -> None:
    trace = facts_of(load_scenario("conversations")).dependencies["large"]
    drawn = load_scenario("conversations")
    drawn = drawn.model_copy(update={"traffic": drawn.traffic.model_copy(update={"shape": "poisson"})})
    assert trace.mean_s > 1.2 * facts_of(drawn).dependencies["large"].mean_s
    assert facts_of(load_scenario("looping-agent")).run_s < 60


def test_the_throttle_refuses_by_the_formula_of_the_book() -> None:
    throttle = ClientThrottle()
    for _ in range(100):
        assert not throttle.refuses(1.0, 0.99) or throttle.chance(1.0) > 0.9
    for _ in range(20):
        throttle.end(Outcome.OK, 1.0)
        throttle.end(Outcome.OVERLOADED, 1.0)
    assert throttle.chance(1.0) == pytest.approx((100 - 2 * 20) / 101)
    assert throttle.chance(200.0) == 0.0  # two minutes have passed


def test_the_breaker_opens_on_half_of_twenty_tests_once_and_closes() -> None:
    breaker = VolumeBreaker()
    for place in range(19):
        breaker.end(Outcome.OK if place % 2 else Outcome.FAILED, 1.0)
    assert not breaker.refuses(1.0)
    breaker.end(Outcome.FAILED, 1.0)
    assert breaker.refuses(5.9)
    assert not breaker.refuses(6.0)
    assert breaker.refuses(6.1)  # only one test at a time
    breaker.end(Outcome.TIMEOUT, 7.0)
    assert breaker.refuses(11.9)
    assert not breaker.refuses(12.1)
    breaker.end(Outcome.OK, 12.5)
    assert not breaker.refuses(12.5)


def test_retries_are_a_share_of_what_is_under_way_or_was_asked() -> None:
    active = ActiveShare()
    assert [active.allows(0.0, 5) for _ in range(4)] == [True, True, True, False]
    active.ended()
    assert active.allows(0.0, 5)
    assert active.allows(0.0, 100)
    asked = RequestShare()
    for _ in range(30):
        asked.request(1.0)
    assert [asked.allows(1.0, 0) for _ in range(4)] == [True, True, True, False]
    assert asked.allows(300.0, 0)


def test_the_pacer_spaces_what_exceeds_the_burst() -> None:
    pacer = Pacer(10.0, burst=2.0)
    assert [pacer.wait_s(100.0) for _ in range(4)] == pytest.approx([0.0, 0.0, 0.1, 0.2])
    assert pacer.wait_s(200.0) == 0.0


async def _served(order: Order, clock: LoopClock, comes: list[tuple[float, int, str]], depth: int = 10) -> list[str]:
    """Who got the single slot, in order; each holds it for 1 s. Comes at, rank, name."""
    line, served = Line(lambda: 1, depth, order, clock), list[str]()

    async def come(at_s: float, rank: int, name: str) -> None:
        await asyncio.sleep(at_s)
        try:
            await line.turn(line.join(rank))
        except NoPlace as refusal:
            served.append(f"{name}: {refusal} at {clock.monotonic():.1f}")
            return
        served.append(name)
        await asyncio.sleep(1.0)
        line.leave()

    await asyncio.gather(*(come(*one) for one in comes))
    assert (line.inflight, line.waiting) == (0, 0)
    return served


def test_a_line_serves_in_its_order() -> None:
    comes = [(0.0, 1, "a"), (0.1, 1, "b"), (0.2, 0, "c"), (0.3, 1, "d")]
    assert run_virtual(lambda clock: _served(Fifo(), clock, comes)) == ["a", "b", "c", "d"]
    assert run_virtual(lambda clock: _served(ByRank(), clock, comes)) == ["a", "c", "b", "d"]


def test_a_full_line_refuses_and_ranks_have_room_of_their_own() -> None:
    comes = [(0.0, 1, "a"), (0.1, 1, "b"), (0.2, 1, "c"), (0.3, 0, "d")]
    fifo = run_virtual(lambda clock: _served(Fifo(), clock, comes, depth=1))
    assert fifo == ["a", "c: queue_full at 0.2", "d: queue_full at 0.3", "b"]
    ranked = run_virtual(lambda clock: _served(ByRank(), clock, comes, depth=1))
    assert ranked == ["a", "c: queue_full at 0.2", "d", "b"]


def test_codel_turns_to_newest_first_and_drops_who_waited_while_the_line_was_never_empty() -> None:
    comes = [(0.0, 0, "a"), *((0.1 + n / 2, 0, f"w{n}") for n in range(6))]
    served = run_virtual(lambda clock: _served(CodelLifo(target_s=0.7, interval_s=1.5), clock, comes))
    assert served[:3] == ["a", "w0", "w3"]  # at 2 s the line has not been empty for longer than the interval
    assert "w1: queue_delay at 2.6" in served  # found when the next one came
    calm = [(2.0 * n, 0, f"w{n}") for n in range(4)]
    assert run_virtual(lambda clock: _served(CodelLifo(target_s=0.1, interval_s=0.2), clock, calm)) == [
        "w0",
        "w1",
        "w2",
        "w3",
    ]


def test_who_leaves_the_line_keeps_no_place() -> None:
    async def main(clock: LoopClock) -> tuple[int, int]:
        line = Line(lambda: 1, 5, Fifo(), clock)
        await line.turn(line.join(0))
        waiting = asyncio.create_task(line.turn(line.join(0)))
        leaving = asyncio.create_task(line.turn(line.join(0)))
        await asyncio.sleep(1)
        leaving.cancel()
        await asyncio.sleep(1)
        seen = line.waiting
        line.leave()
        waiting.cancel()  # it has just been given the slot
        await asyncio.gather(waiting, leaving, return_exceptions=True)
        return seen, line.inflight

    assert run_virtual(main) == (1, 0)


def test_who_could_not_go_in_time_takes_no_place_of_the_pacer() -> None:
    pacer = Pacer(1.0, burst=1.0)
    assert [pacer.wait_s(0.0, 2.5) for _ in range(50)] == [0.0, 1.0, 2.0, *([None] * 47)]
    assert pacer.wait_s(3.0, 5.5) == 0.0
