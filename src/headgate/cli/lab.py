"""``headgate lab``: what happens under load, before it happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headgate.cli.remote import Key
from headgate.cli.screen import complain, console, duration, table

if TYPE_CHECKING:
    from headgate.lab.report.results import Results
    from headgate.lab.scenario.description import Scenario
    from headgate.lab.search.hunt import Found

app = typer.Typer(help="Play scenarios: surges, outages, noisy tenants, against your configuration.")

Config = Annotated[
    Path | None, typer.Option("--config", help="Your headgate.yaml, in place of the scenario's configuration.")
]
Workflow = Annotated[
    str | None, typer.Option("--workflow", help="Whose settings in it the runs have; if there are several.")
]
Jobs = Annotated[int, typer.Option("--jobs", min=1, max=64, help="Plays side by side.")]
OUT = Path("lab-out")
WORKFLOW_OF_WHAT = "names a workflow of your configuration; give --config too"
OURS, CONTROL = "headgate", "none"


@app.command("list")
def list_scenarios() -> None:
    """The shipped scenarios."""
    from headgate.lab.measures import judged
    from headgate.lab.scenario.description import load_scenario, shipped

    rows = []
    for name in shipped():
        one = load_scenario(name)
        goals = ", ".join(judged(goal, ()).words for goal in one.goals)
        rows.append((name, one.title, duration(one.seconds), goals))
    table(("NAME", "TITLE", "LENGTH", "GOALS"), rows, empty="no scenarios")


@app.command("run")
def run_scenarios(
    scenarios: Annotated[
        list[str], typer.Argument(metavar="SCENARIO|FILE.yaml...", help="Names, files of your own, or `all`.")
    ],
    config: Config = None,
    workflow: Workflow = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the first play; a seed repeats exactly.")] = 1,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=1000, help="Plays, each with the next seed.")] = 1,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="Who plays, several times; headgate and none by default.")
    ] = None,
    jobs: Jobs = os.cpu_count() or 1,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=1, help="Play a short copy: quicker, with other results.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", help="Where results and report go.")] = OUT,
    against: Annotated[
        str | None, typer.Option("--against", metavar="URL", help="Drive a live service in real time instead.")
    ] = None,
    at_most: Annotated[
        float | None, typer.Option("--at-most", min=1, help="With --against: stop after so many seconds.")
    ] = None,
    anywhere: Annotated[
        bool, typer.Option("--anywhere", help="With --against: also a service on another machine.")
    ] = False,
    api_key: Key = None,
) -> None:
    """Play scenarios in virtual time, with headgate and with no limits. Exit code 1 if headgate misses a goal."""
    from headgate.lab.live import checked
    from headgate.lab.own_config import workflow_in
    from headgate.lab.report.driven import LIVE, driven
    from headgate.lab.report.folder import played, save
    from headgate.lab.scenario.shorten import shortened

    chosen = _scenarios(scenarios, config, workflow if config is not None or against is None else None)
    policies = list(dict.fromkeys(policy or (CONTROL, OURS)))
    notes = [f"Configuration: {config}."] if config else []
    if seconds is not None:
        notes += _short(chosen, seconds)
        chosen = [shortened(one, min(seconds, one.seconds)) for one in chosen]
    if against is not None:
        if len(chosen) != 1 or seeds != 1 or policy:
            raise typer.BadParameter("drives one scenario with one seed, and no policies", param_hint="--against")
        checked(against, anywhere=anywhere, say="--anywhere")
        with _reachable(against), _progress("driving") as on_second:
            results = driven(
                chosen[0],
                against,
                seed=seed,
                workflow=workflow or "agent",
                api_key=api_key,
                at_most_s=at_most,
                anywhere=anywhere,
                on_second=lambda past, of: on_second(round(past), round(of)),
                notes=notes,
            )
        policies = [LIVE]
    else:
        with _progress("playing") as on_done:
            seen = range(seed, seed + seeds)
            named = workflow_in(config, workflow)
            results = played(chosen, policies, seen, jobs=jobs, on_done=on_done, notes=notes, workflow=named)
    path = save(results, out)
    _show(results)
    for note in results.about.notes:
        print(note)
    print(f"report: {path}")
    _judge(results, OURS if OURS in policies else policies[0])


@app.command("report")
def make_report(
    folder: Annotated[Path, typer.Argument(metavar="[DIR]", help="Where `lab run` put its results.")] = OUT,
    pictures: Annotated[
        str | None, typer.Option("--pictures", metavar="png|svg", help="Draw pictures too (needs the extra lab).")
    ] = None,
) -> None:
    """Make the page, and pictures if wanted, from the results of `lab run`."""
    from headgate.lab.report.folder import read, save
    from headgate.lab.report.pictures import draw

    if pictures not in (None, "png", "svg"):
        raise typer.BadParameter(f"{pictures!r} is neither png nor svg", param_hint="--pictures")
    results = read(folder)
    print(f"report: {save(results, folder)}")
    if pictures is not None:
        for path in draw(results, folder, kind=pictures):
            print(f"picture: {path}")


@app.command("advise")
def advise_settings_for(
    scenarios: Annotated[list[str], typer.Argument(metavar="SCENARIO|FILE.yaml...", help="Your traffic.")],
    config: Config = None,
    workflow: Workflow = None,
    plays: Annotated[int, typer.Option("--plays", min=1, max=100_000, help="At most so many plays.")] = 60,
    seed: Annotated[int, typer.Option("--seed", help="The first of the seeds.")] = 1,
    jobs: Jobs = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option("--out", help="Where the diff goes.")] = OUT,
) -> None:
    """Search better settings for your traffic and write them as a diff, with the gain on seeds not searched with."""
    from headgate.lab.search.advising import advise_settings, subject_of, subject_of_file

    if config is not None:
        subject = subject_of(_scenarios(scenarios, None, None), config, workflow)
    elif workflow is not None:
        raise typer.BadParameter(WORKFLOW_OF_WHAT, param_hint="--workflow")
    elif len(scenarios) == 1 and scenarios[0].endswith((".yaml", ".yml")):
        subject = subject_of_file(Path(scenarios[0]))
    else:
        raise typer.BadParameter(
            "give the headgate.yaml to improve, or one scenario file of yours", param_hint="--config"
        )
    with _progress("searching") as on_done:
        suggestion = advise_settings(subject, plays=plays, seed=seed, jobs=jobs, on_done=on_done)
    found = suggestion.found
    for one in suggestion.advice:
        print(f"advice: {one.words}")
    why = "too few plays are left for another step" if found.steps_left else "no step is left that was not tried"
    print(f"\n{found.tried} changes tried in {found.plays} of {plays} plays; stopped because {why}.")
    if not found.changes:
        _show_nothing_better(found)
        return
    table(
        ("SETTING", "NOW", "SUGGESTED"),
        [(one.setting, one.old, one.value) for one in suggestion.moves],
        empty="",
    )
    print(
        f"\nGain: {100 * found.gain:.1f} points (standard error {100 * found.error:.1f}) over {len(found.gains)} "
        f"seeds that were not searched with; {100 * found.looked_better:.1f} on those that were.\n\n{suggestion.diff}"
    )
    path = _written(out / "advise.diff", suggestion.diff)
    print(f"diff: {path} (apply it beside the file: patch -p1 < {path})")


def _show_nothing_better(found: Found) -> None:
    from headgate.lab.search.hunt import LEAST_GAIN

    if found.gains:
        print(
            f"Nothing better found: what gained {100 * found.looked_better:.1f} points while searching gained "
            f"{100 * found.gain:.1f} (standard error {100 * found.error:.1f}) on other seeds; that would have to be "
            f"at least {100 * LEAST_GAIN:.1f} and more than its error."
        )
    else:
        print(f"Nothing better found: no change gained {100 * LEAST_GAIN:.1f} points over the search seeds.")
    tried: dict[str, list[str]] = {}
    for move in found.steps:
        tried.setdefault(move.setting, []).append(f"{move.old} to {move.value}")
    print()
    table(("SETTING", "TRIED"), [(setting, ", ".join(steps)) for setting, steps in tried.items()], empty="")


def _written(path: Path, text: str) -> Path:
    from headgate.errors import HeadgateError

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise HeadgateError(f"cannot write {path}: {error.strerror or error}") from error
    return path


def _scenarios(names: list[str], config: Path | None, workflow: str | None) -> list[Scenario]:
    from headgate.lab.own_config import with_config
    from headgate.lab.scenario.description import load_scenario, shipped

    if workflow is not None and config is None:
        raise typer.BadParameter(WORKFLOW_OF_WHAT, param_hint="--workflow")
    wanted = list(shipped()) if names == ["all"] else list(dict.fromkeys(names))
    found = [load_scenario(name) for name in wanted]
    if len({one.name for one in found}) < len(found):
        raise typer.BadParameter("two of the scenarios have the same name", param_hint="SCENARIO")
    return found if config is None else [with_config(one, config, workflow=workflow) for one in found]


def _judge(results: Results, policy: str) -> None:
    missed = results.missed(policy)
    if missed:
        complain(f"{policy} missed {len(missed)} {'goal' if len(missed) == 1 else 'goals'}")
        raise typer.Exit(1)


def _short(chosen: list[Scenario], seconds: float) -> list[str]:
    longer = sum(one.seconds > seconds for one in chosen)
    what = "A short copy" if longer == 1 else "Short copies"
    return [f"{what} of {seconds:g} s: results are not those of the whole."] if longer else []


@contextmanager
def _reachable(url: str) -> Iterator[None]:
    """A service that cannot be reached ends the command with one line."""
    import httpx2

    try:
        yield
    except httpx2.TransportError as error:
        complain(f"cannot reach {url}: {str(error) or type(error).__name__}; is `headgate serve` running there?")
        raise typer.Exit(1) from error


@contextmanager
def _progress(words: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error while it is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    screen = Console(file=sys.stderr)
    with Progress(*columns, console=screen, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(words, total=None)
        yield lambda done, of: bar.update(task, completed=done, total=of)


def _show(results: Results) -> None:
    from headgate.lab.measures import measure_of, shown

    for sheet in results.scenarios:
        policies = results.policies(sheet.name)
        print(f"\n{sheet.name}: {sheet.title}")
        judged = {policy: results.verdicts(sheet.name, policy) for policy in policies}
        rows = [
            (
                goal.words,
                *(f"{'met' if judged[p][place].met else 'MISSED'} {judged[p][place].shown}" for p in policies),
            )
            for place, goal in enumerate(judged[policies[0]])
        ]
        table(("GOAL", *policies), rows, empty="it has no goals")
        print()
        names = results.measure_names(sheet.name)
        cells = [
            (
                measure_of(name).title,
                *(shown(measure_of(name), results.measure(sheet.name, p, name)) for p in policies),
            )
            for name in names
        ]
        table(("MEASURE", *policies), cells, empty="")
        for one in sheet.advice:
            console().print(f"\nadvice: {one.words}", markup=False, soft_wrap=True, end="")
        print()
