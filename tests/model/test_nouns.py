"""Identifiers, canonical JSON, and the table of moves."""

import math
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.errors import StepNotSerializable
from headgate.model.canonical import decode, digest, encode
from headgate.model.ids import is_uuid, uuid7
from headgate.model.run import DEAD, MOVES, TERMINAL, RunState, may_move

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.integers(0, 2**48 - 1), st.integers())
def test_ids_are_valid_uuid7_and_carry_their_moment(now_ms: int, seed: int) -> None:
    made = uuid7(now_ms, Random(seed).getrandbits)
    assert is_uuid(made)
    assert made[14] == "7"
    assert made[19] in "89ab"
    assert int(made.replace("-", "")[:12], 16) == now_ms


def test_ids_sort_by_time() -> None:
    rng = Random(1)
    made = [uuid7(now, rng.getrandbits) for now in range(1000, 2000)]
    assert made == sorted(made)


@pytest.mark.parametrize("text", ["", "x" * 36, "0" * 36, "00000000-0000-0000-0000-00000000000g", "' or 1=1 --"])
def test_what_is_not_a_uuid(text: str) -> None:
    assert not is_uuid(text)


@given(JSON)
def test_canonical_json_round_trips_and_is_stable(value: object) -> None:
    text = encode(value)
    assert decode(text) == value
    assert encode(decode(text)) == text


def test_key_order_does_not_matter() -> None:
    assert encode({"b": 1, "a": 2}) == encode({"a": 2, "b": 1})


def test_dataclasses_are_written_as_their_fields() -> None:
    @dataclass
    class Point:
        x: int
        y: int

    assert encode(Point(1, 2)) == '{"x":1,"y":2}'


@pytest.mark.parametrize("value", [math.nan, math.inf, object(), {1, 2}, b"raw"])
def test_what_has_no_json_form_is_refused_by_name(value: object) -> None:
    with pytest.raises(StepNotSerializable, match="argument 1 of f"):
        encode(value, what="argument 1 of f")


def test_digests_respect_the_boundaries_of_their_parts() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("ab", "c") == digest("ab", "c")


def test_terminal_states_have_no_way_out() -> None:
    for source in RunState:
        for target in RunState:
            if source in TERMINAL:
                assert not may_move(source, target)


def test_every_unfinished_state_has_a_way_to_every_needed_end() -> None:
    assert TERMINAL >= DEAD
    reachable = {RunState.QUEUED}
    for _ in RunState:
        reachable |= {target for sources, targets in MOVES.values() if sources & reachable for target in targets}
    assert reachable == set(RunState)
