"""What runs of one kind take, learned from runs that ended.

Decides: the quantiles (p50, p90) of each quantity for a workflow and a class of input sizes, and its mean, which is
what many runs together need.

Source: stochastic approximation of quantiles (Robbins and Monro, 1951) on logarithms, because what runs take spreads
over orders of magnitude. A sample above the estimate moves it up by ``q`` steps, one below moves it down by
``1 - q`` steps, so that it rests where a share of ``q`` lies below.

Rule: a step is a part of the spread. The second sample in a row above an estimate moves it at least half way up, so
overruns raise a p90 at once, and underruns lower it slowly. Runs that did not succeed can only raise.

Invariants: p50 is never above p90; every estimate lies within what was sampled and one step beyond; state and work
per sample are bounded.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headgate.model.cost import ASKED, ResourceUse, RunSample

LEAST_ENDS = 8
"""A size class speaks for itself from so many runs on; before, the whole workflow speaks for it."""
LEAST_OF_WORKFLOW = 3
"""And the workflow speaks for itself from so many on; before, its settings do."""
RESOURCES_AT_MOST = 32
"""Resources of one profile; further ones are not learned."""
WHOLE = -1
"""The size class of every input."""
CLASSES = 6

_GAIN = 0.15
_SPREAD_AT_FIRST = 0.5
_SPREAD_LEAST = 0.05
_HEADROOM = 0.4
"""How far above the first run p90 begins: half as much again."""
_FLOORS = {
    "model_tokens": 1.0,
    "money": 1e-6,
    "calls": 0.1,
    "ran_s": 1e-3,
    "wall_s": 1e-3,
    "parallel": 0.1,
    "busy_s": 1e-3,
    "answers": 0.1,
}
QUANTITIES = ("model_tokens", "money", "calls", "ran_s", "wall_s", "parallel")
_OF_RESOURCE = ("calls", "busy_s", "model_tokens", "answers")
_MEAN_OF = 50.0
"""Runs that a mean remembers."""


class Tracker(NamedTuple):
    """Two quantiles of one quantity, as logarithms, and its mean."""

    p50: float
    p90: float
    spread: float
    """Mean distance from p50."""
    above: int
    """Samples in a row above p90."""
    seen: int
    mean: float
    """Over the latest runs that succeeded."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of one (workflow, size class)."""

    ends: int = 0
    """Runs that succeeded."""
    trackers: Mapping[str, Tracker] = field(default_factory=dict)
    resources: Mapping[str, Mapping[str, Tracker]] = field(default_factory=dict)


def size_class(input_bytes: int) -> int:
    """0 for inputs below 1 KiB, one more for every four times as large, at most 5."""
    if input_bytes < 1024:
        return 0
    return min(CLASSES - 1, 1 + int(math.log(input_bytes / 1024, 4)))


def fold(profile: Profile | None, samples: Iterable[RunSample]) -> Profile:
    """The profile after these runs."""
    known = profile or Profile()
    trackers = dict(known.trackers)
    resources = {name: dict(parts) for name, parts in known.resources.items()}
    ends = known.ends
    for sample in samples:
        ends += sample.whole
        for name in QUANTITIES:
            _note(trackers, name, getattr(sample, name), whole=sample.whole)
        for resource in sample.per_resource:
            if resource not in resources and len(resources) < RESOURCES_AT_MOST:
                resources[resource] = {}
        for resource, parts in resources.items():
            use = sample.per_resource.get(resource, _UNUSED)
            for name in _OF_RESOURCE:
                _note(parts, name, getattr(use, name), whole=sample.whole)
    return Profile(ends, trackers, resources)


def quantile(profile: Profile, name: str, *, high: bool) -> float:
    """The p90 (``high``) or p50 of a quantity; 0 if it was never there."""
    return _value(name, profile.trackers.get(name), high=high)


def uses(profile: Profile, *, high: bool) -> dict[str, ResourceUse]:
    """The same of every resource; people are none."""
    return {
        resource: ResourceUse(*(_value(name, parts.get(name), high=high) for name in _OF_RESOURCE))
        for resource, parts in profile.resources.items()
        if not resource.startswith(ASKED)
    }


def mean_answers(profile: Profile) -> dict[str, float]:
    """Calls that each resource, and questions that each queue of people (`ASKED`), answers for one run on average."""
    return {name: parts["answers"].mean for name, parts in profile.resources.items() if "answers" in parts}


def dump(profile: Profile) -> str:
    """A profile as JSON text."""
    return json.dumps(
        {
            "ends": profile.ends,
            "trackers": {name: _rounded(one) for name, one in profile.trackers.items()},
            "resources": {
                resource: {name: _rounded(one) for name, one in parts.items()}
                for resource, parts in profile.resources.items()
            },
        },
        separators=(",", ":"),
    )


def load(text: str) -> Profile:
    """A profile from what `dump` made.

    Raises:
        ValueError: it is something else.
    """
    try:
        read = json.loads(text)
        return Profile(
            int(read["ends"]),
            {name: _tracker(one) for name, one in read["trackers"].items()},
            {
                resource: {name: _tracker(one) for name, one in parts.items()}
                for resource, parts in read["resources"].items()
            },
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("this is not a cost profile") from error


_UNUSED = ResourceUse()


def _note(trackers: dict[str, Tracker], name: str, value: float, *, whole: bool) -> None:
    if not math.isfinite(value):
        return
    known = trackers.get(name)
    sample = math.log(max(value, _FLOORS[name]))
    if known is None:
        if whole:
            trackers[name] = Tracker(sample, sample + _HEADROOM, _SPREAD_AT_FIRST, 0, 1, value)
        return
    if whole or sample > known.p90:
        trackers[name] = _moved(known, sample, value, whole=whole)


def _moved(known: Tracker, sample: float, value: float, *, whole: bool) -> Tracker:
    p50, p90, spread, above, seen, mean = known
    gain = max(_GAIN, 1 / (seen + 1))
    above = above + 1 if sample > p90 else 0
    step = gain * max(spread, p90 - p50)
    high = p90 + (0.9 * step if above else -0.1 * step)
    if above > 1:
        high = max(high, (p90 + sample) / 2)
    if whole:
        far = abs(sample - p50)
        step = gain * spread / 2
        p50 += step if sample > p50 else -step
        spread = max(_SPREAD_LEAST, spread + gain * (far - spread))
        mean += (value - mean) / min(seen + 1, _MEAN_OF)
    return Tracker(p50, max(high, p50), spread, above, seen + whole, mean)


def _value(name: str, tracker: Tracker | None, *, high: bool) -> float:
    if tracker is None:
        return 0.0
    value = math.exp(min(tracker.p90 if high else tracker.p50, 700.0))
    return 0.0 if value <= 2 * _FLOORS[name] else value


def _rounded(tracker: Tracker) -> list[float]:
    p50, p90, spread, above, seen, mean = tracker
    return [round(p50, 6), round(p90, 6), round(spread, 6), above, seen, round(mean, 6)]


def _tracker(read: Any) -> Tracker:
    p50, p90, spread, above, seen, *mean = read  # profiles of older versions have no mean
    average = float(mean[0]) if mean else math.exp(min(float(p50), 700.0))
    found = Tracker(float(p50), float(p90), float(spread), int(above), int(seen), average)
    if not all(map(math.isfinite, found)) or found.seen < 1:
        raise ValueError("this is not a cost profile")
    return found
