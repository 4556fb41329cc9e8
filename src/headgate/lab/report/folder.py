"""A comparison kept in a folder: results, what a report has to know beside them, the page and the pictures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from headgate.errors import ConfigError, HeadgateError
from headgate.lab.advice import Advice, advise
from headgate.lab.advice.evidence import Evidence
from headgate.lab.contest.compare import Entry, compare, read_lines
from headgate.lab.contest.contestants import contestants
from headgate.lab.report.about import About, sheet_of
from headgate.lab.report.page import page
from headgate.lab.report.results import OURS, Results
from headgate.lab.scenario.description import Scenario
from headgate.lab.scenario.users import WORKFLOW

ENTRIES = "results.jsonl"
ABOUT = "about.json"
PAGE = "report.html"


def played(
    scenarios: Sequence[Scenario],
    policies: Sequence[str],
    seeds: Sequence[int],
    *,
    jobs: int = 1,
    on_done: Callable[[int, int], None] | None = None,
    notes: Sequence[str] = (),
    workflow: str = WORKFLOW,
) -> Results:
    """Play everything and put it together, with advice from the plays of headgate, in which the runs' workflow is
    called ``workflow``.

    Raises:
        ConfigError: there is no such policy.
    """
    entries = list(compare(scenarios, policies, seeds, jobs=jobs, on_done=on_done))
    return put_together(entries, scenarios, seeds, notes=notes, workflow=workflow)


def put_together(
    entries: Sequence[Entry],
    scenarios: Sequence[Scenario],
    seeds: Sequence[int],
    *,
    notes: Sequence[str] = (),
    workflow: str = WORKFLOW,
) -> Results:
    """Results of entries that were played by somebody else."""
    sheets = {one.name: sheet_of(one, advice_on(one, entries, workflow=workflow)) for one in scenarios}
    titles = {name: one.title for name, one in contestants().items()}
    return Results(entries, About(sheets, titles, tuple(seeds), tuple(notes)))


def advice_on(scenario: Scenario, entries: Sequence[Entry], *, workflow: str = WORKFLOW) -> list[Advice]:
    """What headgate's plays of a scenario say about its configuration, which calls their workflow ``workflow``."""
    ours = sorted(
        (one for one in entries if (one.scenario, one.policy) == (scenario.name, OURS)), key=lambda one: one.seed
    )
    return advise([Evidence(scenario, one.measures, one.lanes, one.facts, one.timeline, workflow) for one in ours])


def save(results: Results, folder: Path) -> Path:
    """Write results and page into ``folder``, which is made if it is not there; the page's path.

    Raises:
        HeadgateError: the folder cannot be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ENTRIES).write_text("".join(one.line() for one in results.entries), encoding="utf-8")
        (folder / ABOUT).write_text(json.dumps(results.about.to_json(), indent=1) + "\n", encoding="utf-8")
        # from what was written, whose numbers are rounded, so that it can be made again
        (folder / PAGE).write_text(page(read(folder)), encoding="utf-8")
    except OSError as error:
        raise HeadgateError(f"cannot write to {folder}: {error.strerror or error}") from error
    return folder / PAGE


def read(folder: Path) -> Results:
    """What `save` wrote.

    Raises:
        ConfigError: there is no comparison in ``folder``, or it is damaged.
    """
    texts: list[str] = []
    for name in (ABOUT, ENTRIES):
        try:
            texts.append((folder / name).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            hint = "`headgate lab run SCENARIO --out DIR` writes a comparison"
            raise ConfigError([f"{folder / name}: cannot be read: {reason}; {hint}"]) from error
    try:
        about = About.from_json(json.loads(texts[0]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError([f"{folder / ABOUT}: is not what `headgate lab run` wrote: {error!r}"]) from error
    return Results(read_lines(texts[1]), about)
