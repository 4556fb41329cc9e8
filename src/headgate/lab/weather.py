"""What goes wrong with a simulated dependency, and when.

A `Spell` is a stretch of time with less capacity, slower answers or errors; spells may overlap. `Weather` is what
holds at one moment. Times are seconds on the dependency's own clock, from its start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FAULTS = ("mixed", "500", "503", "529", "429", "hang", "reset", "empty", "malformed", "slow_start")
"""How a call can go wrong. ``mixed``: half answer 503 at once, half break with 500 half way; ``hang``: accepted and
never answered; ``reset``: the connection breaks half way; ``empty`` and ``malformed``: 200 with an unusable body;
``slow_start``: good, but the work begins late. 429, 503 and 529 come at once and cost no work; 500 comes half way."""


@dataclass(frozen=True, slots=True)
class Spell:
    """From ``start_s`` until (not including) ``end_s``."""

    start_s: float
    end_s: float
    capacity: float = 1.0
    """Part of the ordinary capacity that is left, more than 0."""
    slow: float = 1.0
    """How much longer every call takes, at least 1."""
    errors: float = 0.0
    """Share of calls that go wrong, 0..1."""
    models: tuple[str, ...] = ()
    """Only for these; empty is all."""
    fault: str = "mixed"
    """How they go wrong, one of `FAULTS`."""
    stalled: bool = False
    """Nothing advances, whatever is accepted; afterwards it goes on."""

    def __post_init__(self) -> None:
        fine = 0 <= self.start_s < self.end_s and self.capacity > 0 and self.slow >= 1 and 0 <= self.errors <= 1
        fine = fine and self.fault in FAULTS
        if not fine:
            raise ValueError(f"not a possible spell: {self!r}")

    def covers(self, now_s: float, model: str) -> bool:
        return self.start_s <= now_s < self.end_s and (not self.models or model in self.models)


@dataclass(frozen=True, slots=True)
class Weather:
    """All spells of one moment together."""

    capacity: float = 1.0
    slow: float = 1.0
    errors: float = 0.0
    faults: tuple[tuple[float, str], ...] = ()
    """(chance up to which, what) in rising order; together they make up ``errors``."""
    stalled: bool = False

    def fault(self, chance: float) -> str | None:
        """What goes wrong with a call whose luck is ``chance``, in 0..1."""
        for below, kind in self.faults:
            if chance < below:
                return kind
        return None

    @property
    def fair(self) -> bool:
        """Whether nothing is wrong."""
        return self == FAIR


FAIR = Weather()


def weather_at(spells: Sequence[Spell], now_s: float, model: str) -> Weather:
    """Capacities and slownesses multiply; errors are independent of each other."""
    capacity, slow, fine, stalled = 1.0, 1.0, 1.0, False
    faults: list[tuple[float, str]] = []
    for spell in spells:
        if spell.covers(now_s, model):
            capacity *= spell.capacity
            slow *= spell.slow
            fine *= 1 - spell.errors
            stalled = stalled or spell.stalled
            if spell.errors > 0:
                faults.append((1 - fine, spell.fault))
    return Weather(capacity, slow, 1 - fine, tuple(faults), stalled)


def next_change(spells: Sequence[Spell], now_s: float) -> float | None:
    """The next moment after ``now_s`` at which a spell begins or ends."""
    moments = [moment for spell in spells for moment in (spell.start_s, spell.end_s) if moment > now_s]
    return min(moments, default=None)


def spells_from_json(value: Any) -> tuple[Spell, ...]:
    """Spells from a JSON list of objects with the fields of `Spell`.

    Raises:
        ValueError: the value has another shape, or a spell is impossible.
    """
    if not isinstance(value, list) or not all(isinstance(item, Mapping) for item in value):
        raise ValueError("spells are a list of objects")
    try:
        return tuple(Spell(**{**item, "models": tuple(item.get("models", ()))}) for item in value)
    except TypeError as error:
        raise ValueError(
            f"a spell has fields start_s, end_s, capacity, slow, errors, models, fault, stalled: {error}"
        ) from None
