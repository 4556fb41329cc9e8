"""What a play's events say about each guarded resource: what was asked of it, refused, repeated and given up.

The dependencies' own ledger (`Effect`) tells what was done; this tells what was not done, and why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from headgate.observe.bus import Event

BIN_S = 5.0
"""Refusals and timeouts are counted in stretches of so many seconds."""


@dataclass(slots=True)
class ResourceFacts:
    """Counts of one resource over one play."""

    started: int = 0
    """Calls that got a slot; a repeated call counts each time."""
    waited_s: float = 0.0
    """What they waited for it, together."""
    last_slots: int = 0
    """Calls that took the last slot of the limit of the moment."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """How they ended, by `headgate.model.outcome.Outcome`."""
    retried: int = 0
    fell_back: int = 0
    """Calls that went to another resource instead."""
    opened: int = 0
    """Times its breaker opened."""
    refused: dict[str, Counter[int]] = field(default_factory=dict)
    """Reason → bin (``BIN_S`` seconds) → calls refused for it."""
    timeouts: Counter[int] = field(default_factory=Counter)
    """Bin → calls that ran into their timeout."""

    @property
    def asked(self) -> int:
        """Calls that started or were refused."""
        return self.started + sum(self.refusals(reason) for reason in self.refused)

    def refusals(self, reason: str) -> int:
        """Calls that were refused for this reason."""
        return sum(self.refused.get(reason, Counter()).values())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; keys of bins become texts there."""
        return {
            "started": self.started,
            "waited_s": round(self.waited_s, 3),
            "last_slots": self.last_slots,
            "outcomes": dict(self.outcomes),
            "retried": self.retried,
            "fell_back": self.fell_back,
            "opened": self.opened,
            "refused": {reason: dict(bins) for reason, bins in self.refused.items()},
            "timeouts": dict(self.timeouts),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> ResourceFacts:
        """The counterpart of `to_json`."""
        known = dict(value)
        known["outcomes"] = Counter(known["outcomes"])
        known["refused"] = {reason: _bins(bins) for reason, bins in known["refused"].items()}
        known["timeouts"] = _bins(known["timeouts"])
        return cls(**known)


def _bins(given: Mapping[str, int]) -> Counter[int]:
    return Counter({int(place): count for place, count in given.items()})


class Tally:
    """Listens on the bus of a gate and counts by resource."""

    def __init__(self, born_ms: int) -> None:
        self._born_ms = born_ms
        self.resources: dict[str, ResourceFacts] = {}

    def __call__(self, event: Event) -> None:
        count = _COUNTS.get(event.name)
        if count is None:
            return
        name = event.fields["old" if event.name == "call_fell_back" else "resource"]
        facts = self.resources.get(name)
        if facts is None:
            facts = self.resources[name] = ResourceFacts()
        count(facts, event.fields, int((event.at_ms - self._born_ms) / (1000 * BIN_S)))


def _started(facts: ResourceFacts, fields: Mapping[str, Any], _: int) -> None:
    facts.started += 1
    facts.waited_s += fields["queued_ms"] / 1000
    facts.last_slots += fields["inflight"] >= fields["limit"]


def _finished(facts: ResourceFacts, fields: Mapping[str, Any], place: int) -> None:
    facts.outcomes[fields["outcome"]] += 1
    if fields["outcome"] == "timeout":
        facts.timeouts[place] += 1


def _refused(facts: ResourceFacts, fields: Mapping[str, Any], place: int) -> None:
    if not fields.get("shadow"):
        facts.refused.setdefault(str(fields["reason"]), Counter())[place] += 1


def _retried(facts: ResourceFacts, _: Mapping[str, Any], __: int) -> None:
    facts.retried += 1


def _fell_back(facts: ResourceFacts, _: Mapping[str, Any], __: int) -> None:
    facts.fell_back += 1


def _breaker(facts: ResourceFacts, fields: Mapping[str, Any], _: int) -> None:
    facts.opened += fields["new"] == "open" and fields["old"] == "closed"


_COUNTS = {
    "call_started": _started,
    "call_finished": _finished,
    "call_refused": _refused,
    "call_retried": _retried,
    "call_fell_back": _fell_back,
    "breaker_changed": _breaker,
}
