"""What was done more cheaply in a run, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from headgate.model.canonical import decode, encode
from headgate.model.reason import Reason
from headgate.model.run import RunRecord
from headgate.model.step import Step

POSTPONE = "postpone"
"""Function of the step that remembers a postponed call."""
FOLLOW_UP = "follow_up"
"""Function of the step by which a run knows that it makes the postponed calls of another one."""


@dataclass(frozen=True, slots=True)
class Degradation:
    """One thing that was done more cheaply."""

    what: str
    """The knob, model or part; ``run`` for all of it."""
    before: Any
    """What it would have been: a JSON value."""
    after: Any
    """What it was instead."""
    why: str | None
    """A `Reason`: ``cheaper_path`` (it was taken in on it), ``shed`` (pressure), ``slack`` or ``fallback``.
    ``None`` where an older version did not write it down."""

    def view(self) -> dict[str, Any]:
        """With the names it has in JSON."""
        return {"what": self.what, "from": self.before, "to": self.after, "why": self.why}

    def text(self) -> str:
        """As a step keeps it."""
        return encode(self.view())


def degradation_of(step: Step) -> Degradation | None:
    """What was degraded at that step."""
    if step.degradation is not None:
        read = decode(step.degradation)
        return Degradation(read["what"], read["from"], read["to"], read["why"])
    return None if step.degraded is None else Degradation(step.resource, None, step.degraded, None)


def degradations_of(run: RunRecord, steps: Iterable[Step]) -> list[Degradation]:
    """Everything that was done more cheaply in a run, in order; empty if nothing was."""
    found = [one for step in steps if (one := degradation_of(step)) is not None]
    if run.degraded and all(one.why == Reason.CHEAPER_PATH for one in found):
        found.insert(0, Degradation("run", "full", "cheaper path", Reason.CHEAPER_PATH.value))
    return found
