"""Lane shares: entitlement, lending, and that nobody starves."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.policy.lane_shares import STARVED_AT_MOST_S, Ask, LaneLoad, Owed, ask, fleet, split

SHARES = split({"critical": 0.2, "interactive": 0.4, "standard": 0.3, "background": 0.1})


def entitled(asked: Ask, lanes: int) -> dict[str, int]:
    """The first part of the quotas: everything before the lending list, which names every lane once."""
    return dict(asked.quotas[: len(asked.quotas) - lanes])


def granted(asked: Ask, free: int, waiting: Counter[str]) -> Counter[str]:
    """What a store gives that serves the quotas in order, up to ``free``."""
    got: Counter[str] = Counter()
    for lane, most in asked.quotas:
        number = min(most, waiting[lane] - got[lane], free - got.total())
        got[lane] += max(0, number)
    return got


def test_unnamed_lanes_split_what_the_named_leave() -> None:
    assert split({"a": 0.5, "b": None, "c": None}) == pytest.approx({"a": 0.5, "b": 0.25, "c": 0.25})
    assert split({"a": None}) == {"a": 1.0}


def test_a_lane_for_which_nothing_is_left_is_entitled_to_a_little() -> None:
    shares = split({"a": 1.0, "b": None})
    assert 0 < shares["b"] < 0.02
    assert sum(shares.values()) == pytest.approx(1.0)


def test_there_must_be_a_lane() -> None:
    with pytest.raises(ValueError, match="at least one lane"):
        split({})


def test_an_idle_worker_asks_by_share_and_then_lends_in_file_order() -> None:
    asked = ask(SHARES, {}, Owed(), slots=10, free=10)
    assert entitled(asked, 4) == {"critical": 2, "interactive": 4, "standard": 3, "background": 1}
    assert asked.quotas[-4:] == (("critical", 10), ("interactive", 10), ("standard", 10), ("background", 10))


def test_without_free_slots_nothing_is_asked() -> None:
    owed = Owed({"critical": 0.5})
    assert ask(SHARES, {"critical": 4}, owed, slots=4, free=0) == Ask((), owed)


def test_what_comes_back_goes_to_lanes_below_their_entitlement() -> None:
    asked = ask(SHARES, {"background": 9}, Owed(), slots=10, free=1)
    assert "background" not in entitled(asked, 4)


def test_a_lane_a_whole_slot_short_is_preferred_in_file_order() -> None:
    asked = ask(SHARES, {"background": 15}, Owed(), slots=16, free=1)
    assert entitled(asked, 4) == {"critical": 1}


def test_with_one_slot_the_lanes_take_turns_by_share() -> None:
    owed, got = Owed(), Counter[str]()
    for _ in range(100):
        asked = ask(SHARES, {}, owed, slots=1, free=1)
        owed = asked.owed
        got += granted(asked, 1, Counter(dict.fromkeys(SHARES, 5)))
    assert got == {"critical": 20, "interactive": 40, "standard": 30, "background": 10}


named = st.dictionaries(st.sampled_from("abcdef"), st.one_of(st.none(), st.floats(0.02, 0.5)), min_size=1, max_size=6)


@settings(max_examples=50, deadline=None)
@given(named, st.integers(1, 40), st.data())
def test_the_first_part_fits_the_free_slots_and_the_entitlement(
    lanes: dict[str, float | None], slots: int, data: st.DataObject
) -> None:
    shares, owed = split(lanes), Owed()
    for _ in range(10):
        running = Counter[str]()
        for _ in range(data.draw(st.integers(0, slots))):
            running[data.draw(st.sampled_from(list(shares)))] += 1
        free = slots - running.total()
        asked = ask(shares, running, owed, slots=slots, free=free)
        owed = asked.owed
        first = entitled(asked, len(shares) if free else 0)
        assert sum(first.values()) == free
        for lane, number in first.items():
            assert number <= max(0.0, shares[lane] * slots - running[lane]) + 1
        assert all(abs(balance) <= len(shares) for balance in owed.slots.values())


@settings(max_examples=25, deadline=None)
@given(named, st.integers(1, 12), st.data())
def test_work_is_conserved_and_nobody_starves(
    lanes: dict[str, float | None], slots: int, data: st.DataObject
) -> None:
    """Any lanes wait for ever, with runs that end in any order: every one of them gets slots."""
    shares, owed = split(lanes), Owed()
    hungry = data.draw(st.sets(st.sampled_from(list(shares)), min_size=1))
    waiting = Counter(dict.fromkeys(hungry, 10_000))
    seed = data.draw(st.randoms(use_true_random=False))
    running, started = Counter[str](), Counter[str]()
    rounds = round(4 * (len(shares) + 1) / min(shares[lane] for lane in hungry))
    for _ in range(rounds):
        free = slots - running.total()
        asked = ask(shares, running, owed, slots=slots, free=free)
        owed = asked.owed
        got = granted(asked, free, waiting)
        assert got.total() == free, "a slot stayed empty while something waited"
        running += got
        started += got
        running -= Counter([seed.choice(sorted(running.elements()))])
    assert all(started[lane] for lane in hungry)


@given(st.integers(1, 60))
def test_under_contention_each_lane_has_its_share_within_a_slot(slots: int) -> None:
    owed, running = Owed(), Counter[str]()
    waiting = Counter(dict.fromkeys(SHARES, 1000))
    for _ in range(5):
        asked = ask(SHARES, running, owed, slots=slots, free=slots - running.total())
        owed = asked.owed
        running += granted(asked, slots - running.total(), waiting)
        assert all(abs(running[lane] - share * slots) < 1 + 1e-9 for lane, share in SHARES.items())
        running = Counter(dict(list(running.items())[::2]))  # every other lane's runs end


def loads(waiting: dict[str, int], running: dict[str, int], claimed_ms: dict[str, int]) -> dict[str, LaneLoad]:
    return {
        lane: LaneLoad(share, waiting[lane], running.get(lane, 0), claimed_ms.get(lane, 0))
        for lane, share in SHARES.items()
        if waiting.get(lane)
    }


def test_a_full_fleet_gives_a_place_to_the_lane_furthest_below_its_share() -> None:
    running = {"critical": 2, "interactive": 2, "standard": 3, "background": 1}
    order = fleet(
        loads(dict.fromkeys(SHARES, 9), running, dict.fromkeys(SHARES, 1000)), whole=10, free=2, now_ms=1000
    )
    assert order[:2] == (("interactive", 1), ("interactive", 1))


def test_a_full_fleet_lends_what_nobody_below_its_share_wants() -> None:
    order = fleet(loads({"background": 9}, {"critical": 5}, {}), whole=6, free=1, now_ms=0)
    assert order[0] == ("background", 1)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 6), st.integers(0, 10_000), st.integers(1, 20))
def test_no_lane_starves_in_a_fleet_with_fewer_places_than_lanes(whole: int, seed: int, longest_s: int) -> None:
    """Every lane that waits gets a place at least as often as its patience and the runs of the others allow."""
    rng = random.Random(seed)
    now_ms, ends = 0, [(0, "")] * 0
    claimed_ms = dict.fromkeys(SHARES, 0)
    for _ in range(600):
        running = Counter(lane for _, lane in ends)
        free = whole - len(ends)
        for lane, count in fleet(
            loads(dict.fromkeys(SHARES, 5), running, claimed_ms), whole=whole, free=free, now_ms=now_ms
        ):
            for _ in range(count):
                if free:
                    free -= 1
                    claimed_ms[lane] = now_ms
                    ends.append((now_ms + 1000 * rng.randint(1, longest_s), lane))
        assert max(now_ms - at for at in claimed_ms.values()) <= 1000 * (
            STARVED_AT_MOST_S + (len(SHARES) + 1) * longest_s
        )
        ends.sort()
        now_ms = ends.pop(0)[0]
