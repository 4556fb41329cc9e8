"""A search finds what is there to be found with few plays, and says so when nothing is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.config.document import read_document
from headgate.config.load import parse_settings
from headgate.errors import ConfigError
from headgate.lab.own_config import workflow_in
from headgate.lab.scenario.description import parse_scenario
from headgate.lab.search.advising import LEAST_PLAYS, Subject, advise_settings, subject_of, subject_of_file
from headgate.lab.search.hunt import Changes, Found, Hunt, holds_up, standard_error, worth_of
from headgate.lab.search.space import Move, moves

CONFIG = """\
# how we run it
lanes:
  critical: {share: 30%, max_wait: 10s}
  standard: {}
models:
  large: {concurrency: 1..8, queue: {depth: 6}}  # what they sold us
tools:
  desk: {concurrency: 2}
workflows:
  triage:
    degrade: [{at: 60%, skip: [review]}]
"""
SCENARIO = """
name: tiny
title: A tiny surge
seconds: 6s
dependencies:
  large: {kind: model, parallel: 6, most: 18, takes: 200ms, reads: 20000, writes: 600}
  desk: {kind: tool, parallel: 6, most: 20, takes: 200ms}
lanes:
  critical: {part: 0.2, deadline: 20s, value: 8}
  standard: {part: 0.8, deadline: 30s, value: 2}
tenants: {count: 3}
calls: {least: 3, most: 4}
traffic: {load: 0.6, changes: [{since: 1, until: 3, times: 5}]}
headgate:
  models: {large: {}}
  tools: {desk: {}}
