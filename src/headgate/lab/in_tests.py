"""Scenarios inside somebody's own tests; `headgate_pytest` makes fixtures of it. Needs no pytest."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headgate.errors import ConfigError
from headgate.lab.measures import Verdict, judged, measure_of, shown, spread
from headgate.lab.own_config import YAML, with_config, workflow_in
from headgate.lab.report.folder import played
from headgate.lab.report.results import OURS, Results
from headgate.lab.scenario.description import Goal, load_scenario
from headgate.lab.scenario.shorten import shortened
from headgate.lab.scenario.users import WORKFLOW


@dataclass(frozen=True)
class Outcome:
    """What came of a play, to be judged."""

    results: Results = field(repr=False)
    scenario: str
    policy: str

    @property
    def measures(self) -> Mapping[str, float]:
        """The means over the seeds, by the names of goals."""
        names = self.results.measure_names(self.scenario)
        return {name: self.results.measure(self.scenario, self.policy, name).mean for name in names}

    def must(self, **demands: float) -> Outcome:
        """Demand measures, with ``_`` for ``-``: ``must(goodput=0.6, critical_on_time=0.99, amplification=1.2)``.
        What is better when there is more of it must be at least so much, everything else at most.

        Raises:
            AssertionError: a demand is not met; the message is a table of all of them, with advice.
            ConfigError: there is no such measure, or nothing is demanded.
        """
        __tracebackhide__ = True
        if not demands:
            raise ConfigError(["nothing is demanded; name measures, for example must(goodput=0.6)"])
        goals = [self._goal(name.replace("_", "-"), value) for name, value in demands.items()]
        return self._held_to(goals)

    def must_meet_goals(self) -> Outcome:
        """Demand the scenario's own goals.

        Raises:
            AssertionError: one is missed; the message is a table of all of them, with advice.
            ConfigError: it has none.
        """
        __tracebackhide__ = True
        goals = self.results.about.sheets[self.scenario].goals
        if not goals:
            raise ConfigError([f"scenario {self.scenario} has no goals; give it some, or use must(goodput=0.6)"])
        return self._held_to(goals)

    def _held_to(self, goals: Sequence[Goal]) -> Outcome:
        __tracebackhide__ = True
        plays = [one.measures for one in self.results.plays(self.scenario, self.policy)]
        verdicts = [judged(goal, plays) for goal in goals]
        if not all(one.met for one in verdicts):
            raise AssertionError(self._table(verdicts))
        return self

    def _goal(self, name: str, value: float) -> Goal:
        known = self.results.plays(self.scenario, self.policy)[0].measures
        if name not in known:
            names = ", ".join(one.replace("-", "_") for one in known)
            raise ConfigError([f"there is no measure {name.replace('-', '_')!r}; known: {names}"])
        if measure_of(name).better == "more":
            return Goal(measure=name, at_least=float(value))
        return Goal(measure=name, at_most=float(value))

    def _table(self, verdicts: Sequence[Verdict]) -> str:
        missed = sum(not one.met for one in verdicts)
        seeds = ", ".join(map(str, self.results.about.seeds))
        notes = "".join(f" {note}" for note in self.results.about.notes)
        lines = [
            f"{self.policy} in {self.scenario} (seeds {seeds}): {missed} of {len(verdicts)} demands missed.{notes}"
        ]
        for one in verdicts:
            over = spread(
                p.measures.get(one.goal.measure, math.nan) for p in self.results.plays(self.scenario, self.policy)
            )
            got = shown(measure_of(one.goal.measure), over)
            lines.append(f"  {'met' if one.met else 'MISSED':7} {one.words:34} was {got}")
        others = set(self.measures) - {one.goal.measure for one in verdicts}
        lines += [
            f"          {measure_of(name).title:34} was {measure_of(name).shown(value)}"
            for name, value in self.measures.items()
            if name in others and not math.isnan(value)
        ]
        lines += [f"  advice: {one.words}" for one in self.results.about.sheets[self.scenario].advice]
        return "\n".join(lines)


class Lab:
    """Plays scenarios. ``folders``: where relative paths are looked for, in this order."""

    def __init__(self, folders: Sequence[Path] = ()) -> None:
        self._folders = tuple(folders)

    def play(
        self,
        scenario: str,
        *,
        config: str | Path | None = None,
        workflow: str | None = None,
        seed: int = 1,
        seeds: int = 1,
        policy: str = OURS,
        seconds: float | None = None,
    ) -> Outcome:
        """Play a shipped scenario, or a file ending in ``.yaml``, in virtual time; ``seeds`` times, with ``seed`` and
        the following ones. ``config`` is a ``headgate.yaml`` to play it with, ``workflow`` the one in it whose
        settings the runs have. ``seconds`` plays a short copy, with everything closer together: quicker, and with
        other results.

        Raises:
            ConfigError: something of that does not exist, or does not fit together.
        """
        if seeds < 1:
            raise ConfigError([f"seeds must be at least 1, not {seeds}"])
        if scenario.endswith(YAML):
            scenario = str(self._found(scenario))
        one, notes = load_scenario(scenario), []
        if seconds is not None:
            if not 0 < seconds <= one.seconds:
                raise ConfigError([f"seconds must be more than 0 and at most {one.seconds:g}, not {seconds:g}"])
            one = shortened(one, float(seconds))
            notes.append(f"A short copy of {seconds:g} s.")
        if config is not None:
            one = with_config(one, self._found(config), workflow=workflow)
            notes.append(f"Configuration: {config}.")
        named = WORKFLOW
        if config is not None:
            named = workflow_in(self._found(config), workflow)
        results = played([one], [policy], range(seed, seed + seeds), notes=notes, workflow=named)
        return Outcome(results, one.name, policy)

    def _found(self, name: str | Path) -> Path:
        path = Path(name)
        places = [folder / path for folder in self._folders]
        return next((place for place in places if place.is_file()), path)
