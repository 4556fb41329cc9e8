"""Comparisons: the same wishes for everybody, and results that survive being written down."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from headgate.config.settings import GateSettings
from headgate.config.workflow_settings import DegradeStep, WorkflowSettings
from headgate.errors import ConfigError
from headgate.lab.contest.compare import Entry, compare, read_lines
from headgate.lab.contest.contestants import contestants
from headgate.lab.contest.variants import Ablation, ablations
from headgate.lab.scenario.description import Scenario, parse_scenario
from headgate.lab.scenario.play import Fate, Played
from headgate.lab.scenario.timeline import STEP_S, Look, Sight, Watcher
from headgate.lab.scenario.traffic import wishes

SMALL_WORLD = """
name: small
title: A small surge
seconds: 40s
recovered_from: 30
dependencies:
  large: {kind: model, parallel: 6, most: 18, takes: 200ms, reads: 20000, writes: 600}
  desk: {kind: tool, parallel: 6, most: 20, takes: 200ms}
lanes:
  critical: {part: 0.1, deadline: 20s, value: 8}
  standard: {part: 0.9, deadline: 30s, value: 2}
tenants: {count: 4}
calls: {least: 3, most: 5}
traffic: {load: 0.6, changes: [{since: 15, until: 30, times: 6}]}
troubles: [{since: 15, until: 30, on: large, capacity: 50%, errors: 0.3}]
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
def plays(scenario: Scenario) -> dict[str, Played]:
    return {name: contestants()[name].play(scenario, seed=2) for name in ("none", "headgate")}


def test_the_names_are_in_order_and_everybody_has_a_title() -> None:
    assert next(iter(contestants())) == "none"
    assert all(one.title and name == one.name for name, one in contestants().items())


def test_every_policy_meets_the_same_wishes_and_has_one_entry(scenario: Scenario) -> None:
    told: list[tuple[int, int]] = []
    entries = list(compare([scenario], ["none", "headgate"], [2, 3], on_done=lambda *done: told.append(done)))
    assert [(one.seed, one.policy) for one in entries] == [(2, "none"), (2, "headgate"), (3, "none"), (3, "headgate")]
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    for none, ours in (entries[:2], entries[2:]):
        assert {n: lane.offered for n, lane in none.lanes.items()} == {
            n: lane.offered for n, lane in ours.lanes.items()
        }
        assert none.measures["goodput"] < ours.measures["goodput"] <= 1
        assert none.event_hash != ours.event_hash


def test_entries_survive_being_written_down(scenario: Scenario) -> None:
    entries = list(compare([scenario], ["none"], [2]))
    (back,) = read_lines("".join(one.line() for one in entries) + "\n")
    assert repr(back.measures) == repr(entries[0].measures)  # as text: NaN is not itself
    assert (back.lanes, back.event_hash, back.calls) == (entries[0].lanes, entries[0].event_hash, entries[0].calls)
    assert back.timeline.columns.keys() == entries[0].timeline.columns.keys()
    assert isinstance(back.lanes["critical"].ends, Counter)


def test_what_gates_refused_is_written_down_with_the_rest(scenario: Scenario) -> None:
    (entry,) = compare([scenario], ["headgate"], [2])
    (back,) = read_lines(entry.line())
    assert back.facts.keys() == entry.facts.keys()
    large, before = back.facts["large"], entry.facts["large"]
    assert (large.asked, large.refused, large.outcomes) == (before.asked, before.refused, before.outcomes)
    assert large.started > 0


def test_measures_that_are_no_finite_numbers_are_written_down_too(scenario: Scenario) -> None:
    (entry,) = compare([scenario], ["none"], [2])
    odd = Entry.from_json({**entry.to_json(), "measures": {"a": "inf", "b": None, "c": 0.5}})
    assert (odd.measures["a"], odd.measures["c"]) == (math.inf, 0.5)
    assert math.isnan(odd.measures["b"])
    assert '"measures":{"a":"inf","b":null,"c":0.5}' in odd.line()


def test_a_file_that_is_no_result_is_told_with_its_line() -> None:
    with pytest.raises(ConfigError, match="line 2 is no result"):
        read_lines('\n{"scenario": "small"}\n')


def test_an_unknown_policy_is_refused_before_anything_is_played(scenario: Scenario) -> None:
    with pytest.raises(ConfigError, match="no policy 'magic'; known: none"):
        compare([scenario], ["magic"], [1])


def test_the_timeline_counts_what_the_fates_tell(plays: dict[str, Played]) -> None:
    for played in plays.values():
        columns, fates = played.timeline.columns, played.fates
        assert sum(columns["offered"]) == len(fates)
        assert sum(columns["admitted"]) == sum(fate.admitted for fate in fates)
        assert sum(columns["on_time"]) == sum(fate.on_time for fate in fates)
        assert sum(columns["refused"]) == sum(len(fate.refusals) for fate in fates)
        assert sum(columns["errors"]) == sum(bool(e.code) and e.status != 499 for e in played.effects) > 0
        assert {len(column) for column in columns.values()} == {played.timeline.steps}
        assert played.timeline.steps >= 20


