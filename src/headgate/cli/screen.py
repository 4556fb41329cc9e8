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
    """Text without control characters, so that nobody's data can move the cursor; ``-`` for nothing."""
    text = "-" if value is None or value == "" else str(value)
    return "".join(character if character.isprintable() else "�" for character in text)


def complain(message: str) -> None:
    """One line on standard error."""
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


def compact(value: Any) -> str:
    """A JSON value on one line."""
    return json.dumps(value, ensure_ascii=False)


def moment(text: Any) -> str | None:
    """``2026-01-31T12:00:00.123Z`` as ``2026-01-31 12:00:00``."""
    return None if not isinstance(text, str) else text[:19].replace("T", " ")


def duration(seconds: float | None) -> str | None:
    """Seconds in the unit that suits them: ``340 ms``, ``12.5 s``, ``3 m 20 s``, ``2 h 5 m``, ``3 d 4 h``."""
    if seconds is None:
        return None
    if seconds < 0.9995:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} m {whole % 60} s"
    if whole < 86400:
        return f"{whole // 3600} h {whole % 3600 // 60} m"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def milliseconds(value: float | None) -> str | None:
    """Milliseconds as `duration` shows them."""
    return None if value is None else duration(value / 1000)
