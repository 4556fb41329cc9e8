"""What a scenario file may say about runs that are not ordinary, about people who answer, and about restarts.

Each behaviour has a part of all runs; ``looping: 5%`` is short for ``looping: {part: 5%}``. A run has at most one.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from headgate.config.fields import Count, Name, Settings
from headgate.config.units import Number, Seconds, Share, Whole


def _short(given: object) -> object:
    return given if given is None or isinstance(given, dict | BaseModel) else {"part": given}


_Short = BeforeValidator(_short)


MOST_SUB_RUNS = 2_000
"""That one run may have below it, all generations together: their calls are listed."""


def _counted(fan: int, levels: int) -> None:
    count = sum(fan**level for level in range(1, levels + 1))
    if count > MOST_SUB_RUNS:
        raise ValueError(f"fan {fan} over {levels} levels are {count} sub-runs; at most {MOST_SUB_RUNS}")


class Looping(Settings):
    """It asks a model and calls a tool with the same arguments, again and again, whatever comes back. Nobody needs
    what it does."""

    part: Share
    rounds: Count = 60
    """Of one model call and one tool call, if nobody ends it."""
    grows: Annotated[Whole, Field(ge=0, le=100_000)] = 300
    """Model tokens that each round adds to the prompt."""


class Runaway(Settings):
    """It has itself carried out again by sub-runs, which do so too. Nobody needs what it does."""

    part: Share
    fan: Annotated[Whole, Field(ge=1, le=10)] = 2
    """Sub-runs of each."""
    levels: Annotated[Whole, Field(ge=1, le=9)] = 7
    """Generations of sub-runs, if nobody ends it."""

    @model_validator(mode="after")
    def _countable(self) -> Self:
        _counted(self.fan, self.levels)
        return self


class Delegating(Settings):
    """It has a part of its work done by sub-runs, and needs all of them."""

    part: Share
    fan: Annotated[Whole, Field(ge=1, le=10)] = 3
    levels: Annotated[Whole, Field(ge=1, le=9)] = 1

    @model_validator(mode="after")
    def _countable(self) -> Self:
        _counted(self.fan, self.levels)
        return self


class Growing(Settings):
    """Its prompt is so many times as long with every model call, up to ``at_most`` model tokens."""

    part: Share
    times: Annotated[Number, Field(ge=1, le=10)] = 2.0
    at_most: Count = 100_000


class Asking(Settings):
    """It asks people before its last call, and goes on when they have said yes."""

    part: Share
    queue: Name = "people"


class Behaviours(Settings):
    """Parts of all runs that are not ordinary."""

    looping: Annotated[Looping | None, _Short] = None
    runaway: Annotated[Runaway | None, _Short] = None
    delegating: Annotated[Delegating | None, _Short] = None
    growing: Annotated[Growing | None, _Short] = None
    asking: Annotated[Asking | None, _Short] = None

    @model_validator(mode="after")
    def _parts(self) -> Self:
        if sum(self.parts().values()) > 1 + 1e-9:
            raise ValueError("the parts of the behaviours cannot be more than 1 together")
        return self

    def parts(self) -> dict[str, float]:
        """Behaviour → part, of those that there are."""
        found = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: one.part for name, one in found.items() if one is not None}


WORTHLESS = frozenset({"looping", "runaway"})
"""Behaviours whose runs nobody needs: to end them early is right."""


class Answerers(Settings):
    """People who answer the questions of one queue: the first of the list they are shown, else the oldest."""

    count: Count
    takes: Seconds
    """One question takes one person so long, on average."""
    noise: Annotated[Number, Field(ge=0, le=3)] = 0.4
    """Sigma of the lognormal noise on that."""


class Restarts(Settings):
    """Every gate is stopped once and started anew, one after the other, as in a rolling update."""

    since: Annotated[float, Field(ge=0, le=86_400)]
    every: Seconds
    """From one gate to the next."""
    down: Seconds = 5.0
    """From the end of the old process to the start of the new one."""
    grace: Seconds = 20.0
    """What running work without headgate has to come to its end; then it is lost. With headgate ``workers: drain``
    says how long, and nothing is lost."""
