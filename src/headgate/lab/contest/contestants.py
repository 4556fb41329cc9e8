"""Who takes part in a comparison: every way of handling load that can play a scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from headgate.lab.contest.rivals.field import recipes
from headgate.lab.contest.rivals.playing import play_rival
from headgate.lab.contest.variants import ablations, play_with_perfect_limits, play_without
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.play import Played, play, unlimited


class Play(Protocol):
    """Plays a scenario with one policy."""

    def __call__(self, scenario: Scenario, *, seed: int, without: Sequence[str] = ()) -> Played:
        """``without``: tenants that stay away."""
        ...


@dataclass(frozen=True, slots=True)
class Contestant:
    """One policy."""

    name: str
    """In kebab-case."""
    title: str
    """For tables and pictures."""
    play: Play


def contestants() -> dict[str, Contestant]:
    """All of them by name, always in the same order."""
    found = (
        Contestant("none", "no limits, three immediate retries", unlimited),
        *(Contestant(one.name, one.title, partial(play_rival, one)) for one in recipes()),
        Contestant("headgate", "headgate", play),
        Contestant("headgate-perfect-limits", "headgate with perfect limits", play_with_perfect_limits),
        *(
            Contestant(f"headgate-without-{one.name}", f"headgate: {one.title}", partial(play_without, one))
            for one in ablations()
        ),
    )
    return {one.name: one for one in found}
