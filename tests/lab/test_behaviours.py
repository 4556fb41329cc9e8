"""Runs that are not ordinary, people who answer, and gates that restart."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from random import Random

import pytest

from headgate.errors import ConfigError
from headgate.lab.scenario.behaviours import Answerers, Behaviours
from headgate.lab.scenario.bound import bound
from headgate.lab.scenario.calls import LOOP, PLACES, SPLIT
from headgate.lab.scenario.description import Scenario, load_scenario, parse_scenario
from headgate.lab.scenario.oddities import in_a_row, needed
from headgate.lab.scenario.people import People
from headgate.lab.scenario.play import Played, play, unlimited
from headgate.lab.scenario.scores import score
from headgate.lab.scenario.traffic import Wish, wishes
from headgate.lab.virtual_time import LoopClock, run_virtual

WORLD = """
name: odd
title: Odd runs
seconds: 40s
dependencies:
  large: {kind: model, parallel: 6, most: 18, takes: 200ms, reads: 20000, writes: 600, price_per_1k: 0.01}
  search: {kind: tool, parallel: 6, most: 20, takes: 200ms}
  desk: {kind: tool, parallel: 6, most: 20, takes: 200ms}
lanes:
  critical: {part: 0.2, deadline: 30s, value: 8}
  background: {part: 0.8, deadline: 40s, value: 2}
tenants: {count: 4}
calls: {least: 4, most: 6}
traffic: {load: 0.3}
"""
CONFIG = """
headgate:
  workers: {slots: 32}
  models: {large: {concurrency: 1..18}}
  tools: {search: {concurrency: 1..20}, desk: {concurrency: 1..20}}
