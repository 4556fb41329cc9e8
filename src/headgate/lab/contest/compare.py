"""Many policies, scenarios and seeds over several processes; each play becomes one line of JSON."""

from __future__ import annotations

import json
import math
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from itertools import product
from multiprocessing import get_context
from typing import Any

from headgate.clock import RealClock
from headgate.errors import ConfigError
from headgate.lab.contest.contestants import contestants
from headgate.lab.scenario.bound import Bound, bound
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.facts import ResourceFacts
from headgate.lab.scenario.scores import LaneScore, score
from headgate.lab.scenario.timeline import Timeline
from headgate.lab.scenario.traffic import wishes

_SPECIAL = {"inf": math.inf, "-inf": -math.inf}
_BOUNDS: deque[tuple[Scenario, int, Bound]] = deque(maxlen=4)
"""The bounds that this process found last."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One policy in one scenario with one seed."""

    scenario: str
    policy: str
    seed: int
    measures: dict[str, float]
    """As in `headgate.lab.scenario.scores.Score`."""
    lanes: dict[str, LaneScore]
    calls: int
    """That the dependencies saw."""
    virtual_s: float
    real_s: float
    """What playing took, without the bound and the play without noisy tenants."""
    limits: str
    """What sets the bound."""
    event_hash: str
    timeline: Timeline
    facts: dict[str, ResourceFacts]
    """What was asked of each resource; nothing where no gate was played."""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: NaN is null, infinite is ``"inf"``."""
        return {
            "scenario": self.scenario,
            "policy": self.policy,
            "seed": self.seed,
            "measures": {name: _told(value) for name, value in self.measures.items()},
            "lanes": {name: {**asdict(lane), "ends": dict(lane.ends)} for name, lane in self.lanes.items()},
            "calls": self.calls,
            "virtual_s": self.virtual_s,
            "real_s": round(self.real_s, 3),
            "limits": self.limits,
            "event_hash": self.event_hash,
            "timeline": self.timeline.to_json(),
            "facts": {name: one.to_json() for name, one in self.facts.items()},
        }

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Entry:
        """What `to_json` made.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        lanes = {name: LaneScore(**{**lane, "ends": Counter(lane["ends"])}) for name, lane in told["lanes"].items()}
        rest = {name: told[name] for name in ("scenario", "policy", "seed", "calls", "virtual_s", "real_s", "limits")}
        return cls(
            **rest,
            measures={name: _heard(value) for name, value in told["measures"].items()},
            lanes=lanes,
            event_hash=told["event_hash"],
            timeline=Timeline.from_json(told["timeline"]),
            facts={name: ResourceFacts.from_json(one) for name, one in told["facts"].items()},
        )

    def line(self) -> str:
        """One line of a results file."""
        return json.dumps(self.to_json(), separators=(",", ":"), allow_nan=False) + "\n"


def read_lines(text: str) -> list[Entry]:
    """The entries of a results file.

    Raises:
        ConfigError: a line is none; the message names it.
    """
    entries: list[Entry] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                entries.append(Entry.from_json(json.loads(line)))
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise ConfigError([f"line {number} is no result of a comparison: {error!r}"]) from error
    return entries


def compare(
    scenarios: Sequence[Scenario],
    policies: Sequence[str],
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    on_done: Callable[[int, int], None] | None = None,
) -> Iterator[Entry]:
    """Play every policy in every scenario with every seed, ``jobs`` at a time, and give each result as it comes
    (with one job in order: by scenario, seed, policy). ``on_done`` is told how many of how many are done.

    Raises:
        ConfigError: there is no such policy.
    """
    known = contestants()
    if unknown := [name for name in policies if name not in known]:
        raise ConfigError([f"there is no policy {unknown[0]!r}; known: {', '.join(known)}"])
    return compare_all(list(product(scenarios, seeds, policies)), jobs=jobs, on_done=on_done)


def compare_all(
    tasks: Sequence[tuple[Scenario, int, str]],
    *,
    jobs: int = 1,
    on_done: Callable[[int, int], None] | None = None,
) -> Iterator[Entry]:
    """The same for single plays: a scenario, a seed, and the name of a policy that there is."""
    for done, entry in enumerate(_one_by_one(tasks) if jobs <= 1 else _side_by_side(tasks, jobs), 1):
        if on_done is not None:
            on_done(done, len(tasks))
        yield entry


def _one_by_one(tasks: Sequence[tuple[Scenario, int, str]]) -> Iterator[Entry]:
    for scenario, seed, policy in tasks:
        yield enter(scenario, seed, policy)


def _side_by_side(tasks: Sequence[tuple[Scenario, int, str]], jobs: int) -> Iterator[Entry]:
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        waiting: set[Future[Entry]] = {pool.submit(enter, *task) for task in tasks}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for one in done:
                    yield one.result()
        finally:
            for one in waiting:
                one.cancel()


def enter(scenario: Scenario, seed: int, policy: str) -> Entry:
    """Play and score one policy. Where tenants are noisy it plays a second time without them, to see what the others
    would have had.

    Raises:
        KeyError: there is no such policy.
    """
    contestant = contestants()[policy]
    clock = RealClock()
    begun = clock.monotonic()
    played = contestant.play(scenario, seed=seed)
    took = clock.monotonic() - begun
    others = noisy(scenario)
    alone = contestant.play(scenario, seed=seed, without=others) if others else None
    could = _bound(scenario, seed)
    scored = score(played, could, alone=alone)
    return Entry(
        scenario.name,
        policy,
        seed,
        scored.measures,
        scored.lanes,
        len(played.effects),
        played.seconds,
        took,
        could.limits,
        played.event_hash,
        played.timeline,
        played.facts,
    )


def noisy(scenario: Scenario) -> tuple[str, ...]:
    """Tenants that the scenario makes noisy."""
    return tuple(sorted({tenant for change in scenario.traffic.changes for tenant in change.tenants}))


def _bound(scenario: Scenario, seed: int) -> Bound:
    """Of the scored wishes; it takes seconds and is the same for every policy."""
    for known_scenario, known_seed, known in _BOUNDS:
        if known_seed == seed and known_scenario == scenario:
            return known
    found = bound(scenario, [wish for wish in wishes(scenario, seed) if wish.at_s >= scenario.warm_up])
    _BOUNDS.append((scenario, seed, found))
    return found


def _told(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _heard(value: float | str | None) -> float:
    if value is None:
        return math.nan
    return _SPECIAL[value] if isinstance(value, str) else float(value)
