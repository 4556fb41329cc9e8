"""The bound is one: schedules that can be carried out are never worth more."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from headgate.lab.scenario.bound import bound
from headgate.lab.scenario.calls import PlannedCall
from headgate.lab.scenario.description import Scenario, parse_scenario
from headgate.lab.scenario.fluid import BIN_S, BINS_AT_MOST, cut_into_bins
from headgate.lab.scenario.traffic import Wish

WORLD = """
name: plain
title: One lane without noise
seconds: {seconds}s
dependencies:
{dependencies}
lanes:
  standard: {{part: 1, deadline: {deadline}ms, value: 1}}
tenants: {{count: 1}}
traffic: {{load: 1}}
troubles: {troubles}
headgate:
{headgate}
"""
MODEL = "kind: model, most: 1000, takes: 1ms, noise: 0"


def world(
    *dependencies: str, seconds: int = 10, deadline_ms: int = 10_000, troubles: str = "[]", headgate: str
) -> Scenario:
    lines = "\n".join(f"  {one}" for one in dependencies)
    return parse_scenario(
        WORLD.format(
            seconds=seconds, dependencies=lines, deadline=deadline_ms, troubles=troubles, headgate=f"  {headgate}"
        )
    )


def asked(scenario: Scenario, calls: Sequence[PlannedCall], *, every_s: float = 0.0) -> list[Wish]:
    """Runs of one call each."""
    deadline_s = scenario.lanes["standard"].deadline
    return [
        Wish(n, n * every_s, "tenant-00", "one", "standard", deadline_s, 1.0, "once", None, (call,))
        for n, call in enumerate(calls)
    ]


def test_of_runs_that_come_together_the_smallest_could_be_done() -> None:
    scenario = world("desk: {kind: tool, parallel: 1, most: 9, takes: 1s, noise: 0}", headgate="tools: {desk: {}}")
    small = [PlannedCall("desk", size=0.25)] * 40  # ten seconds of work, one after the other
    wanted = asked(scenario, small + [PlannedCall("desk", size=10.0)] * 360)
    could = bound(scenario, wanted)
    assert 40 <= could.value <= 40 + 20 / 10  # times are rounded outwards, so that twenty seconds are left
    assert could.by_lane["standard"] == pytest.approx(could.value / 400)
    # runs that cannot be told apart are 9.025 seconds each, and thirty seconds of them fit
    assert could.sizes_unknown == pytest.approx(30 / 9.025, rel=0.01)
    assert could.sizes_unknown < could.value


def test_sizes_need_not_be_known_where_everything_fits() -> None:
    scenario = world("desk: {kind: tool, parallel: 1, most: 9, takes: 1s, noise: 0}", headgate="tools: {desk: {}}")
    could = bound(scenario, asked(scenario, [PlannedCall("desk", size=0.1), PlannedCall("desk", size=2.0)]))
    assert could.value == could.sizes_unknown == 2


def test_calls_go_where_they_are_cheap() -> None:
    scenario = world(
        f"large: {{{MODEL}, parallel: 1, reads: 1000, writes: 100}}",
        f"small: {{{MODEL}, parallel: 1, reads: 1000, writes: 1000, in_place_of: large}}",
        deadline_ms=100_000,
        headgate="models: {large: {fallback: small}, small: {}}",
    )
    # ten seconds on either against ten or one: a hundred seconds do ten of these and a hundred of those
    long, quick = PlannedCall("large", reads=9_990), PlannedCall("large", writes=990)
    could = bound(scenario, asked(scenario, [long] * 100 + [quick] * 400))
    assert could.value >= 10 + 100
    assert could.value <= 12 + 122  # quick ones on both, and times are rounded outwards


def test_a_saved_up_allowance_is_counted() -> None:
    scenario = world(
        "desk: {kind: tool, parallel: 100, most: 100, takes: 10ms, noise: 0, requests_per_min: 60}",
        seconds=300,
        deadline_ms=9_990,
        headgate="tools: {desk: {}}",
    )
    wanted = asked(scenario, [PlannedCall("desk")] * 600, every_s=0.5)
    could = bound(scenario, wanted)
    assert could.limits == "desk per minute"
    assert could.value >= 5 + (wanted[-1].at_s + 9.99)  # one a second, and five at once


def test_answers_that_are_only_late_are_good() -> None:
    late = "[{since: 0, until: 60, on: desk, errors: 1.0, fault: slow_start}]"
    scenario = world(
        "desk: {kind: tool, parallel: 1, most: 9, takes: 1s, noise: 0}", troubles=late, headgate="tools: {desk: {}}"
    )
    assert bound(scenario, asked(scenario, [PlannedCall("desk")] * 5)).value == 5
    gone = scenario.model_copy(
        update={"troubles": tuple(one.model_copy(update={"fault": "hang"}) for one in scenario.troubles)}
    )
    assert bound(gone, asked(gone, [PlannedCall("desk")] * 5)).value == 0


def test_a_long_day_is_cut_into_widercut_into_bins() -> None:
    assert cut_into_bins(600.0) == (61, BIN_S)
    count, width_s = cut_into_bins(86_400.0)
    assert count <= BINS_AT_MOST + 1
    assert count * width_s >= 86_400
