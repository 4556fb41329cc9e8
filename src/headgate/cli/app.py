"""Puts the commands together, and turns every error into one clean line and an exit code."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from headgate.cli import approvals, budget, controls, dead, fleet, keys, lab, processes, project, runs
from headgate.cli.entry import missing_extra
from headgate.cli.screen import clean, complain
from headgate.errors import ApiError, ConfigError, HeadgateError, InvalidRequest, Overloaded

app = typer.Typer(
    name="headgate",
    help="Admission, limits, queues, retries and deadlines for AI agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for panel, command in (
    ("Your project", project.init),
    ("Your project", project.check),
    ("Processes", processes.serve),
    ("Processes", processes.worker),
    ("Runs", runs.submit),
    ("Runs", runs.runs),
    ("Runs", runs.run),
    ("Runs", runs.cancel),
    ("Runs", runs.replay),
    ("Runs", budget.budget),
    ("Operations", fleet.capacity),
    ("Operations", controls.controls),
    ("Operations", controls.pause),
    ("Operations", controls.resume),
    ("Operations", controls.drain),
    ("Operations", controls.undrain),
    ("Operations", controls.override),
    ("Operations", controls.reset),
):
    app.command(rich_help_panel=panel)(command)
app.add_typer(dead.app, name="dead", rich_help_panel="Runs")
app.add_typer(approvals.app, name="approvals", rich_help_panel="Operations")
app.add_typer(keys.app, name="keys", rich_help_panel="Operations")
app.add_typer(lab.app, name="lab", rich_help_panel="Your project")


NO_SUCH_FILE = os.strerror(errno.ENOENT)


def _version_asked(asked: bool) -> None:
    if asked:
        show_version()
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version_asked, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Admission, limits, queues, retries and deadlines for AI agents."""


@app.command("version", rich_help_panel="Your project")
def show_version() -> None:
    """Print headgate's version and Python's."""
    try:
        own = version_of("headgate")
    except PackageNotFoundError:  # run from a source tree that is not installed
        own = "(not installed)"
    print(f"headgate {own} (Python {sys.version.split()[0]})")


def _command() -> Any:
    """The whole tree, without the ``<bool>`` that help pages would show behind every flag."""
    root = typer.main.get_command(app)
    waiting = [root]
    while waiting:
        command = waiting.pop()
        command.get_params = partial(_without_flag_types, command.get_params)  # type: ignore[method-assign]
        if isinstance(command, TyperGroup):
            waiting += command.commands.values()
    return root


def _without_flag_types(get_params: Callable[[Any], list[Any]], context: Any) -> list[Any]:
    params = get_params(context)
    for param in params:
        if getattr(param, "is_flag", False) and param.metavar is None:
            param.metavar = ""
    return params


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command (``sys.argv`` by default); its exit code."""
    try:
        _command()(args=None if arguments is None else list(arguments), prog_name="headgate")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("headgate", "__main__"):
            raise
        print(missing_extra(error.name or "a module"), file=sys.stderr)
    except HeadgateError as error:
        _explain(error)
    except KeyboardInterrupt:
        return 130
    return 1


_IN_A_FILE = re.compile(r":\d+:\d+: ")
_BEGIN_WITH_INIT = "`headgate init` writes a first configuration and a first agent."


def _explain(error: HeadgateError) -> None:
    if isinstance(error, ConfigError) and not any(_IN_A_FILE.search(problem) for problem in error.problems):
        for problem in error.problems:  # what was asked for is wrong, not what stands in a file
            complain(problem)
        if any(problem.endswith(NO_SUCH_FILE) for problem in error.problems):
            print(_BEGIN_WITH_INIT, file=sys.stderr)
    elif isinstance(error, ConfigError):
        for problem in error.problems:
            print(clean(problem), file=sys.stderr)
        count = len(error.problems)
        complain(f"{count} {'problem' if count == 1 else 'problems'} in the configuration")
    elif isinstance(error, Overloaded):
        complain(f"refused: {error}")
        if error.advice:
            print(clean(error.advice), file=sys.stderr)
    elif isinstance(error, InvalidRequest):
        for field, message in error.problems:
            complain(f"{field}: {message}")
    elif isinstance(error, ApiError):
        detail = error.problem.get("detail") or error.problem.get("title") or "no details"
        complain(f"{detail} (HTTP {error.status})")
        if error.status == 401:
            print(
                "Give a key with --api-key or in HEADGATE_API_KEY; `headgate keys create` makes one.", file=sys.stderr
            )
    else:
        complain(str(error))
