"""The quick subset of the comparison: short copies of two scenarios, three policies. The whole is bench.contest."""

from __future__ import annotations

import pytest

from headgate.lab.report.folder import played
from headgate.lab.scenario.description import load_scenario
from headgate.lab.scenario.shorten import shortened


@pytest.mark.parametrize(("name", "seconds"), [("surge-outage", 40.0), ("background-flood", 80.0)])
def test_headgate_is_ahead_of_the_stack_that_people_assemble_and_of_no_limits(name: str, seconds: float) -> None:
    results = played([shortened(load_scenario(name), seconds)], ["none", "assembled-stack", "headgate"], [1])
    goodput = {policy: results.measure(name, policy, "goodput").mean for policy in results.policies()}
    assert goodput["headgate"] > goodput["assembled-stack"] > goodput["none"]
    assert goodput["headgate"] > 0.75
    assert results.measure(name, "headgate", "amplification").mean <= 1.2
    assert results.measure(name, "headgate", "critical-on-time").mean >= 0.99
