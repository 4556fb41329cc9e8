"""From somebody's file and scenarios to a diff of that file, measured."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path as FilePath
from statistics import fmean

from headgate.config.document import Path, read_document
from headgate.config.load import parse_settings
from headgate.config.settings import GateSettings
from headgate.errors import ConfigError
from headgate.lab.advice import Advice
from headgate.lab.contest.compare import compare
from headgate.lab.own_config import with_settings, workflow_of
from headgate.lab.report.folder import advice_on
from headgate.lab.report.results import OURS
from headgate.lab.scenario.description import Scenario, parse_scenario
from headgate.lab.scenario.users import WORKFLOW
from headgate.lab.search.edit import CannotEdit, changed
from headgate.lab.search.hunt import Changes, Found, Hunt, worth_of
from headgate.lab.search.space import Move, moves

SEARCH_SEEDS = 3
CHECK_SEEDS = 4
LEAST_PLAYS = SEARCH_SEEDS + 2 * CHECK_SEEDS + SEARCH_SEEDS
"""Enough to look at a single step."""


@dataclass(frozen=True)
class Subject:
    """What is to be improved: a file and how scenarios are played with it."""

    text: str
    filename: str
    prefix: Path
    """Where the configuration is in the file: nowhere special, or under ``headgate`` in a scenario file."""
    scenarios: tuple[Scenario, ...]
    workflow: str | None = None

    def with_changes(self, changes: Changes) -> str:
        """The file with other values.

        Raises:
            CannotEdit: one of them cannot be changed alone.
        """
        return changed(self.text, {(*self.prefix, *path): value for path, value in changes.items()})

    def settings(self, changes: Changes) -> GateSettings:
        """The changed configuration as it is written. Raises as `played_with` does."""
        if self.prefix:
            return self.played_with(changes)[0].headgate
        return parse_settings(self.with_changes(changes), self.filename)

    def played_with(self, changes: Changes) -> list[Scenario]:
        """The scenarios with the changed configuration.

        Raises:
            CannotEdit, ConfigError: there is no such configuration.
        """
        text = self.with_changes(changes)
        if self.prefix:
            return [parse_scenario(text, self.filename)]
        settings = parse_settings(text, self.filename)
        return [with_settings(one, settings, self.filename, workflow=self.workflow) for one in self.scenarios]


@dataclass(frozen=True)
class Suggestion:
    """What a search found."""

    found: Found
    diff: str
    """Unified, of the file; empty if nothing better was found."""
    moves: tuple[Move, ...]
    """The changes, with the values of before."""
    advice: tuple[Advice, ...]
    """What the first plays say in words."""


def subject_of(scenarios: Sequence[Scenario], config: FilePath, workflow: str | None) -> Subject:
    """A configuration of its own, with the scenarios to play with it.

    Raises:
        ConfigError: it cannot be read, has mistakes, or does not fit the scenarios.
    """
    text = _read(config)
    subject = Subject(text, str(config), (), tuple(scenarios), workflow)
    return Subject(text, str(config), (), tuple(subject.played_with({})), workflow)


def subject_of_file(file: FilePath) -> Subject:
    """A scenario file whose own ``headgate:`` section is to be improved.

    Raises:
        ConfigError: it cannot be read, or has mistakes.
    """
    text = _read(file)
    return Subject(text, str(file), ("headgate",), (parse_scenario(text, str(file)),))


def advise_settings(
    subject: Subject, *, plays: int, seed: int = 1, jobs: int = 1, on_done: Callable[[int, int], None] | None = None
) -> Suggestion:
    """Search with at most ``plays`` plays; each seed of each scenario is one. Search and check seeds follow ``seed``
    and are never the same.

    Raises:
        ConfigError: so few plays cannot even try one step.
    """
    each = len(subject.scenarios)
    if plays < LEAST_PLAYS * each:
        raise ConfigError([f"{plays} plays are too few to try one step; give at least {LEAST_PLAYS * each}"])
    search_seeds = range(seed, seed + SEARCH_SEEDS)
    searcher = _Searcher(subject, jobs, plays, on_done)
    hunt = Hunt(
        searcher.judge,
        searcher.steps,
        search_seeds=search_seeds,
        check_seeds=range(seed + SEARCH_SEEDS, seed + SEARCH_SEEDS + CHECK_SEEDS),
        plays=plays,
        each=each,
    )
    found = hunt.go()
    after = subject.with_changes(found.changes)
    name = FilePath(subject.filename).name
    diff = "".join(
        difflib.unified_diff(
            subject.text.splitlines(keepends=True), after.splitlines(keepends=True), f"a/{name}", f"b/{name}"
        )
    )
    first = {move.path: move.old for move in searcher.steps({})}
    told = tuple(Move(path, value, first.get(path, "?")) for path, value in found.changes.items())
    return Suggestion(found, diff, told, tuple(searcher.advice))


def _read(file: FilePath) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError([f"{file}: cannot be read: {getattr(error, 'strerror', None) or error}"]) from error


class _Searcher:
    """Plays places of the space and knows the steps from each."""

    def __init__(self, subject: Subject, jobs: int, plays: int, on_done: Callable[[int, int], None] | None) -> None:
        self._subject = subject
        self._jobs = jobs
        self._plays = plays
        self._done = 0
        self._on_done = on_done
        self._workflow = subject.workflow or workflow_of(subject.settings({})) or WORKFLOW
        self.advice: list[Advice] = []

    def judge(self, places: Sequence[Changes], seed: int) -> list[float | None]:
        worth: list[float | None] = [None] * len(places)
        tasks: list[Scenario] = []
        for number, changes in enumerate(places):
            try:
                played = self._subject.played_with(changes)
            except (ConfigError, CannotEdit):  # a step out of the possible: shares above one, an alias
                continue
            tasks += [one.model_copy(update={"name": f"place-{number}-{turn}"}) for turn, one in enumerate(played)]
        values: dict[int, list[float]] = {}
        by_name = {one.name: one for one in tasks}
        entries = []
        for entry in compare(tasks, [OURS], [seed], jobs=self._jobs, on_done=self._tick):
            first_lane = next(iter(by_name[entry.scenario].lanes))
            values.setdefault(int(entry.scenario.split("-")[1]), []).append(worth_of(entry.measures, first_lane))
            entries.append(entry)
        if not self.advice and not places[0]:
            self.advice = [one for task in tasks for one in advice_on(task, entries, workflow=self._workflow)]
        for number, several in values.items():
            worth[number] = fmean(several)
        return worth

    def steps(self, changes: Changes) -> list[Move]:
        settings = self._subject.settings(changes)
        written = read_document(self._subject.with_changes(changes), {}).value
        for key in self._subject.prefix:
            written = written.get(str(key)) if isinstance(written, dict) else None
        return moves(settings, written, self._subject.scenarios, self._workflow, [one.setting for one in self.advice])

    def _tick(self, _: int, __: int) -> None:
        self._done += 1
        if self._on_done is not None:
            self._on_done(self._done, self._plays)
