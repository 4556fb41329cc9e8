"""What runs take, learned: quantiles that cover what they say, quick to rise, slow to fall."""

import json
import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.model.cost import ASKED, ResourceUse, RunSample
from headgate.policy import cost_profile
from headgate.policy.cost_profile import (
    CLASSES,
    RESOURCES_AT_MOST,
    Profile,
    dump,
    fold,
    load,
    mean_answers,
    quantile,
    size_class,
)


def tokens(amount: float, *, whole: bool = True) -> RunSample:
    return RunSample("triage", 10, whole=whole, model_tokens=amount)


def learned(amounts: list[float]) -> Profile:
    return fold(None, [tokens(amount) for amount in amounts])


@pytest.mark.parametrize("spread", [0.05, 0.4, 1.2])
@pytest.mark.parametrize("seed", range(3))
def test_the_quantiles_cover_what_they_say(spread: float, seed: int) -> None:
    rng = Random(seed)
    profile = learned([rng.lognormvariate(9, spread) for _ in range(200)])
    below = {False: 0, True: 0}
    for _ in range(2000):
        amount = rng.lognormvariate(9, spread)
        for high in below:
            below[high] += amount <= quantile(profile, "model_tokens", high=high)
        profile = fold(profile, [tokens(amount)])
    assert below[False] / 2000 == pytest.approx(0.5, abs=0.03)
    assert below[True] / 2000 == pytest.approx(0.9, abs=0.03)


def test_overruns_raise_at_once_and_underruns_lower_slowly() -> None:
    rng = Random(1)
    profile = learned([rng.lognormvariate(9, 0.4) for _ in range(300)])
    usual = quantile(profile, "model_tokens", high=True)
    ups = 0
    while quantile(profile, "model_tokens", high=True) < 1.8 * usual:
        profile = fold(profile, [tokens(3 * rng.lognormvariate(9, 0.4))])
        ups += 1
    high = quantile(profile, "model_tokens", high=True)
    profile = fold(profile, [tokens(rng.lognormvariate(9, 0.4)) for _ in range(ups)])
    assert ups <= 6
    assert quantile(profile, "model_tokens", high=True) > 0.9 * high
    profile = fold(profile, [tokens(rng.lognormvariate(9, 0.4)) for _ in range(300)])
    assert quantile(profile, "model_tokens", high=True) == pytest.approx(usual, rel=0.35)


def test_a_run_that_did_not_succeed_can_only_raise() -> None:
    profile = learned([1000.0] * 20)
    fewer = fold(profile, [tokens(10, whole=False)] * 50)
    assert (fewer.ends, fewer.trackers) == (20, profile.trackers)
    more = fold(profile, [tokens(9000, whole=False)] * 2)
    assert more.ends == 20
    assert quantile(more, "model_tokens", high=True) > 2 * quantile(profile, "model_tokens", high=True)
    assert quantile(more, "model_tokens", high=False) == quantile(profile, "model_tokens", high=False)
    assert fold(None, [tokens(10, whole=False)]).trackers == {}


def test_what_was_never_there_is_nothing() -> None:
    profile = learned([0.0] * 10)
    assert quantile(profile, "model_tokens", high=True) == 0
    assert quantile(profile, "unheard", high=True) == 0
    assert quantile(fold(None, [tokens(math.inf)]), "model_tokens", high=True) == 0


def test_resources_are_learned_apart_and_bounded() -> None:
    both = RunSample("w", 1, per_resource={"large": ResourceUse(4, 8.0, 900), "crm": ResourceUse(1, 0.5, 0)})
    without = RunSample("w", 1, per_resource={"large": ResourceUse(4, 8.0, 900)})
    uses = cost_profile.uses(fold(None, [both] * 30), high=False)
    assert uses["large"].busy_s == pytest.approx(8.0, rel=0.05)
    assert uses["crm"].model_tokens == 0
    fading = fold(fold(None, [both] * 5), [without] * 200)
    assert cost_profile.uses(fading, high=False)["crm"].calls == 0
    many = fold(None, [RunSample("w", 1, per_resource={f"r{n}": ResourceUse(1, 1, 1) for n in range(100)})])
    assert len(many.resources) == RESOURCES_AT_MOST


@given(st.lists(st.tuples(st.floats(0, 1e12), st.booleans()), max_size=60))
def test_any_order_of_runs_keeps_the_quantiles_in_order_and_in_range(runs: list[tuple[float, bool]]) -> None:
    profile = fold(None, [tokens(amount, whole=whole) for amount, whole in runs])
    low, high = (quantile(profile, "model_tokens", high=high) for high in (False, True))
    assert low <= high
    most = max((amount for amount, _ in runs), default=0.0)
    assert high <= max(most, 1.0) * 1e13
    assert profile.ends == sum(whole for _, whole in runs)
    assert load(dump(profile)).ends == profile.ends
    assert quantile(load(dump(profile)), "model_tokens", high=True) == pytest.approx(high, rel=1e-4)


@given(st.integers(0, 10**9))
def test_size_classes_rise_with_the_size(size: int) -> None:
    assert 0 <= size_class(size) <= size_class(size + 1) < CLASSES


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"ends":1,"trackers":{"calls":[1]},"resources":{}}',
        '{"ends":1,"trackers":[],"resources":{}}',
        json.dumps({"ends": 1, "trackers": {"calls": [math.nan, 1, 1, 0, 1]}, "resources": {}}),
    ],
)
def test_what_is_no_profile_is_not_read_as_one(text: str) -> None:
    with pytest.raises(ValueError):
        load(text)


def test_the_mean_is_that_of_the_latest_runs_and_survives_the_store() -> None:
    profile: Profile | None = None
    for calls in [4] * 60 + [8] * 60:
        use = {"large": ResourceUse(calls=2 * calls, answers=calls)}
        profile = fold(profile, [RunSample("agent", 10, per_resource=use), RunSample("agent", 10, per_resource={})])
    assert profile is not None
    assert 3.0 < mean_answers(profile)["large"] < 4.0
    assert mean_answers(load(dump(profile)))["large"] == pytest.approx(mean_answers(profile)["large"], abs=1e-5)


def test_runs_that_failed_do_not_move_the_mean() -> None:
    good = RunSample("agent", 10, per_resource={"large": ResourceUse(answers=3)})
    bad = RunSample("agent", 10, whole=False, per_resource={"large": ResourceUse(answers=30)})
    assert mean_answers(fold(None, [good, bad, bad]))["large"] == 3


def test_questions_to_people_are_no_calls_on_a_resource_of_that_name() -> None:
    use = {"desk": ResourceUse(calls=2, answers=2), f"{ASKED}desk": ResourceUse(answers=1)}
    profile = fold(None, [RunSample("agent", 10, per_resource=use)] * 8)
    assert set(cost_profile.uses(profile, high=True)) == {"desk"}
    assert mean_answers(profile) == {"desk": 2.0, f"{ASKED}desk": 1.0}
