"""The plants are what they say, and the limiter keeps its goals on a quick part of the bench."""

from __future__ import annotations

from random import Random

import pytest

from headgate.lab.baselines.aimd import AimdRule
from headgate.lab.baselines.envoy import EnvoyRule
from headgate.lab.baselines.gradient2 import Gradient2Rule
from headgate.lab.baselines.sample_rule import FixedRule
from headgate.lab.baselines.vegas import VegasRule
from headgate.lab.plants.catalogue import SCENARIOS, Scenario
from headgate.lab.plants.plant import Accepted, Phase, Plant
from headgate.lab.plants.score import Score, score
from headgate.lab.plants.simulate import simulate
from headgate.lab.plants.traffic import Traffic, sizes
from headgate.policy.concurrency.cohort import CohortLimiter
from headgate.policy.concurrency.protocol import CallLimiter

SEEDS = (11, 12)


def named(name: str) -> Scenario:
    (scenario,) = [scenario for scenario in SCENARIOS if scenario.name == name]
    return scenario


def ours(name: str) -> Score:
    return score([simulate(named(name), CohortLimiter(1, 64), seed) for seed in SEEDS])


def test_calls_share_what_is_beyond_the_knee() -> None:
    plant = Plant(Phase(100.0, knee=2, collapse=0.0), Random(1))
    calls = [plant.offer(3.0, 0.0) for _ in range(4)]
    assert all(isinstance(call, Accepted) for call in calls)
    assert plant.next_end() == pytest.approx(6.0)
    for call in calls:
        assert plant.take_ended(plant.next_end()) is call
    assert plant.active == 0


def test_a_stalled_plant_answers_nothing_and_a_capped_one_refuses_at_once() -> None:
    plant = Plant(Phase(10.0, cap=1), Random(1))
    assert isinstance(plant.offer(1.0, 0.0), Accepted)
    assert plant.offer(1.0, 0.0) == 1.0
    plant.enter(Phase(10.0, stalled=True), 0.5)
    assert plant.next_end() == float("inf")


def test_a_rate_is_a_bucket_and_says_when_to_come_again() -> None:
    plant = Plant(Phase(1.0), Random(1))
    plant.enter(Phase(100.0, per_min=60), 0.0)
    answers = [plant.offer(0.1, 0.0) for _ in range(11)]
    assert sum(isinstance(answer, Accepted) for answer in answers) == 10
    assert answers[-1] == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_run() -> None:
    scenario = named("arrivals 20/s, overloaded")
    runs = [simulate(scenario, CohortLimiter(1, 64), 5) for _ in range(2)]
    assert runs[0].changes == runs[1].changes
    assert [phase.done_s for phase in runs[0].phases] == [phase.done_s for phase in runs[1].phases]
    assert runs[0].changes != simulate(scenario, CohortLimiter(1, 64), 6).changes


def test_the_right_fixed_limit_uses_all_and_three_times_too_much_wastes_it() -> None:
    scenario = named("queueing, sizes within 0.4")
    right, triple = (score([simulate(scenario, FixedRule(limit), seed) for seed in SEEDS]) for limit in (16, 48))
    assert right.shares[0] == pytest.approx(1.0, abs=0.04)
    assert right.stretches[1] > 2.5, "it does not follow the fall"
    assert triple.shares[0] < 0.8
    assert triple.stretches[0] > 3.5


@pytest.mark.parametrize(
    "name", ["queueing, sizes within 0.4", "queueing, 40 -> 12 -> 40", "arrivals 20/s, overloaded"]
)
def test_hidden_queueing_is_found_and_followed_both_ways(name: str) -> None:
    found = ours(name)
    assert min(found.shares) >= 0.9
    assert found.worst_stretch <= 1.5
    assert found.refused == 0


def test_a_hard_cap_is_used_with_few_refusals() -> None:
    found = ours("hard cap 16 -> 6 -> 16")
    assert min(found.shares) >= 0.95
    assert found.refused <= 0.02


def test_a_slowness_that_is_not_ours_is_reported_and_does_not_cost_the_limit() -> None:
    found = ours("slow x2 from outside")
    assert min(found.shares) >= 0.9
    assert found.told_slow == 1.0


def test_refusals_that_are_not_ours_do_not_cost_the_limit() -> None:
    assert ours("a fifth refused whatever we do").shares[1] >= 0.75


def test_a_silent_stall_is_cut_before_anything_times_out() -> None:
    scenario = named("silent stall, 10 min")
    found = ours(scenario.name)
    p95_s = sizes(scenario.traffic)[2]
    assert all(cut is not None and cut <= 2 * p95_s for cut in found.first_cuts_s)
    assert found.shares[2] >= 0.9


def test_half_the_answers_empty_is_no_reason_to_shrink() -> None:
    assert ours("half the answers empty").shares[1] >= 0.85


@pytest.mark.parametrize(
    "rule",
    [AimdRule(1, 64, 240.0), VegasRule(1, 64, Random(1)), Gradient2Rule(1, 64), EnvoyRule(1, 64)],
    ids=["aimd", "vegas", "gradient2", "envoy"],
)
def test_the_published_rules_work_in_their_own_world(rule: CallLimiter) -> None:
    """Quick calls of equal size, and a knee without collapse: each uses most of it, none beyond its range."""
    traffic = Traffic(median_s=0.02, sigma=0.05, error=None)
    phases = (Phase(60.0, knee=16),)
    result = simulate(Scenario("own world", phases, traffic, 16, timeout_s=1.0), rule, 1)
    assert result.phases[0].share > 0.7
    assert result.phases[0].stretch < 4.5
    assert result.calls > 10_000
