"""Spells overlap, name their models, and are read from JSON strictly."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.lab.weather import FAIR, Spell, next_change, spells_from_json, weather_at

SPELLS = (
    Spell(10, 30, capacity=0.5, errors=0.2),
    Spell(20, 40, capacity=0.5, slow=2.0, errors=0.5, models=("large",)),
)


def test_overlapping_spells_multiply() -> None:
    both = weather_at(SPELLS, 25, "large")
    assert (both.capacity, both.slow) == (0.25, 2.0)
    assert both.errors == pytest.approx(0.6)


def test_a_spell_holds_from_its_start_until_before_its_end_for_its_models() -> None:
    assert weather_at(SPELLS, 9.99, "large") == FAIR
    assert weather_at(SPELLS, 10, "small").capacity == 0.5
    assert weather_at(SPELLS, 30, "small").fair
    assert not weather_at(SPELLS, 30, "large").fair
    assert weather_at(SPELLS, 40, "large").fair


def test_changes_come_in_order() -> None:
    moments, now = [], 0.0
    while (change := next_change(SPELLS, now)) is not None:
        moments.append(change)
        now = change
    assert moments == [10, 20, 30, 40]


@pytest.mark.parametrize(
    "wrong",
    [
        {"capacity": 0},
        {"slow": 0.5},
        {"errors": 1.5},
        {"end_s": 5},
    ],
)
def test_impossible_spells_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a possible spell"):
        Spell(**{"start_s": 10, "end_s": 20, **wrong})  # type: ignore[arg-type]  # the numbers are what is tested


def test_spells_are_read_from_json() -> None:
    assert spells_from_json([{"start_s": 1, "end_s": 2, "models": ["large"]}]) == (Spell(1, 2, models=("large",)),)
    mistakes: tuple[Any, ...] = ({}, ["x"], [{"start_s": 1}], [{"start_s": 1, "end_s": 2, "severity": 3}])
    for wrong in mistakes:
        with pytest.raises(ValueError, match=r"spells are|a spell has"):
            spells_from_json(wrong)
