"""Each rule speaks when its number says so, names that number, and is silent when not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest

from headgate.config.document import read_document
from headgate.lab.advice import RULES, advise, advise_on
from headgate.lab.advice.evidence import Evidence
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.facts import ResourceFacts
from headgate.lab.scenario.scores import LaneScore
from headgate.lab.scenario.timeline import Timeline

STEPS, STEP_S = 60, 2.0

WORLD = """
name: words
title: A world to speak about
seconds: 120s
dependencies:
  large: {kind: model, parallel: 20, most: 60}
  small: {kind: model, parallel: 10, most: 30, in_place_of: large}
  desk: {kind: tool, parallel: 10, most: 20}
troubles: [{since: 40, until: 60, on: large, errors: 1.0, fault: hang}]
lanes:
  critical: {part: 0.1, deadline: 20s, value: 8}
  standard: {part: 0.9, deadline: 60s, value: 2}
traffic: {load: 0.6}
headgate:
  lanes: {critical: {share: 20%}, standard: {sheddable: true}}
  models:
    large: {concurrency: 1..30, fallback: small, timeout: 10s}
    small: {concurrency: 1..30}
  tools:
    desk: {concurrency: 10}
  workflows:
    agent:
      lane: standard
      degrade: [{at: 60%, skip: [review]}]
