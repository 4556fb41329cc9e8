"""Where ``headgate`` begins. Works in a base install too, to say what is missing."""

from __future__ import annotations

import sys

NEEDS = frozenset({"typer", "rich"})


def main() -> None:
    """Run the command line and exit with its code: 0 done, 1 refused or failed, 2 wrong usage."""
    try:
        from headgate.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in NEEDS:
            raise
        print(missing_extra(error.name or "typer"), file=sys.stderr)
        sys.exit(1)
    sys.exit(run())


def missing_extra(module: str) -> str:
    """What to do when ``module`` is not installed."""
    return (
        f"headgate: the command line needs {module.partition('.')[0]!r}, which is not installed.\n"
        'Install it with: pip install "headgate[server]"'
    )