def test_the_timeline_shows_limits_only_where_there_are_any(plays: dict[str, Played]) -> None:
    none, ours = plays["none"].timeline.columns, plays["headgate"].timeline.columns
    assert all(math.isnan(one) for one in none["limit:large"] + none["pressure"])
    assert all(1 <= one <= 18 for one in ours["limit:large"])
    assert len(set(ours["limit:large"])) > 1
    assert max(ours["pressure"]) <= 1 < max(none["inflight:large"])
    assert max(ours["inflight:large"]) <= 18
    assert min(max(ours["waiting"]), max(ours["oldest_s"])) > 0
    assert max(none["waiting"]) == 0  # everything starts at once


def test_waiting_is_from_admission_to_start_or_end(scenario: Scenario) -> None:
    wish = wishes(scenario, 1)[0]
    fates = [
        Fate(wish, 1, admitted=True, admitted_s=1.0, started_s=3.5),
        Fate(wish, 1, admitted=True, admitted_s=2.5, finished_s=5.0),  # cancelled before it began
        Fate(wish, 1, admitted=True, admitted_s=3.0, started_s=3.0, finished_s=9.0),
        Fate(wish, 1, admitted=True, admitted_s=5.5),
        Fate(wish, 1, admitted=False, refused_s=(0.5, 6.5)),
    ]
    watcher = Watcher(["desk"], lambda name: 7, Sight, now=lambda: 0.0, step_s=2.0)
    sights = (Sight(), Sight({"desk": 3}, lined_up=4, oldest_s=1.9, pressure=0.5), Sight(), Sight())
    watcher.looks = [Look(2.0 * n, {"desk": 7}, sight) for n, sight in enumerate(sights, 1)]
    columns = watcher.timeline(fates, []).columns
    assert columns["waiting"] == [1, 1 + 4, 1, 1]
    assert columns["oldest_s"] == [1.0, 1.9, 0.5, 2.5]
    assert columns["refused"] == [1, 0, 0, 1]
    assert columns["inflight:desk"] == [7, 7, 7, 7]
    assert repr(columns["limit:desk"]) == "[nan, 3, nan, nan]"


@pytest.mark.parametrize("one", ablations(), ids=lambda one: one.name)
def test_an_ablation_changes_the_configuration_or_what_is_told_and_stays_valid(
    scenario: Scenario, one: Ablation
) -> None:
    assert f"headgate-without-{one.name}" in contestants()
    if one.change is None:
        assert one.untold
        return
    rich = scenario.headgate.model_copy(
        update={
            "models": {"large": scenario.headgate.models["large"].model_copy(update={"fallback": ("desk",)})},
            "workflows": {"agent": WorkflowSettings(degrade=(DegradeStep(at=0.5, skip=("review",)),))},
        }
    )
    changed = one.change(rich)
    assert changed != rich
    assert GateSettings.model_validate(dict(changed)) == changed
    assert changed.workflows["agent"].queue == rich.workflows["agent"].queue


@pytest.fixture(scope="module")
def without(scenario: Scenario) -> dict[str, Played]:
    names = ("adaptive", "lanes", "feasibility", "fairness")
    return {name: contestants()[f"headgate-without-{name}"].play(scenario, seed=2) for name in names}


def test_a_mechanism_off_is_felt_in_a_play(plays: dict[str, Played], without: dict[str, Played]) -> None:
    hashes = {one.event_hash for one in (plays["headgate"], *without.values())}
    assert len(hashes) == 1 + len(without)
    assert set(without["adaptive"].timeline.columns["limit:large"]) == {8.0}
    assert any("too_late" in fate.refusals for fate in plays["headgate"].fates)
    assert not any("too_late" in fate.refusals for fate in without["feasibility"].fates)
    tenants = {fate.wish.tenant for fate in plays["headgate"].fates}
    assert {fate.wish.tenant for fate in without["fairness"].fates} == tenants  # only the gate does not know them


def test_perfect_limits_follow_the_weather(scenario: Scenario) -> None:
    columns = contestants()["headgate-perfect-limits"].play(scenario, seed=2).timeline.columns
    large = {(n + 1) * STEP_S: limit for n, limit in enumerate(columns["limit:large"])}
    assert {limit for at_s, limit in large.items() if at_s <= 14 or at_s >= 31} == {6.0}
    assert {limit for at_s, limit in large.items() if 15 < at_s < 30} == {3.0}
    assert set(columns["limit:desk"]) == {6.0}


@pytest.mark.process
def test_another_process_plays_the_same(scenario: Scenario) -> None:
    here = {one.policy: one.event_hash for one in compare([scenario], ["none", "fixed", "headgate"], [3])}
    there = {one.policy: one.event_hash for one in compare([scenario], ["none", "fixed", "headgate"], [3], jobs=2)}
    assert there == here
    assert len(set(here.values())) == 3
