"""The simulated provider behaves as its module says: processor sharing, caps, rates, spells."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from headgate.lab.provider.physics import Answer, Call, ModelSpec, Pool
from headgate.lab.weather import Spell

EXACT = ModelSpec("m", parallel=2, most=4, first_s=1.0, noise=0.0, thrash=0.0)
"""Every call is just over a second of work."""
CALL = Call("m", input_tokens=0, output_tokens=0)


def pool(spec: ModelSpec = EXACT, *spells: Spell, seed: int = 1) -> Pool:
    return Pool(spec, rng=random.Random(seed), spells=spells)


def ends(tested: Pool, *, until: float) -> dict[int, tuple[float, int]]:
    """When each call ended, and how."""
    found: dict[int, tuple[float, int]] = {}
    now = 0.0
    while (due := tested.next_event()) is not None and due <= until:
        now = max(due, now)
        for number, answer in tested.collect(now):
            found[number] = (now, answer.status)
    return found


def test_calls_within_capacity_do_not_slow_each_other() -> None:
    tested = pool()
    first, second = tested.offer(CALL, 0.0), tested.offer(CALL, 0.5)
    found = ends(tested, until=10)
    assert found == {first: (pytest.approx(1.0), 200), second: (pytest.approx(1.5), 200)}


def test_more_calls_share_the_capacity() -> None:
    tested = pool()
    numbers = [tested.offer(CALL, 0.0) for _ in range(4)]
    assert ends(tested, until=10) == {number: (pytest.approx(2.0), 200) for number in numbers}


def test_a_late_call_is_slowed_only_while_others_are_there() -> None:
    tested = pool(replace(EXACT, parallel=1))
    first = tested.offer(CALL, 0.0)
    second = tested.offer(CALL, 0.5)  # from here both at half speed: the first has half a second left
    assert ends(tested, until=10) == {first: (pytest.approx(1.5), 200), second: (pytest.approx(2.0), 200)}


def test_crowding_costs_capacity() -> None:
    tested = pool(replace(EXACT, thrash=0.5))
    numbers = [tested.offer(CALL, 0.0) for _ in range(4)]
    assert ends(tested, until=10) == {number: (pytest.approx(3.0), 200) for number in numbers}


def test_beyond_the_cap_the_answer_is_429_with_a_time() -> None:
    tested = pool()
    for _ in range(4):
        assert isinstance(tested.offer(CALL, 0.0), int)
    refused = tested.offer(CALL, 0.0)
    assert isinstance(refused, Answer)
    assert (refused.status, refused.code, refused.retry_after_s) == (429, "slow_down", 1.0)
    assert tested.counts.peak == 4
    ends(tested, until=10)
    assert isinstance(tested.offer(CALL, 10.0), int)


def test_a_queue_holds_calls_until_there_is_a_place() -> None:
    tested = pool(replace(EXACT, parallel=1, most=1, queue=1))
    first, second = tested.offer(CALL, 0.0), tested.offer(CALL, 0.0)
    assert tested.waiting == 1
    assert isinstance(tested.offer(CALL, 0.0), Answer)
    assert ends(tested, until=10) == {first: (pytest.approx(1.0), 200), second: (pytest.approx(2.0), 200)}


def test_a_withdrawn_call_frees_its_place() -> None:
    tested = pool(replace(EXACT, parallel=1, most=1, queue=2))
    first, second, third = (tested.offer(CALL, 0.0) for _ in range(3))
    assert isinstance(first, int)
    assert isinstance(second, int)
    tested.withdraw(second, 0.25)
    tested.withdraw(first, 0.5)
    assert ends(tested, until=10) == {third: (pytest.approx(1.5), 200)}
    assert tested.counts.by_status == {499: 2, 200: 1}


def test_requests_per_minute_are_refused_with_the_wait_and_told_in_headers() -> None:
    tested = pool(replace(EXACT, most=1000, requests_per_min=60.0))
    answers = [tested.offer(CALL, 0.0) for _ in range(6)]
    assert [isinstance(one, int) for one in answers] == [True] * 5 + [False]
    refused = answers[-1]
    assert isinstance(refused, Answer)
    assert refused.code == "rate_limit_exceeded"
    assert refused.retry_after_s == pytest.approx(1.0)
    headers = tested.headers(0.0)
    assert headers["x-ratelimit-limit-requests"] == "60"
    assert headers["x-ratelimit-remaining-requests"] == "0"
    assert headers["x-ratelimit-reset-requests"] == "5.000s"
    assert isinstance(tested.offer(CALL, 1.01), int)


def test_a_call_refused_for_concurrency_has_used_up_its_place_in_the_rate() -> None:
    tested = pool(replace(EXACT, most=1, requests_per_min=60.0))
    codes = [tested.offer(CALL, 0.0) for _ in range(6)]
    assert [getattr(one, "code", "") for one in codes] == ["", *["slow_down"] * 4, "rate_limit_exceeded"]


def test_model_tokens_per_minute_count_prompt_and_reply() -> None:
    tested = pool(replace(EXACT, tokens_per_min=12_000.0))
    assert isinstance(tested.offer(Call("m", 600, 300), 0.0), int)
    refused = tested.offer(Call("m", 600, 300), 0.0)
    assert isinstance(refused, Answer)
    assert refused.retry_after_s == pytest.approx(4.0)


def test_a_slow_spell_stretches_calls_that_are_under_way() -> None:
    tested = pool(EXACT, Spell(0.5, 10.0, slow=2.0))
    number = tested.offer(CALL, 0.0)
    assert ends(tested, until=10) == {number: (pytest.approx(1.5), 200)}


def test_less_capacity_is_shared_by_more() -> None:
    tested = pool(EXACT, Spell(0.0, 10.0, capacity=0.5))
    numbers = [tested.offer(CALL, 0.0) for _ in range(2)]
    assert ends(tested, until=10) == {number: (pytest.approx(2.0), 200) for number in numbers}


def test_an_outage_answers_500_and_503_in_its_share() -> None:
    tested = pool(replace(EXACT, parallel=5000, most=5000), Spell(0.0, 100.0, errors=0.4))
    refused = [one for one in (tested.offer(CALL, 0.0) for _ in range(4000)) if isinstance(one, Answer)]
    assert {one.status for one in refused} == {503}
    ends(tested, until=50)
    shares = {status: count / 4000 for status, count in tested.counts.by_status.items()}
    assert shares == {
        503: pytest.approx(0.2, abs=0.03),
        500: pytest.approx(0.2, abs=0.03),
        200: pytest.approx(0.6, abs=0.03),
    }


def test_work_grows_with_model_tokens() -> None:
    spec = replace(EXACT, read_tokens_s=1000.0, write_tokens_s=100.0)
    assert spec.work_s(Call("m", 500, 50)) == pytest.approx(2.0)


def test_the_same_seed_and_calls_give_the_same_answers() -> None:
    def play(seed: int) -> dict[int, tuple[float, int]]:
        tested = pool(replace(EXACT, noise=0.5), Spell(0.0, 5.0, errors=0.3), seed=seed)
        for step in range(20):
            tested.offer(CALL, step / 10)
        return ends(tested, until=30)

    assert play(5) == play(5)
    assert play(5) != play(6)


@pytest.mark.parametrize("wrong", [{"parallel": 0}, {"most": 0}, {"first_s": 0.0}, {"queue": -1}, {"noise": -0.1}])
def test_impossible_models_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a possible model"):
        replace(EXACT, **wrong)  # type: ignore[arg-type]  # the numbers are what is tested


def test_an_abandoned_call_that_goes_on_keeps_its_place_until_its_work_is_done() -> None:
    tested = pool(replace(EXACT, parallel=1, most=1, goes_on=True))
    spent: dict[int, float] = {}
    tested.on_spent = spent.__setitem__
    number = tested.offer(CALL, 0.0)
    assert isinstance(number, int)
    tested.withdraw(number, 0.25)
    assert tested.inflight == 1
    assert isinstance(tested.offer(CALL, 0.5), Answer)
    assert tested.collect(1.5) == []
    assert tested.inflight == 0
    assert spent == {number: pytest.approx(1.0)}


def test_an_abandoned_call_that_stops_has_spent_what_was_done() -> None:
    tested = pool()
    spent: dict[int, float] = {}
    tested.on_spent = spent.__setitem__
    number = tested.offer(CALL, 0.0)
    assert isinstance(number, int)
    tested.withdraw(number, 0.25)
    assert spent == {number: pytest.approx(0.25)}
    assert tested.inflight == 0


def test_a_hanging_call_holds_a_place_and_slows_nobody() -> None:
    tested = pool(replace(EXACT, parallel=1, most=2), Spell(0, 1, errors=1.0, fault="hang"))
    hanging = tested.offer(CALL, 0.5)
    assert isinstance(hanging, int)
    quick = tested.offer(CALL, 1.0)
    assert isinstance(tested.offer(CALL, 1.1), Answer)  # two have places
    assert ends(tested, until=100) == {quick: (pytest.approx(2.0), 200)}
    tested.withdraw(hanging, 100.0)
    assert tested.inflight == 0


def test_a_slow_start_begins_late_and_then_is_ordinary() -> None:
    tested = pool(replace(EXACT, slow_start_s=5.0), Spell(0, 1, errors=1.0, fault="slow_start"))
    number = tested.offer(CALL, 0.0)
    assert ends(tested, until=100) == {number: (pytest.approx(6.0), 200)}


def test_nothing_advances_in_a_stall_and_all_goes_on_after_it() -> None:
    tested = pool(EXACT, Spell(0.5, 10.5, stalled=True))
    number = tested.offer(CALL, 0.0)
    assert ends(tested, until=100) == {number: (pytest.approx(11.0), 200)}


@pytest.mark.parametrize(("fault", "status"), [("503", 503), ("529", 529), ("429", 429)])
def test_some_faults_answer_at_once(fault: str, status: int) -> None:
    answer = pool(EXACT, Spell(0, 1, errors=1.0, fault=fault)).offer(CALL, 0.0)
    assert isinstance(answer, Answer)
    assert answer.status == status


@pytest.mark.parametrize(
    ("fault", "status", "code", "after"),
    [
        ("500", 500, "server_error", 0.5),
        ("reset", 0, "connection_reset", 0.5),
        ("empty", 200, "empty", 1.0),
        ("malformed", 200, "malformed", 1.0),
    ],
)
def test_other_faults_take_work_first(fault: str, status: int, code: str, after: float) -> None:
    tested = pool(EXACT, Spell(0, 1, errors=1.0, fault=fault))
    number = tested.offer(CALL, 0.0)
    assert tested.next_event() == pytest.approx(min(after, 1.0))
    assert [(n, a.status, a.code) for n, a in tested.collect(1.0 + 1e-6)] == [(number, status, code)]