"""


def world(**changes: Any) -> Scenario:
    """`WORLD` with other settings, as a file would write them, of a resource (``large={...}``) or of a section."""
    values = deepcopy(read_document(WORLD, {}).value)
    for name, change in changes.items():
        section = {"large": "models", "small": "models", "desk": "tools", "agent": "workflows"}.get(name)
        place = values["headgate"] if section is None else values["headgate"][section]
        place[name] = {**place[name], **change}
    return Scenario.model_validate(values)


def quiet(scenario: Scenario | None = None) -> Evidence:
    """A play in which all went well."""
    columns = {name: [0.0] * STEPS for name in ("waiting", "oldest_s", "pressure", "admitted")}
    for name, limit in (("large", 30.0), ("small", 30.0), ("desk", 10.0)):
        columns[f"limit:{name}"] = [limit] * STEPS
        columns[f"inflight:{name}"] = [2.0] * STEPS
    facts = {
        name: ResourceFacts(started=100, outcomes=Counter(ok=100), refused={}, timeouts=Counter())
        for name in ("large", "small", "desk")
    }
    lanes = {
        "critical": LaneScore(100, 100, 100, 0, 1.0, Counter(succeeded=100)),
        "standard": LaneScore(900, 900, 900, 0, 1.0, Counter(succeeded=900)),
    }
    measures = {"goodput": 0.99, "accepted-late": 0.0, "missed-in-line": float("nan"), "jain": 0.99}
    return Evidence(scenario or world(), measures, lanes, facts, Timeline(STEP_S, columns))


def with_column(evidence: Evidence, name: str, value: float, part: float = 1.0) -> Evidence:
    count = round(STEPS * part)
    columns = {**evidence.timeline.columns}
    columns[name] = [value] * count + columns[name][count:]
    return replace(evidence, timeline=Timeline(STEP_S, columns))


def with_facts(evidence: Evidence, name: str, **changes: Any) -> Evidence:
    return replace(evidence, facts={**evidence.facts, name: replace(evidence.facts[name], **changes)})


def with_measures(evidence: Evidence, **changes: float) -> Evidence:
    named = {name.replace("_", "-"): value for name, value in changes.items()}
    return replace(evidence, measures={**evidence.measures, **named})


def with_ends(evidence: Evidence, lane: str, **changes: Any) -> Evidence:
    return replace(evidence, lanes={**evidence.lanes, lane: replace(evidence.lanes[lane], **changes)})


def asked(admitted: float) -> Evidence:
    """A play in which a third of the runs asks one person, who takes three seconds, and many were late at work."""
    values = deepcopy(read_document(WORLD, {}).value)
    values |= {"behaviours": {"asking": {"part": 1 / 3}}, "people": {"people": {"count": 1, "takes": 3.0}}}
    values["headgate"]["approvals"] = {"people": {"depth": 8}}
    evidence = with_measures(quiet(Scenario.model_validate(values)), accepted_late=0.2, missed_in_line=0.1)
    return with_column(evidence, "admitted", admitted, part=0.5)


def full_all_the_time(evidence: Evidence, name: str) -> Evidence:
    return with_column(evidence, f"inflight:{name}", 40.0)


Case = Callable[[], Evidence]
CASES: dict[str, tuple[Case, str, float, Case]] = {
    # rule: (a play in which it speaks, about which setting, on which number, one in which it just does not)
    "queue-age": (
        lambda: with_facts(quiet(), "large", refused={"wait_expired": Counter({2: 25})}),
        "models.large.queue.max_age",
        0.2,
        lambda: full_all_the_time(
            with_facts(
                quiet(world(large={"concurrency": "1..20"})), "large", refused={"wait_expired": Counter({2: 25})}
            ),
            "large",
        ),
    ),
    "queue-depth": (
        lambda: with_facts(quiet(), "desk", refused={"queue_full": Counter({3: 100})}),
        "tools.desk.queue.depth",
        0.5,
        lambda: with_facts(quiet(), "desk", refused={"queue_full": Counter({3: 1})}),
    ),
    "concurrency-low": (
        lambda: with_column(quiet(world(desk={"concurrency": 4})), "inflight:desk", 4.0, part=0.5),
        "tools.desk.concurrency",
        0.5,
        lambda: with_column(quiet(), "inflight:desk", 10.0, part=0.5),  # all slots taken, and the desk is full
    ),
    "concurrency-high": (
        lambda: with_column(quiet(world(desk={"concurrency": 20})), "inflight:desk", 18.0, part=0.4),
        "tools.desk.concurrency",
        0.4,
        lambda: with_column(quiet(world(desk={"concurrency": 20})), "inflight:desk", 10.5, part=0.4),
    ),
    "retries": (
        lambda: with_facts(quiet(), "large", retried=20, outcomes=Counter(ok=60, failed=40)),
        "models.large.retry.attempts",
        0.2,
        lambda: with_facts(quiet(), "large", retried=20, outcomes=Counter(ok=80, failed=20)),
    ),
    "timeout-short": (
        lambda: with_facts(quiet(), "large", timeouts=Counter({20: 5})),  # 100 s: long after the trouble
        "models.large.timeout",
        0.05,
        lambda: with_facts(quiet(), "large", timeouts=Counter({20: 1})),
    ),
    "timeout-long": (
        lambda: with_column(
            with_facts(quiet(), "large", timeouts=Counter({9: 8})), "inflight:large", 0.5
        ),  # 45 s: in the trouble
        "models.large.timeout",
        0.08,
        lambda: with_column(with_facts(quiet(), "large", timeouts=Counter({9: 8})), "inflight:large", 10.0),
    ),
    "fallback": (
        lambda: with_facts(quiet(world(large={"fallback": ()})), "large", outcomes=Counter(ok=70, failed=30)),
        "models.large.fallback",
        0.3,
        lambda: with_column(
            with_facts(quiet(world(large={"fallback": ()})), "large", outcomes=Counter(ok=70, failed=30)),
            "inflight:small",
            9.0,
        ),
    ),
    "breaker": (
        lambda: with_facts(quiet(world(desk={"breaker": None})), "desk", outcomes=Counter(ok=80, failed=20)),
        "tools.desk.breaker",
        0.2,
        lambda: with_facts(quiet(), "desk", outcomes=Counter(ok=80, failed=20)),
    ),
    "slots": (
        lambda: with_column(quiet(), "waiting", 5.0, part=0.2),
        "workers.slots",
        0.2,
        lambda: with_column(with_column(quiet(), "waiting", 5.0, part=0.2), "inflight:desk", 9.0, part=0.2),
    ),
    "late-in-line": (
        lambda: with_measures(quiet(), accepted_late=0.2, missed_in_line=0.9),
        "workflows.agent.queue.depth",
        0.2,
        lambda: with_measures(quiet(), accepted_late=0.02, missed_in_line=0.9),
    ),
    "late-at-work": (
        lambda: with_measures(quiet(), accepted_late=0.2, missed_in_line=0.1),
        "workers.slots",
        0.2,
        lambda: with_measures(quiet(), accepted_late=0.2, missed_in_line=0.9),
    ),
    "people": (
        lambda: asked(6.0),  # two questions in two seconds, two thirds of one answered: the line of 8 is full
        "approvals.people.depth",
        0.2,
        lambda: asked(2.0),
    ),
    "run-depth": (
        lambda: with_ends(quiet(), "standard", ends=Counter({"refused: queue_full": 50})),
        "workflows.agent.queue.depth",
        0.05,
        lambda: with_column(
            with_ends(quiet(), "standard", ends=Counter({"refused: queue_full": 50})), "oldest_s", 15.0
        ),
    ),
    "run-age": (
        lambda: with_ends(
            quiet(world(agent={"queue": {"max_age": 30.0}})), "standard", ends=Counter(queue_expired=90)
        ),
        "workflows.agent.queue.max_age",
        0.1,
        lambda: with_ends(quiet(), "standard", ends=Counter(queue_expired=90)),  # its deadline is sooner
    ),
    "lane-share": (
        lambda: with_ends(quiet(), "critical", on_time=90),
        "lanes.critical.share",
        0.1,
        lambda: with_ends(with_ends(quiet(), "critical", on_time=90), "standard", on_time=0),
    ),
    "sheddable": (
        lambda: with_column(quiet(world(lanes={"standard": {}})), "pressure", 0.9, part=0.3),
        "lanes.standard.sheddable",
        0.3,
        lambda: with_column(quiet(), "pressure", 0.9, part=0.3),
    ),
    "ladder": (
        lambda: with_column(
            with_measures(quiet(world(agent={"degrade": ()})), goodput=0.8), "pressure", 0.7, part=0.5
        ),
        "workflows.agent.degrade",
        0.5,
        lambda: with_column(
            with_measures(quiet(world(agent={"degrade": ()})), goodput=0.97), "pressure", 0.7, part=0.5
        ),
    ),
    "tenants": (
        lambda: with_measures(quiet(), jain=0.6),
        "workflows.agent.queue.per_tenant",
        0.4,
        lambda: with_measures(quiet(world(agent={"queue": {"per_tenant": 50}})), jain=0.6),
    ),
}


def test_every_rule_has_a_case() -> None:
    assert sorted(CASES) == sorted(RULES)


def test_nothing_is_said_of_a_play_in_which_all_went_well() -> None:
    assert advise_on(quiet()) == []


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_speaks_of_its_setting_with_its_number(rule: str) -> None:
    speaks, setting, number, _ = CASES[rule]
    (word,) = RULES[rule](speaks())
    assert word.setting == setting
    assert word.evidence == pytest.approx(number)
    assert any(character.isdigit() for character in word.text.partition(":")[2])
    assert [one.rule for one in advise_on(speaks()) if one.rule == rule] == [rule]


@pytest.mark.parametrize("rule", CASES)
def test_a_rule_is_silent_just_beside(rule: str) -> None:
    *_, silent = CASES[rule]
    assert list(RULES[rule](silent())) == []


def test_words_are_whole_sentences_with_the_settings_value() -> None:
    speaks, *_ = CASES["queue-age"]
    (advice,) = advise_on(speaks())
    assert advice.words == (
        "raise `large` queue.max_age (30 s): 20 % of its calls gave up waiting, and 100 % of those would have found "
        "free capacity within another 30 s"
    )


def test_where_people_are_what_is_short_workers_are_not() -> None:
    assert [one.rule for one in advise_on(asked(6.0))] == ["people"]
    assert [one.rule for one in advise_on(asked(2.0))] == ["late-at-work"]
    (advice,) = advise_on(asked(6.0))
    assert advice.words == (
        "have more people answer `people` (1), or lower approvals.people.depth (8): 20 % of the accepted runs missed "
        "their deadlines, 90 % of them after they had begun, and at the pace of these people a question waited up to "
        "24 s"
    )


@pytest.mark.parametrize("rule", ["late-in-line", "run-depth", "run-age", "ladder", "tenants"])
def test_advice_names_the_workflow_as_the_configuration_does(rule: str) -> None:
    speaks, setting, *_ = CASES[rule]
    (word,) = RULES[rule](replace(speaks(), workflow="triage"))
    assert word.setting == setting.replace("workflows.agent.", "workflows.triage.")
    assert "workflows.triage" in word.text
    assert "agent" not in word.text


def test_advice_is_what_most_plays_give_with_the_words_of_the_typical_one() -> None:
    def play(expired: int) -> Evidence:
        return with_facts(quiet(), "large", refused={"wait_expired": Counter({2: expired})})

    (advice,) = advise([play(25), play(100), play(60)])
    assert (advice.plays, advice.of) == (3, 3)
    assert advice.evidence == pytest.approx(60 / 160)
    assert advise([play(25), play(0), play(1)]) == []
    assert advise([]) == []
