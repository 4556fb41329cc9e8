"""The table at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from rich.table import Table

from demo.figures import Figures, Spread


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if value < 10 else f"{value:.1f}"


def _spread(one: Spread) -> str:
    return " / ".join(_seconds(value) for value in (one.p50, one.p95, one.p99))


def _reasons(counts: Mapping[str, int]) -> str:
    parts = [f"{reason} {count}" for reason, count in sorted(counts.items(), key=lambda item: -item[1])]
    return f"{sum(counts.values())}" + (f"  ({', '.join(parts)})" if parts else "")


def _ratio(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


CAPTION = (
    "On time: within the user's patience, counted from when they first asked. No limits: the same workflow, each run "
    "started at once, the SDK's two retries times three immediate ones, the large model only, no deadline enforced."
)

ROWS: tuple[tuple[str, Callable[[Figures], str]], ...] = (
    ("offered", lambda f: f"{f.offered}" + (f"  (and {f.withheld} follow-ups never sent)" if f.withheld else "")),
    ("admitted", lambda f: f"{f.admitted}" + (f"  ({f.admitted_later} on a second ask)" if f.admitted_later else "")),
    ("rejected", lambda f: _reasons(f.refused)),
    ("finished on time", lambda f: f"[bold]{f.on_time}[/]  ({f.on_time_share:.0%} of offered)"),
    ("  done more cheaply", lambda f: f"{f.degraded}"),
    ("  with the smaller model", lambda f: f"{f.smaller_model}"),
    ("finished late", lambda f: f"{f.late}"),
    ("accepted, then failed or expired", lambda f: _reasons(f.failed)),
    ("accepted, still unfinished", lambda f: f"{f.unfinished}"),
    ("accepted and lost", lambda f: f"{f.lost}"),
    ("queueing of a run, p50 / p95 / p99, s", lambda f: _spread(f.queueing)),
    ("wait of a call for its slot, s", lambda f: _spread(f.slot_wait)),
    ("model call, s", lambda f: _spread(f.model)),
    ("tool call, s", lambda f: _spread(f.tool)),
    ("asked to answered, s", lambda f: _spread(f.whole)),
    ("oldest run in the queue, s", lambda f: _seconds(f.oldest_waiting_s)),
    ("oldest unfinished run, s", lambda f: _seconds(f.oldest_unfinished_s)),
    ("provider calls", lambda f: f"{f.provider_calls}"),
    ("provider calls per finished run", lambda f: _ratio(f.calls_per_finished)),
    ("provider calls per run on time", lambda f: _ratio(f.calls_per_on_time)),
)


def final_table(sides: Mapping[str, Figures]) -> Table:
    """One column for each side."""
    table = Table(
        title="The same traffic", title_justify="left", caption=CAPTION, caption_justify="left", pad_edge=False
    )
    table.add_column("")
    for name in sides:
        table.add_column(name, overflow="fold")
    for name, told in ROWS:
        table.add_row(name, *(told(one) for one in sides.values()))
    return table