"""
DEPTH, SLOTS = ("models", "large", "queue", "depth"), ("workers", "slots")
Worth = Callable[[dict[Any, float], int], float]


def hunt(worth: Worth, *, plays: int = 60, log: list[int] | None = None) -> Found:
    """A search over two numbers, both 8 at the beginning."""

    def steps(changes: Changes) -> list[Move]:
        found = []
        for path in (DEPTH, SLOTS):
            now = int(changes.get(path, "8"))
            found += [Move(path, str(value), str(now)) for value in (2 * now, now // 2) if value]
        return found

    def judge(places: Sequence[Changes], seed: int) -> list[float | None]:
        if log is not None:
            log.append(len(places))
        return [worth({path: float(place.get(path, "8")) for path in (DEPTH, SLOTS)}, seed) for place in places]

    return Hunt(judge, steps, search_seeds=(1, 2, 3), check_seeds=(4, 5, 6, 7), plays=plays).go()


def hill(place: dict[Any, float], seed: int) -> float:
    """Best at depth 64 and 2 slots."""
    noise = Random(seed).gauss(0, 0.05)  # the same for all places: seeds are harder or easier
    return 0.9 - 0.05 * abs(math.log2(place[DEPTH] / 64)) - 0.05 * abs(math.log2(place[SLOTS] / 2)) + noise


def test_it_climbs_a_hill_and_measures_the_gain_on_other_seeds() -> None:
    found = hunt(hill)
    assert found.changes == {DEPTH: "64", SLOTS: "2"}
    assert found.gain == pytest.approx(0.25)
    assert len(found.gains) == 4
    assert found.plays <= 60


def test_it_finds_nothing_on_the_flat_and_stops() -> None:
    found = hunt(lambda place, seed: 0.5, plays=1000)
    assert (found.changes, found.gains, found.looked_better) == ({}, (), 0.0)
    assert found.plays < 20
    assert sorted(one.value for one in found.steps) == ["16", "16", "4", "4"]
    assert not found.steps_left


def test_a_search_that_ran_out_of_plays_says_so() -> None:
    found = hunt(lambda place, seed: 0.5, plays=LEAST_PLAYS)
    assert found.tried == 1
    assert found.steps_left


def test_the_error_beside_a_gain_is_the_one_that_decides() -> None:
    gains = iter([0.02, 0.03, 0.05, 0.06])

    def worth(place: dict[Any, float], seed: int) -> float:
        if place[DEPTH] == 8:
            return 0.5
        return 0.5 + (0.1 if seed <= 3 else next(gains))

    found = hunt(worth, plays=LEAST_PLAYS)
    assert found.error == pytest.approx(standard_error([0.02, 0.03, 0.05, 0.06]))
    assert standard_error([0.0, 0.02]) == pytest.approx(0.01)
    assert standard_error([0.3]) == 0.0


def test_what_does_not_hold_on_other_seeds_is_not_suggested() -> None:
    found = hunt(lambda place, seed: 0.5 + (0.1 if place[DEPTH] > 8 and seed <= 3 else 0.0))
    assert found.changes == {}
    assert found.looked_better == pytest.approx(0.1)
    assert found.gain == pytest.approx(0.0)


@settings(max_examples=60)
@given(plays=st.integers(LEAST_PLAYS, 120), chance=st.randoms(use_true_random=False))
def test_it_never_plays_more_than_it_may(plays: int, chance: Random) -> None:
    log: list[int] = []
    found = hunt(lambda place, seed: chance.random(), plays=plays, log=log)
    assert sum(log) == found.plays <= plays


def test_gains_hold_up_when_they_are_more_than_chance() -> None:
    assert holds_up([0.02, 0.03, 0.02])
    assert not holds_up([0.2, -0.2, 0.1, -0.05])
    assert not holds_up([0.001, 0.001])
    assert not holds_up([])


def test_worth_is_goodput_less_what_must_not_be_bought_with() -> None:
    good = {"goodput": 0.8, "critical-on-time": 1.0, "accepted-late": 0.0, "wasted-work": math.nan}
    assert worth_of(good, "critical") == pytest.approx(0.8)
    assert worth_of({**good, "critical-on-time": 0.79}, "critical") == pytest.approx(0.7)
    assert worth_of({**good, "accepted-late": 0.13}, "critical") == pytest.approx(0.75)


def test_every_step_of_the_space_makes_a_valid_configuration() -> None:
    scenario = parse_scenario(SCENARIO)
    now = parse_settings(CONFIG)
    found = moves(now, read_document(CONFIG, {}).value, [scenario], "triage", ["tools.desk.queue.max_age"])
    told = {(one.setting, one.value) for one in found}
    assert [one.setting for one in found[:2]] == ["tools.desk.queue.max_age"] * 2
    assert {
        ("models.large.queue.depth", "12"),
        ("models.large.concurrency", "1..16"),
        ("tools.desk.concurrency", "1..4"),
        ("tools.desk.retry.attempts", "2"),
        ("lanes.critical.share", "40%"),
        ("lanes.critical.max_wait", "5s"),
        ("lanes.standard.max_wait", "15s"),
        ("workflows.triage.degrade.0.at", "50%"),
        ("workers.slots", "32"),
    } <= told
    subject = Subject(CONFIG, "headgate.yaml", (), (scenario,))
    for move in found:
        (played,) = subject.played_with({move.path: move.value})
        assert played.headgate != subject.played_with({})[0].headgate, move


def test_default_lanes_are_left_alone() -> None:
    text = "models: {large: {}}\ntools: {desk: {}}\n"
    found = moves(parse_settings(text), read_document(text, {}).value, [parse_scenario(SCENARIO)], "agent", [])
    assert not any(one.setting.startswith("lanes.") for one in found)


def test_a_real_search_writes_a_diff_that_keeps_comments_or_says_nothing_better(tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(CONFIG)
    subject = subject_of([parse_scenario(SCENARIO)], file, None)
    seen: list[tuple[int, int]] = []
    suggestion = advise_settings(subject, plays=LEAST_PLAYS, on_done=lambda done, of: seen.append((done, of)))
    found = suggestion.found
    assert seen[-1] == (found.plays, LEAST_PLAYS)
    assert bool(suggestion.diff) is bool(found.changes) is bool(suggestion.moves)
    changed = subject.with_changes({DEPTH: "12", ("lanes", "critical", "share"): "40%"})
    assert changed == CONFIG.replace("depth: 6", "depth: 12").replace("30%", "40%")
    assert file.read_text() == CONFIG


def test_a_scenario_files_own_configuration_can_be_improved(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(SCENARIO)
    subject = subject_of_file(file)
    (played,) = subject.played_with({DEPTH: "12"})
    assert played.headgate.models["large"].queue.depth == 12
    assert "large: {queue: {depth: 12}}" in subject.with_changes({DEPTH: "12"})


def test_too_few_plays_are_refused(tmp_path: Path) -> None:
    (tmp_path / "headgate.yaml").write_text(CONFIG)
    subject = subject_of([parse_scenario(SCENARIO)], tmp_path / "headgate.yaml", None)
    with pytest.raises(ConfigError, match=f"at least {LEAST_PLAYS}"):
        advise_settings(subject, plays=LEAST_PLAYS - 1)
    with pytest.raises(ConfigError, match="cannot be read"):
        subject_of([], tmp_path / "nope.yaml", None)


@pytest.mark.parametrize(
    ("text", "workflow", "named"),
    [
        ("workflows: {triage: {}}", None, "triage"),
        ("workflows: {triage: {}, agent: {}}", None, "agent"),
        ("workflows: {triage: {}, agent: {}}", "triage", "triage"),
        ("workflows: {}", None, "agent"),
    ],
)
def test_the_runs_workflow_is_called_as_in_the_file(
    text: str, workflow: str | None, named: str, tmp_path: Path
) -> None:
    (tmp_path / "headgate.yaml").write_text(text)
    assert workflow_in(tmp_path / "headgate.yaml", workflow) == named
    assert workflow_in(None, None) == "agent"
