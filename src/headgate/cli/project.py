"""``headgate init`` and ``headgate check``: a project's files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from headgate.cli.screen import complain, fields
from headgate.config.load import load_settings
from headgate.config.settings import GateSettings, ResourceSettings, WhenFull

STARTER = ("headgate.yaml", "agent.py", "app.py")
"""What ``init`` writes."""


def init(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where; made if it is not there.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write a working headgate.yaml and an agent that needs no API key and no network."""
    there = [name for name in STARTER if (folder / name).exists()]
    if there and not force:
        complain(f"{', '.join(there)} already in {folder.resolve()}; nothing was written (--force replaces)")
        raise typer.Exit(1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in STARTER:
            (folder / name).write_text(_starter(name), encoding="utf-8")
    except OSError as error:
        complain(f"cannot write to {folder}: {error.strerror or error}")
        raise typer.Exit(1) from error
    print(f"wrote {', '.join(STARTER)}. Next:\n")
    if folder.resolve() != Path.cwd():
        print(f"  cd {folder}")
    print("  headgate check")
    print("  headgate serve app:gate")
    print("""  headgate submit triage '{"title": "The printer is on fire"}' --wait      (in another terminal)""")


def check(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="The configuration.")] = Path("headgate.yaml"),
) -> None:
    """Check a configuration: every mistake at once, or a summary. Exit code 1 if there are mistakes."""
    settings = load_settings(file)
    print(f"{file}: no mistakes")
    fields(
        [
            ("store", _without_password(settings.store)),
            ("lanes", _lanes(settings)),
            ("tools", _resources(settings.tools)),
            ("models", _resources(settings.models)),
            ("stages", _resources(settings.stages)),
            ("workflows", ", ".join(f"{name} ({one.lane})" for name, one in settings.workflows.items())),
            ("approvals", ", ".join(settings.approvals)),
            ("limits", len(settings.limits) or None),
        ]
    )
    for note in notes(settings):
        print(f"note: {note}")


def notes(settings: GateSettings) -> list[str]:
    """What is allowed but worth a second look."""
    missing = {rule.workflow for rule in settings.limits if rule.workflow} - set(settings.workflows)
    found = [
        f"a limit is for the workflow {name!r}, which has no settings here (defaults apply to it)"
        for name in sorted(missing)
    ]
    everything: dict[str, ResourceSettings] = {**settings.tools, **settings.models, **settings.stages}
    for name, one in everything.items():
        if one.queue.max_age > 10 * one.timeout:
            found.append(f"calls may wait {one.queue.max_age:g} s for {name!r}, far longer than its timeout")
        if one.mode == "shadow":
            found.append(f"{name!r} is in shadow mode: its limits are counted, not enforced")
        found += _without_effect(name, one)
    found += [
        f"workflow {name!r} says when_full: degrade, but has no degrade ladder to follow"
        for name, workflow in settings.workflows.items()
        if workflow.when_full is WhenFull.DEGRADE and not workflow.degrade
    ]
    return found


def _without_effect(name: str, one: ResourceSettings) -> Iterator[str]:
    """Settings of a resource that cannot do anything."""
    queue, retry, rule = one.queue, one.retry, one.pause_when
    if one.plain is not None and one.concurrency.fixed:
        yield f"{name!r} has a plain rule, but its concurrency is fixed: nothing moves it; write a range such as 1..8"
    if retry.base > retry.max_delay:
        yield f"{name!r} never waits for retry.base ({retry.base:g} s): retry.max_delay is {retry.max_delay:g} s"
    if queue.max_age_down is not None and queue.max_age_down > queue.max_age:
        yield f"{name!r}: queue.max_age ({queue.max_age:g} s) ends every wait before max_age_down does"
    if rule is not None and rule.breaker is not None and one.breaker is None:
        yield f"{name!r} has pause_when breaker: open, but no breaker"


def _starter(name: str) -> str:
    return (files("headgate.cli") / "starter" / f"{name}.txt").read_text(encoding="utf-8")


def _lanes(settings: GateSettings) -> str:
    return ", ".join(
        name if lane.share is None else f"{name} {lane.share:.0%}" for name, lane in settings.lanes.items()
    )


def _resources(section: Mapping[str, ResourceSettings]) -> str:
    words = []
    for name, one in section.items():
        least, most = one.concurrency
        words.append(f"{name} ({least if least == most else f'{least}..{most}'} at once)")
    return ", ".join(words)


def _without_password(url: str) -> str:
    """The store's address, fit for a terminal that others see."""
    scheme, separator, rest = url.partition("://")
    user, at, host = rest.rpartition("@")
    return f"{scheme}{separator}{user.partition(':')[0]}{at}{host}" if at else url
