"""One number of a loop rule alone is a possible rule: the others keep their distance to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.config.load import parse_settings
from headgate.config.settings import LoopSettings
from headgate.errors import ConfigError


@pytest.mark.parametrize(
    ("given_numbers", "rule"),
    [
        ({}, (3, 4, 6)),
        ({"warn": 5}, (5, 6, 8)),
        ({"refuse": 7}, (3, 7, 9)),
        ({"stop": 12}, (3, 4, 12)),
        ({"stop": 3}, (3, 3, 3)),
        ({"refuse": 2}, (2, 2, 6)),
        ({"warn": 9, "stop": 9}, (9, 9, 9)),
    ],
)
def test_what_is_not_given_follows(given_numbers: dict[str, int], rule: tuple[int, int, int]) -> None:
    settings = LoopSettings.model_validate(given_numbers)
    assert (settings.warn, settings.refuse, settings.stop) == rule


@given(st.sampled_from(["warn", "refuse", "stop"]), st.integers(2, 10_000))
def test_any_one_number_alone_is_possible(name: str, number: int) -> None:
    settings = LoopSettings.model_validate({name: number})
    assert getattr(settings, name) == number
    assert 2 <= settings.warn <= settings.refuse <= settings.stop <= 10_000


@pytest.mark.parametrize(
    "loops", ["{warn: 5, refuse: 4}", "{refuse: 9, stop: 8}", "{warn: 1}", "{warm: 3}", "{warn: x}"]
)
def test_impossible_rules_are_refused_with_their_place(loops: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_settings(f"workflows:\n  triage:\n    loops: {loops}\n", "my.yaml")
    assert refused.value.problems[0].startswith("my.yaml:3:")
