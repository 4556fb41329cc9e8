"""Settings of what happens when a workflow's queue is full, and to submissions that repeat another one."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic_core import PydanticKnownError

from headgate.config.fields import Settings
from headgate.config.units import Seconds, Whole, shown
from headgate.model.duplicates import Duplicates

_PATH = re.compile(r"^(user|input(\.[A-Za-z0-9_-]{1,64}){1,8})$")
_PATHS_AT_MOST = 8
WINDOWS_AT_MOST = 10
"""How many debounce windows a run waits at most, where nothing else is said."""


class WhenFull(StrEnum):
    """What happens near and at the bound of a workflow's queue."""

    REJECT = "reject"
    DEGRADE = "degrade"
    """The last fifth of the queue is open only on the cheaper path (the whole ladder applied)."""
    DELAY = "delay"
    """Accepted into a second bounded tier, to go in line later."""
    SHED_LOWER = "shed-lower"
    """A waiting run of a lower sheddable lane makes room."""


class DelaySettings(Settings):
    """The second tier of a queue whose workflow says ``when_full: delay``."""

    depth: Annotated[Whole, Field(ge=1, le=10_000)] = 1000
    """Runs that may wait there."""
    at_most: Seconds = 600.0
    """The longest that a run is held back before it goes in line."""


def _paths(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _known_paths(paths: tuple[str, ...]) -> tuple[str, ...]:
    if len(paths) > _PATHS_AT_MOST or len(set(paths)) < len(paths):
        raise ValueError(f"names at most {_PATHS_AT_MOST} different fields, for example [input.ticket]")
    for path in paths:
        if not _PATH.fullmatch(path):
            raise ValueError(f"{shown(path)} is no field of a submission; write user, or a path such as input.ticket")
    return paths


class DuplicateSettings(Settings):
    """When two submissions are the same, and what happens to the second."""

    mode: Duplicates = Duplicates.COLLAPSE
    by: Annotated[tuple[str, ...], BeforeValidator(_paths), AfterValidator(_known_paths)] = ()
    """Fields that make the content; the whole input by default."""
    debounce: Seconds | None = None
    """A run waits so long for more of the same, and each one restarts the wait and replaces the input."""
    debounce_at_most: Seconds | None = None
    """The longest wait from the first submission on; ten windows by default."""

    @model_validator(mode="after")
    def _debounces_what_it_collapses(self) -> Self:
        if self.debounce is None:
            if self.debounce_at_most is not None:
                raise ValueError("debounce_at_most bounds a debounce; write for example debounce: 5s")
        elif self.mode is not Duplicates.COLLAPSE:
            raise ValueError("debounce makes one run of many submissions, so it needs mode: collapse")
        elif self.debounce_at_most is not None and self.debounce_at_most < self.debounce:
            raise ValueError(
                f"debounce_at_most ({self.debounce_at_most:g}s) is shorter than one window ({self.debounce:g}s)"
            )
        return self

    @property
    def longest(self) -> float:
        """Seconds that a run may wait from the first submission on."""
        window = self.debounce or 0.0
        return WINDOWS_AT_MOST * window if self.debounce_at_most is None else self.debounce_at_most


def _short_form(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    modes = [mode.value for mode in Duplicates]
    if value not in modes:
        raise PydanticKnownError("enum", {"expected": ", ".join(f"'{mode}'" for mode in modes)})
    return {"mode": value}


DuplicatesField = Annotated[DuplicateSettings, BeforeValidator(_short_form)]
"""The section, or only its mode: ``duplicates: collapse``."""
