"""A workflow's degrade ladder: what to do more cheaply at which pressure.

Decides: how many rungs are taken now, and what they add up to (knob values, models in place of others, parts to
skip).

Rule: a rung is taken at its pressure ``at`` and left only below ``at - MARGIN`` (hysteresis, so that a pressure
around a rung does not make it flutter); a rung too low for that margin is left below half of its ``at``. A run
that was admitted on the cheaper path has the whole ladder applied, whatever the pressure.

Invariants: rungs are taken from the lowest pressure up, without gaps; a higher rung's values win over a lower's;
skips only add up. Replacements are not chained: ``large: small`` and ``small: tiny`` send a call on *large* to
*small*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

MARGIN = 0.10
"""Ten points of pressure."""

Knob = float | int | str | bool


class Rung(Protocol):
    """The part of a rung that the decision needs."""

    @property
    def at(self) -> float: ...
    @property
    def knobs(self) -> Mapping[str, Knob]: ...
    @property
    def models(self) -> Mapping[str, str]: ...
    @property
    def skip(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True)
class Active:
    """What the taken rungs add up to."""

    rungs: int = 0
    knobs: Mapping[str, Knob] = field(default_factory=dict)
    models: Mapping[str, str] = field(default_factory=dict)
    skip: frozenset[str] = frozenset()


NOTHING = Active()


def leave_below(at: float) -> float:
    """The pressure below which a rung taken at ``at`` is left."""
    return max(at - MARGIN, at / 2)


def rungs_taken(ladder: Sequence[Rung], pressure: float, *, before: int) -> int:
    """How many rungs of a ladder (in order of ``at``) are taken, given how many were ``before``."""
    taken = 0
    for number, rung in enumerate(ladder, start=1):
        holds = pressure >= rung.at or (number <= before and pressure >= leave_below(rung.at))
        if not holds:
            break
        taken = number
    return taken


def in_order(ladder: Sequence[Rung]) -> tuple[Rung, ...]:
    """The ladder from its lowest rung up; rungs at the same pressure keep their order."""
    return tuple(sorted(ladder, key=lambda rung: rung.at))


def add_up(ladder: Sequence[Rung], taken: int) -> Active:
    """What the first ``taken`` rungs of a ladder (in order of ``at``) come to."""
    if taken <= 0:
        return NOTHING
    knobs: dict[str, Knob] = {}
    models: dict[str, str] = {}
    skip: set[str] = set()
    for rung in ladder[:taken]:
        knobs.update(rung.knobs)
        models.update(rung.models)
        skip.update(rung.skip)
    return Active(min(taken, len(ladder)), knobs, models, frozenset(skip))
