"""How things look in a terminal: clean text, tables, moments and durations for people.

What runs carry was written by others; it is shown without control characters and never read as markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

_WIDE = 200
_STYLES = {
    "succeeded": "green",
    "running": "cyan",
    "queued": "yellow",
    "suspended": "magenta",
    "failed": "red",
    "expired": "red",
    "cancelled": "dim",
    "open": "red",
    "probing": "yellow",
}


def clean(value: Any) -> str:
    """Text without control characters, so that nobody's data can move the cursor; ``-`` for nothing.

    Lines stay lines.
    """
    text = "-" if value is None or value == "" else str(value)
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)


def first_line(value: Any, most: int = 100) -> str | None:
    """The first line, shortened to ``most`` characters, for tables."""
    if value is None:
        return None
    line = str(value).strip().partition("\n")[0]
    return line if len(line) <= most else f"{line[: most - 1]}…"


def complain(message: str) -> None:
    """Say on standard error what is wrong."""
    print(f"headgate: {clean(message)}", file=sys.stderr)


def console() -> Console:
    """Standard output; wide when it is a pipe, so that nothing is cut there."""
    return Console(file=sys.stdout, highlight=False, width=None if sys.stdout.isatty() else _WIDE)


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows under headers, or ``empty`` when there are none."""
    shown = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for index, header in enumerate(headers):
        shown.add_column(header, no_wrap=index == 0, overflow="fold")
    for row in rows:
        shown.add_row(*(cell(value) for value in row))
    if shown.row_count:
        console().print(shown)
    else:
        print(empty)


def cell(value: Any) -> Text:
    """A value as a table shows it; words for states have colours."""
    text = clean(value)
    return Text(text, style=_STYLES.get(text, ""))


def fields(pairs: Iterable[tuple[str, Any]]) -> None:
    """Print ``name  value`` lines; pairs without a value are left out."""
    shown = Table(box=None, pad_edge=False, show_header=False, show_edge=False)
    shown.add_column(style="bold", no_wrap=True)
    shown.add_column(overflow="fold")
    for name, value in pairs:
        if value is not None and value != "":
            shown.add_row(name, cell(value))
    console().print(shown)


def as_json(value: Any) -> None:
    """Print a value as JSON, for programs."""
    print(json.dumps(value, indent=2, ensure_ascii=not sys.stdout.isatty()))


def count(number: int, noun: str) -> str:
    """``1 run``, ``2 runs``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def compact(value: Any) -> str:
    """A JSON value on one line."""
    return json.dumps(value, ensure_ascii=False)


def moment(text: Any) -> str | None:
    """``2026-01-31T12:00:00.123Z`` as ``2026-01-31 12:00:00``."""
    return None if not isinstance(text, str) else text[:19].replace("T", " ")


def duration(seconds: float | None) -> str | None:
    """Seconds in the units that suit them: ``340 ms``, ``12.5 s``, ``3 m 20 s``, ``2 h``, ``3 d 4 h``."""
    if seconds is None:
        return None
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    for size, unit, rest, below in ((86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s")):
        if whole >= size:
            left = whole % size // rest
            return f"{whole // size} {unit} {left} {below}" if left else f"{whole // size} {unit}"
    return f"{whole} s"


def milliseconds(value: float | None) -> str | None:
    """Milliseconds as `duration` shows them."""
    return None if value is None else duration(value / 1000)