"""
SLOTS = 3


def odd(more: str, config: str = "") -> Scenario:
    return parse_scenario(WORLD + more + "\n" + CONFIG + config)


def of(played: Played, behaviour: str) -> dict[int, Wish]:
    return {fate.wish.number: fate.wish for fate in played.fates if fate.wish.behaviour == behaviour}


def calls_of(played: Played, behaviour: str) -> Counter[int]:
    numbers = of(played, behaviour)
    return Counter(dict.fromkeys(numbers, 0)) + Counter(e.run for e in played.effects if e.run in numbers)


def test_behaviours_change_no_other_run() -> None:
    plain, mixed = wishes(odd(""), 1), wishes(odd("behaviours: {looping: 20%, growing: 20%, delegating: 20%}"), 1)
    assert [(one.at_s, one.tenant, one.lane, one.manner) for one in plain] == [
        (one.at_s, one.tenant, one.lane, one.manner) for one in mixed
    ]
    ordinary = [place for place, one in enumerate(mixed) if not one.behaviour]
    assert 0 < len(ordinary) < len(mixed)
    assert [plain[place] for place in ordinary] == [mixed[place] for place in ordinary]
    found = Counter(one.behaviour for one in mixed)
    assert all(0.1 < found[name] / len(mixed) < 0.3 for name in ("looping", "growing", "delegating"))


def test_what_nobody_needs_is_worth_nothing_and_asks_nothing_of_the_bound() -> None:
    scenario = odd("behaviours: {looping: 50%, runaway: 50%}")
    wanted = wishes(scenario, 1)
    assert {(one.value, one.sound) for one in wanted} == {(0.0, False)}
    assert bound(scenario, wanted).value == 0
    mixed = odd("behaviours: {looping: 30%}")
    some = wishes(mixed, 1)
    assert bound(mixed, some).value == pytest.approx(bound(mixed, [one for one in some if one.sound]).value)


def test_plans_say_what_is_odd() -> None:
    plain = {one.number: one for one in wishes(odd(""), 1)}
    for wish in wishes(odd("behaviours: {looping: {part: 100%, rounds: 9, grows: 70}}"), 1):
        (circle,) = [one for one in wish.plan if one.does]
        assert (circle.does, circle.times, circle.reads) == (LOOP, 9, 70)
        assert needed(wish.plan) == plain[wish.number].plan
    for wish in wishes(odd("behaviours: {growing: {part: 100%, times: 3, at_most: 4000}}"), 1):
        reads = [one.reads for one in wish.plan if one.writes]
        before = [one.reads for one in plain[wish.number].plan if one.writes]
        assert reads == [max(b, min(4000, round(b * 3**n))) for n, b in enumerate(before)]
    for wish in wishes(odd("behaviours: {delegating: {part: 100%, fan: 3, levels: 2}}"), 1):
        own = plain[wish.number].plan
        first = own[: len(own) // 2]
        assert needed(wish.plan) == (*first, *(first + first * 3) * 3, own[-1])
        assert in_a_row(wish.plan) == (*first * 3, own[-1])


def test_loops_end_early_with_headgate_and_never_without() -> None:
    scenario = odd("behaviours: {looping: {part: 30%, rounds: 40}}")
    ours, theirs = play(scenario, seed=2), unlimited(scenario, seed=2)
    longest = max(len(needed(one.plan)) for one in of(ours, "looping").values())
    stop = 6  # the sixth insistence ends a run
    assert max(calls_of(ours, "looping").values()) <= longest + 2 * stop
    assert max(calls_of(theirs, "looping").values()) >= 80
    reasons = {fate.reason for fate in ours.fates if fate.wish.behaviour == "looping"}
    assert "loop_detected" in reasons
    assert all(fate.succeeded for fate in ours.fates if fate.wish.sound)
    could = bound(scenario, [fate.wish for fate in ours.fates])
    assert score(ours, could).measures["money-wasted"] < score(theirs, could).measures["money-wasted"]
    assert score(ours, could).measures["amplification"] == pytest.approx(1.0, abs=0.05)


def test_runs_that_spawn_themselves_end_at_the_ceiling_and_those_that_delegate_succeed() -> None:
    config = "  workflows: {agent: {budget: {depth: 2, fan_out: 5, descendants: 12}}}"
    behaviours = "behaviours: {delegating: {part: 30%, fan: 3}, runaway: {part: 10%, fan: 2, levels: 6}}"
    scenario = odd(behaviours, config)
    ours, theirs = play(scenario, seed=2), unlimited(scenario, seed=2)
    assert of(ours, "delegating")
    assert of(ours, "runaway")
    for played in (ours, theirs):
        answered = {(e.run, e.place) for e in played.effects if e.status == 200}
        for fate in played.fates:
            if fate.wish.behaviour == "delegating" and (fate.succeeded or played is ours):
                assert fate.succeeded
                nodes = {place // PLACES for run, place in answered if run == fate.wish.number}
                assert nodes == {0, 1, 2, 3}
    assert not any(fate.succeeded for fate in ours.fates if fate.wish.behaviour == "runaway")
    deepest = [max(e.place for e in p.effects if e.run in of(p, "runaway")) // PLACES for p in (ours, theirs)]
    assert deepest[0] <= 6  # of 0..6: itself, two sub-runs, four below these
    assert deepest[1] > 62


def test_a_plain_run_carries_its_sub_runs_itself() -> None:
    scenario = odd("behaviours: {delegating: {part: 100%, fan: 2, levels: 2}}")
    calm = scenario.model_copy(update={"traffic": scenario.traffic.model_copy(update={"load": 0.05})})
    played = unlimited(calm, seed=3)
    assert all(one.plan[-2].does == SPLIT for one in of(played, "delegating").values())
    seen = Counter((e.run, e.place) for e in played.effects if e.status == 200)
    assert set(seen.values()) == {1}
    for fate in played.fates:
        assert sum(run == fate.wish.number for run, _ in seen) == len(needed(fate.wish.plan))


def test_people_answer_the_oldest_question_first_at_their_own_speed() -> None:
    async def main(clock: LoopClock) -> list[tuple[int, float]]:
        people = People({"desk": Answerers(count=2, takes="10s", noise=0)}, rng=Random(1))
        answered: list[tuple[int, float]] = []

        async def ask(number: int) -> None:
            await people.ask("desk")
            answered.append((number, clock.monotonic()))

        asking = [asyncio.create_task(ask(number)) for number in range(5)]
        working = asyncio.create_task(people.work(lambda: None))
        asking[2].cancel()  # who asked went away, and nobody thinks about it
        await asyncio.gather(*asking, return_exceptions=True)
        working.cancel()
        return answered

    assert run_virtual(main) == [(0, 10.0), (1, 10.0), (3, 20.0), (4, 20.0)]


def test_runs_ask_people_and_go_on_when_they_have_said_yes() -> None:
    people = "behaviours: {asking: 50%}\npeople: {people: {count: 4, takes: 2s}}"
    scenario = odd(people, "  approvals: {people: {depth: 20, max_age: 60s}}")
    ours = play(scenario, seed=2)
    asking = [fate for fate in ours.fates if fate.wish.behaviour == "asking"]
    assert sum(fate.on_time for fate in asking) >= 0.8 * len(asking) > 3
    few = odd(people.replace("count: 4, takes: 2s", "count: 1, takes: 10s"), "  approvals: {people: {}}")
    assert bound(few, wishes(few, 2)).limits == "people"


def test_a_rolling_restart_loses_no_run_with_headgate_and_some_without() -> None:
    restarts = f"gates: {SLOTS}\nrestarts: {{since: 10, every: 6s, down: 1s, grace: 1s}}"
    scenario = odd(restarts).model_copy(update={"traffic": odd("").traffic.model_copy(update={"load": 0.7})})
    ours, theirs = play(scenario, seed=2), unlimited(scenario, seed=2)
    assert all(fate.succeeded for fate in ours.fates if fate.admitted)
    answered = Counter((e.run, e.place) for e in ours.effects if e.status == 200)
    assert sum(fate.admitted for fate in ours.fates) > 0.95 * len(ours.fates)
    assert len(answered) == sum(len(needed(fate.wish.plan)) for fate in ours.fates if fate.admitted)
    lost = [fate for fate in theirs.fates if not fate.succeeded]
    assert {round(fate.finished_s or 0) for fate in lost} <= {11, 17, 23}
    assert lost


def test_unusable_output_of_a_tool_is_repaired_by_a_model_so_often_and_no_more() -> None:
    bad = "troubles: [{since: 0, until: 4000, on: search, errors: 1.0, fault: malformed}]"
    scenario = odd(bad).model_copy(update={"calls": odd("").calls.model_copy(update={"repairs": 2})})
    played = unlimited(scenario, seed=2)
    hit = [f.wish for f in played.fates if any(call.dependency == "search" for call in f.wish.plan)]
    assert hit
    for wish in hit:
        place = next(n for n, call in enumerate(wish.plan) if call.dependency == "search")
        effects = [e for e in played.effects if (e.run, e.place) == (wish.number, place)]
        made = Counter(e.dependency for e in effects)
        assert made == {"search": 3 * 4, "large": 2}  # three requests with three repetitions each, two repairs
    assert not any(fate.succeeded for fate in played.fates if fate.wish in hit)


def test_a_flood_of_one_lane_leaves_the_others_as_they_are() -> None:
    calm = odd("").model_copy(update={"seconds": 400.0})
    changes = "[{since: 100, until: 300, times: 20, lane: background}]"
    longer = WORLD.replace("seconds: 40s", "seconds: 400s")
    flood = parse_scenario(longer.replace("{load: 0.3}", f"{{load: 0.3, changes: {changes}}}") + CONFIG)
    herds = "[{at: 50, runs: 40, lane: critical}]"
    herd = parse_scenario(longer.replace("{load: 0.3}", f"{{load: 0.3, herds: {herds}}}") + CONFIG)
    found = {name: Counter(w.lane for w in wishes(one, 4)) for name, one in (("calm", calm), ("flood", flood))}
    assert found["flood"]["critical"] == pytest.approx(found["calm"]["critical"], rel=0.35)
    assert found["flood"]["background"] == pytest.approx(10.5 * found["calm"]["background"], rel=0.15)
    together = [wish.lane for wish in wishes(herd, 4) if 50 <= wish.at_s < 51]
    assert 40 <= together.count("critical") <= 44


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("behaviours: {looping: 60%, runaway: 50%}", "cannot be more than 1 together"),
        ("behaviours: {lopping: 60%}", "unknown key 'lopping'; did you mean 'looping'"),
        ("behaviours: {looping: fast}", "mine.yaml:15:14: 'fast' is not a share"),
        (
            "behaviours: {asking: 10%}",
            "mine.yaml:15:22: headgate: declares no approvals 'people', which the runs ask",
        ),
        ("behaviours: {asking: {part: 10%, queue: bosses}}", "people: nobody answers 'bosses', which the runs ask"),
        ("people: {bosses: {count: 1, takes: 5s}}", "mine.yaml:15:18: headgate: declares no approvals 'bosses'"),
        ("people: {count: 1, takes: 5s}", "mine.yaml:15:9: name the approval queue first, for example people: {man"),
        ("restarts: {since: 5, every: 5s}", "needs gates: 2 or more"),
    ],
)
def test_mistakes_are_told(more: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_scenario(WORLD + more + CONFIG, "mine.yaml")
    assert told in str(refused.value)


def test_a_scenario_of_ones_own_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(WORLD + CONFIG, encoding="utf-8")
    assert load_scenario(str(path)).title == "Odd runs"
    with pytest.raises(ConfigError, match="cannot be read"):
        load_scenario(str(tmp_path / "other.yaml"))


@pytest.mark.parametrize("nesting", ["runaway", "delegating"])
def test_more_sub_runs_than_can_be_listed_are_refused(nesting: str) -> None:
    with pytest.raises(ValueError, match="at most 2000"):
        Behaviours.model_validate({nesting: {"part": 0.1, "fan": 10, "levels": 9}})
    assert Behaviours.model_validate({nesting: {"part": 0.1, "fan": 2, "levels": 9}}).parts() == {nesting: 0.1}
