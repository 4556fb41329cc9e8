"""What one run has done more cheaply so far, as its attempt knows it."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.model.degradation import FOLLOW_UP, POSTPONE, Degradation, degradation_of
from headgate.model.step import Step


class Cheaper:
    """What was degraded, and whether calls were put off."""

    __slots__ = ("found", "is_follow_up", "postponed", "words")

    def __init__(self, steps: Sequence[Step]) -> None:
        """``steps``: what the run remembers of earlier attempts."""
        functions = {step.function for step in steps}
        self.words: list[str] = [step.degraded for step in steps if step.degraded is not None]
        """Such as ``large -> small``."""
        self.found: list[Degradation] = [one for step in steps if (one := degradation_of(step)) is not None]
        """The same with what it would have been, and why."""
        self.postponed = POSTPONE in functions
        """Whether some call was put off, by this run or the one that it follows."""
        self.is_follow_up = FOLLOW_UP in functions
        """Whether it makes the calls that another run has postponed."""

    @property
    def to_follow(self) -> bool:
        """Whether another run has to make calls that this one put off."""
        return self.postponed and not self.is_follow_up

    def note(self, words: str, found: Degradation) -> None:
        """One more thing was done more cheaply."""
        self.words.append(words)
        self.found.append(found)
